"""What becomes of a download whose client gets another address, or another port of its NAT's: over QUIC it goes on (RFC
9000, section 9), over TCP it does not. Nothing is measured here but that."""

import time
from typing import Any

import pytest

from bench.contract import Opcode
from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import Link, parse_link
from bench.lab.topology import through_router, two_ends
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess
from tests.load.test_tls_load import S, security, spec

pytestmark = pytest.mark.usefixtures("links")

SIZE = 4_000_000
LINK = parse_link("rtt=20ms,rate=20mbit,queue=100ms", "test")
DEADLINE_S = 30.0


def received_bytes(lab: Lab) -> int:
    """What has come through the last link to the client's side."""
    return int(lab.account()["spans"][-1]["down"]["delivered_bytes"])


def download(lab: Lab, protocol: str, timeout_s: float, move: Any, workers: int = 1) -> dict[str, Any]:
    """One download, in the middle of which the client moves."""
    host = lab.topology.address("server")
    with (
        ServerProcess(protocol, within=lab.within("server"), tls="1.3", host=host) as server,
        LoadProcesses(1, lambda progress: None, lab.within("client")) as load,
    ):
        load.connect([asked(server, protocol, host, timeout_s)])
        load.release()
        before, until = received_bytes(lab), time.monotonic() + DEADLINE_S
        while received_bytes(lab) - before < SIZE // 2:
            assert time.monotonic() < until, "nothing comes"
        move()
        result = merge(load.results())
    assert server.stderr == ""
    return result


def asked(server: ServerProcess, protocol: str, host: str, timeout_s: float) -> LoadSpec:
    return spec(
        server.port,
        security(server_name="wirebench.test"),
        protocol,
        "open:1/s",
        host=host,
        connections="1",
        request=Request(Opcode.BYTES, SIZE),
        warmup_ns=0,
        duration_ns=S,
        timeout_ns=int(timeout_s * S),
    )


@pytest.mark.parametrize(
    ("protocol", "timeout_s", "survives"),
    [("http3", 20, True), pytest.param("http2", 6, False, marks=pytest.mark.long)],
)
def test_another_address(protocol: str, timeout_s: float, survives: bool) -> None:
    with Lab(two_ends(LINK)) as lab:
        result = download(lab, protocol, timeout_s, lambda: lab.readdress("client", "10.77.0.9/24"))
    assert (result["completed"], sum(result["errors"].values())) == ((1, 0) if survives else (0, 1))


@pytest.mark.parametrize(
    ("protocol", "timeout_s", "survives"),
    [("http3", 20, True), pytest.param("http2", 6, False, marks=pytest.mark.long)],
)
def test_another_port_of_the_nat(protocol: str, timeout_s: float, survives: bool) -> None:
    try:
        lab = Lab(through_router(Link(), LINK, "port-restricted"))
        with lab:
            result = download(lab, protocol, timeout_s, lambda: lab.rebind("router"))
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert (result["completed"], sum(result["errors"].values())) == ((1, 0) if survives else (0, 1))


def test_another_address_again_and_again() -> None:
    """There are connection IDs for more than one move."""
    with Lab(two_ends(LINK)) as lab:

        def move() -> None:
            for host in (9, 10, 11):
                lab.readdress("client", f"10.77.0.{host}/24")
                before, until = received_bytes(lab), time.monotonic() + DEADLINE_S
                while received_bytes(lab) - before < SIZE // 10:
                    assert time.monotonic() < until, "it does not go on"

        result = download(lab, "http3", 20, move)
    assert (result["completed"], result["errors"]) == (1, {})
