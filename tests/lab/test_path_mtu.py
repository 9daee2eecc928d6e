"""Paths that carry no long packets: QUIC sends datagrams of 1200 bytes, packets of 1228, which every path must carry
that it is used on (RFC 9000, section 14), and no system may cut them up."""

from typing import Any

import pytest

from bench.contract import Opcode
from bench.errors import TargetError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from bench.load.spec import Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess
from tests.load.test_tls_load import S, security, spec

pytestmark = pytest.mark.usefixtures("links")


def exchanges(link: str, protocol: str, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What comes of a load over that link, and what the link did with its packets."""
    with Lab(two_ends(parse_link(link, "test"))) as lab:
        with (
            ServerProcess(protocol, within=lab.within("server"), tls="1.3", host=SERVER_ADDRESS) as server,
            LoadProcesses(1, lambda progress: None, lab.within("client")) as load,
        ):
            secured = security(server_name=SERVER_ADDRESS)
            body = Request(Opcode.ECHO, size)
            load.connect(
                [spec(server.port, secured, protocol, "closed:1", host=SERVER_ADDRESS, request=body, duration_ns=S)]
            )
            load.release()
            result = merge(load.results())
        return result, lab.account()["spans"][0]


@pytest.mark.parametrize("link", ["mtu=1280", "pmtu=1300", "pmtu=1280", "pmtu=1228"])
def test_downloads_and_uploads_over_narrow_paths(link: str) -> None:
    result, packets = exchanges(f"rtt=10ms,{link}", "http3", 300_000)
    assert result["errors"] == {}
    assert result["completed"] > 0
    assert packets["up"]["oversized"] == packets["down"]["oversized"] == 0


@pytest.mark.parametrize(("link", "why"), [("pmtu=1200", "no answer within 5 s"), ("mtu=1200", "Message too long")])
def test_paths_that_are_too_narrow(link: str, why: str) -> None:
    with pytest.raises(TargetError, match=why):
        exchanges(f"rtt=10ms,{link}", "http3", 64)


def test_tcp_fits_itself_to_the_device() -> None:
    result, _ = exchanges("rtt=10ms,mtu=1200", "http2", 300_000)
    assert result["errors"] == {}
    assert result["completed"] > 0
