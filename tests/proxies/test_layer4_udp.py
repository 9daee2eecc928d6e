"""The proxy of layer 4 passes datagrams on as they are, and keeps the clients apart."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bench.childprocess import ChildProcess
from servers.proxies import layer4_udp
from servers.proxies.layer4_udp import DatagramLayer4
from servers.proxies.spec import Counts, ProxySpec
from servers.proxies.upstreams import Upstreams
from tests.proxies.conftest import TIMEOUT_S, Proxy
from tests.servers.http3_harness import asking, serving

Start = Callable[..., Proxy]


class Echo:
    """A UDP server that sends everything back, with who asked."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, address = self.socket.recvfrom(65_535)
            if data == b"end":
                return
            self.socket.sendto(data if len(data) > 100 else b"%s from %d" % (data, address[1]), address)

    def close(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end", ("127.0.0.1", self.port))
            self._thread.join(TIMEOUT_S)
            self.socket.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def client_of(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT_S)
    sock.connect(("127.0.0.1", port))
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(65_535)


def test_datagrams_go_both_ways_whole_and_clients_are_kept_apart(start_proxy: Start, echo: Echo) -> None:
    proxy = start_proxy(4, echo.port, transport="udp")
    with client_of(proxy.port) as one, client_of(proxy.port) as two:
        first, second = ask(one, b"a"), ask(two, b"b")
        assert (first[:7], second[:7]) == (b"a from ", b"b from ")
        assert first[7:] != second[7:]
        assert ask(one, b"c") == b"c" + first[1:]
        big = bytes(range(256)) * 250
        assert ask(two, big) == big
    counts = proxy.stats()["counts"]
    assert (counts["accepted"], counts["upstream_connections"], counts["bytes_up"]) == (2, 2, 3 + len(big))


@contextlib.asynccontextmanager
async def passing_on(*ports: int) -> AsyncIterator[DatagramLayer4]:
    """A proxy on the running loop."""
    spec = ProxySpec(layer=4, transport="udp", upstreams=tuple(("127.0.0.1", port) for port in ports))
    proxy = await DatagramLayer4(spec, Upstreams(spec), Counts()).listen()
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.abort()
        proxy.close()


def test_quic_passes_unread() -> None:
    async def run() -> None:
        async with serving() as (server, _, _), passing_on(server) as proxy, asking(proxy.port) as client:
            assert (await client.ask("POST", "/echo", b"x" * 100_000)).body == b"x" * 100_000
            assert proxy.counts.accepted == 1

    asyncio.run(run())


def test_a_new_client_takes_the_place_of_the_one_that_was_silent_for_longest(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer4_udp, "_MAX_FLOWS", 2)

    async def run() -> None:
        async with passing_on(echo.port) as proxy:
            with client_of(proxy.port) as one, client_of(proxy.port) as two, client_of(proxy.port) as three:
                first, second = await asyncio.to_thread(ask, one, b"a"), await asyncio.to_thread(ask, two, b"a")
                assert await asyncio.to_thread(ask, one, b"a") == first
                await asyncio.to_thread(ask, three, b"a")
                assert [*proxy.flows] == [one.getsockname(), three.getsockname()]
                assert await asyncio.to_thread(ask, two, b"a") != second
                assert len(proxy.flows) == 2

    asyncio.run(run())


def test_a_client_that_is_silent_is_forgotten(start_proxy: Start, echo: Echo) -> None:
    proxy = start_proxy(4, echo.port, transport="udp", idle_timeout_s=0.2)
    with client_of(proxy.port) as client:
        first = ask(client, b"a")
        until = time.monotonic() + TIMEOUT_S
        while not proxy.count("idle_closed"):
            assert time.monotonic() < until
        assert proxy.stats()["upstreams"][0]["open"] == 0
        assert ask(client, b"a") != first


def test_an_upstream_that_is_not_there_is_left_for_another(start_proxy: Start, echo: Echo) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    proxy = start_proxy(4, port, echo.port, transport="udp")
    with client_of(proxy.port) as client:
        client.send(b"lost")
        until = time.monotonic() + TIMEOUT_S
        while not proxy.count("upstream_errors"):  # the system says that nobody listens
            assert time.monotonic() < until
        assert ask(client, b"a").startswith(b"a from ")


def test_answers_are_lost_on_purpose(start_proxy: Start, echo: Echo) -> None:
    proxy = start_proxy(4, echo.port, transport="udp", lose_share=1.0)
    with client_of(proxy.port) as client:
        client.send(b"a")
        until = time.monotonic() + TIMEOUT_S
        while not proxy.count("lost"):
            assert time.monotonic() < until
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"transport": "sctp"}, "tcp or udp"),
        ({"health_interval_s": 1.0}, "leave them out"),
        ({"upstreams": [("no.such.host.invalid", 1)]}, "no.such.host.invalid has no address"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, object], word: str) -> None:
    child = ChildProcess("servers.proxies")
    child.send({"layer": 4, "transport": "udp", "upstreams": [("127.0.0.1", 1)], **spec})
    event = child.next_event(TIMEOUT_S)
    child.kill()
    assert event is not None
    assert event["event"] == "error"
    assert word in event["message"]
