"""HTTP/3 and HTTP/2 in a race: who wins on which network, how long it takes, and what is kept in mind."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.certificates import certificates
from bench.contract import Exchange, Opcode, Security, exchange
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from bench.load.spec import Request
from bench.serverprocess import ServerProcess
from clients import racing
from clients.racing import HEAD_START_S, RacingClient
from tests.clients.test_http3_client import Driver
from tests.lab.conftest import links  # noqa: F401  a fixture
from tests.load.test_tls_load import run, security, spec
from tests.servers.http3_harness import DEADLINE_S

Serve = Callable[..., ServerProcess]
RTT_S = 0.05

SCRIPT = """
import asyncio, json, sys, time
from bench.contract import Opcode, Security, exchange
from clients.racing import RacingClient

class Link:
    def answered(self, ids): self.over.set_result(time.monotonic())
    def lost(self, error): self.over.set_exception(error or ConnectionResetError())

async def main(host, port, authority, times):
    for _ in range(times):
        link, began = Link(), time.monotonic()
        link.over = asyncio.get_running_loop().create_future()
        client = RacingClient(exchange(Opcode.BYTES, 64), f"{host}:{port}", True)
        await client.connect(host, port, Security("1.3", authority, "wirebench.test", insecure=False), link)
        client.request(1)
        print(json.dumps([client.carries, await link.over - began]))
        client.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
"""


@pytest.fixture(autouse=True)
def _nothing_in_mind() -> Iterator[None]:
    racing._broken.clear()
    yield
    racing._broken.clear()


def trusting() -> Security:
    return security(server_name="localhost")


async def ask(server: ServerProcess, total: int = 3, asked: Exchange | None = None) -> tuple[str, float]:
    """Connect and ask that often; who carried it, and how long it took to connect."""
    client = RacingClient(asked or exchange(Opcode.ECHO, 1000), server.address, True)
    driver = Driver(client, total, 2)
    async with asyncio.timeout(DEADLINE_S):
        began = time.monotonic()
        await client.connect(server.host, server.port, trusting(), driver)
        took_s = time.monotonic() - began
        driver.start()
        await driver.over.wait()
        client.close()
        while client._over_tcp._transport is not None:
            await asyncio.sleep(0.001)
    assert (len(driver.done), driver.failed, driver.error) == (total, [], None)
    return client.carries, took_s


def test_quic_wins_where_it_gets_through(serve: Serve) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    for _ in range(2):
        assert asyncio.run(ask(server))[0] == "http3"
    assert server.stats()[0][0].accepts == 2  # TCP did not even begin


def test_tcp_wins_at_once_where_nobody_speaks_quic(serve: Serve) -> None:
    """The system says so (ICMP)."""
    server = serve("http2", tls="1.3")
    winner, took_s = asyncio.run(ask(server))
    assert winner == "http2"
    assert took_s < HEAD_START_S
    assert list(racing._broken) == [(server.host, server.port)]
    assert asyncio.run(ask(server))[0] == "http2"


def test_what_was_broken_is_tried_again_later(serve: Serve) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    racing._broken[server.host, server.port] = time.monotonic() + 100
    assert asyncio.run(ask(server))[0] == "http2"
    racing._broken[server.host, server.port] = time.monotonic() - 1
    assert asyncio.run(ask(server))[0] == "http3"


@pytest.mark.parametrize("winner", ["http3", "http2"])
@pytest.mark.parametrize(
    "asked",
    [exchange(Opcode.HEALTH), exchange(Opcode.BYTES, 500_000), exchange(Opcode.UPLOAD, 500_000)],
    ids=lambda asked: asked.path,
)
def test_exchanges(serve: Serve, winner: str, asked: Exchange) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    if winner == "http2":
        racing._broken[server.host, server.port] = time.monotonic() + 100
    assert asyncio.run(ask(server, 20, asked))[0] == winner


def test_nobody_there(serve: Serve) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(ask(server))
    assert not racing._broken


@pytest.mark.parametrize("pattern", ["request-response", "connect"])
def test_loads(serve: Serve, pattern: str) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    options: dict[str, Any] = {"client": "clients.racing:RacingClient", "pattern": pattern}
    load = "closed:2" if pattern == "connect" else "closed:2x4"
    result = run(spec(server.port, security(), "http3", load, request=Request(Opcode.ECHO, 64), **options))
    assert result["errors"] == {}
    assert result["completed"] > 5


@pytest.mark.parametrize("execution", ["accept-threads", "prefork", "reuseport", "reuseport-threads"])
def test_execution_models(serve: Serve, execution: str) -> None:
    server = serve("http3", execution, workers=2, stack="alt-svc", tls="1.3")
    for protocol in ("http3", "http2"):
        result = run(spec(server.port, security(), protocol, "closed:4", request=Request(Opcode.ECHO, 64)))
        assert result["errors"] == {}
        assert result["completed"] > 5
    server.stop()
    assert server.stderr == ""


def test_curl_learns_of_the_alternative(serve: Serve, need: Callable[[str], str], tmp_path: Path) -> None:
    server = serve("http3", stack="alt-svc", tls="1.3")
    cache = tmp_path / "alternatives"
    command = [need("curl"), "--silent", "--show-error", "--cacert", str(certificates().authority)]
    command += ["--alt-svc", str(cache), "--write-out", " %{http_version}", f"https://localhost:{server.port}/health"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    assert answer.stdout == "ok 2"
    words = next(line for line in cache.read_text().splitlines() if not line.startswith("#")).split()
    assert words[:6] == ["h2", "localhost", str(server.port), "h3", "localhost", str(server.port)]


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize(
    ("link", "first", "later"),
    [
        ("", ("http3", 2, 0.0), ("http3", 2)),
        ("block=udp", ("http2", 3, HEAD_START_S), ("http2", 3)),
        ("pmtu=1200", ("http2", 3, HEAD_START_S), ("http2", 3)),
        ("mtu=1200", ("http2", 3, 0.0), ("http2", 3)),
    ],
)
def test_who_wins_over_a_link(link: str, first: tuple[str, int, float], later: tuple[str, int]) -> None:
    """The winner, the round trips until the answer, and the wait before: the first time, and those after it."""
    words = f"rtt={RTT_S * 1000:.0f}ms" + (f",{link}" if link else "")
    with (
        Lab(two_ends(parse_link(words, "test"))) as lab,
        ServerProcess("http3", stack="alt-svc", within=lab.within("server"), tls="1.3", host=SERVER_ADDRESS) as server,
    ):
        command = [*lab.within("client"), sys.executable, "-c", SCRIPT, SERVER_ADDRESS, str(server.port)]
        command += [str(certificates().authority), "4"]
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=4 * DEADLINE_S).stdout
    results = [json.loads(line) for line in told.splitlines()]
    assert [winner for winner, _ in results] == [first[0], *[later[0]] * 3]
    # No machine is sooner than the path allows, and a busy one is later, but by less than the head start.
    assert -0.005 < results[0][1] - (first[1] * RTT_S + first[2]) < HEAD_START_S
    assert -0.005 < min(seconds for _, seconds in results[1:]) - later[1] * RTT_S < HEAD_START_S
