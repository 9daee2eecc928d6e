"""Loads whose every exchange has a QUIC connection of its own: in full, resumed, with early data; the round trips that
each takes, and what is no answer because the connection was opened otherwise."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.contract import Handshake, Opcode
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess
from tests.lab.conftest import links  # noqa: F401  a fixture
from tests.load.test_tls_load import S, refused, run, security, spec

BYTES = Request(Opcode.BYTES, 64)
ROUND_TRIPS: dict[Handshake, int] = {"full": 2, "resumed": 2, "early-data": 1}
RTT_MS = 200
"""Long against what a busy machine adds, since round trips are counted here, and no speed is measured."""

Serve = Callable[..., ServerProcess]


def asked(port: int, handshake: Handshake, load: str = "closed:4", host: str = "127.0.0.1", **changes: Any) -> LoadSpec:
    secured = security(server_name=host, handshake=handshake)
    return spec(port, secured, "http3", load, host=host, pattern="connect", request=BYTES, **changes)


@pytest.mark.parametrize("execution", ["single", "reuseport-threads"])
@pytest.mark.parametrize("load", ["closed:4", "open:100/s"])
@pytest.mark.parametrize("handshake", ["resumed", "early-data"])
def test_every_handshake_is(serve: Serve, handshake: Handshake, load: str, execution: str) -> None:
    server = serve("http3", execution, workers=2 if execution != "single" else 1, tls="1.3", early_data=True)
    result = run(asked(server.port, handshake, load))
    assert result["errors"] == {}
    assert result["completed"] > 3
    assert server.stderr == ""


def test_an_unsafe_request_is_refused_by_the_server(serve: Serve) -> None:
    server = serve("http3", tls="1.3", early_data=True, grace_s=0.5)  # who is refused takes no leave
    reason = refused(
        spec(
            server.port, security(handshake="early-data"), "http3", pattern="connect", request=Request(Opcode.ECHO, 64)
        )
    )
    assert "status that says the request failed" in reason


def test_a_server_that_takes_none_is_refused(serve: Serve) -> None:
    """It resumes all the same."""
    server = serve("http3", tls="1.3", grace_s=0.5)
    assert refused(asked(server.port, "early-data")).endswith("would not take early data (0-RTT): does it offer it?")
    assert run(asked(server.port, "resumed"))["errors"] == {}


def test_a_server_without_tickets_is_refused(serve: Serve) -> None:
    server = serve("http3", tls="1.3", stack="hypercorn")
    reason = refused(asked(server.port, "early-data"))
    assert reason.endswith("would not resume a handshake: does it give tickets?")


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("handshake", ROUND_TRIPS)
def test_round_trips_to_the_first_byte(handshake: Handshake) -> None:
    with (
        Lab(two_ends(parse_link(f"rtt={RTT_MS}ms", "test"))) as lab,
        ServerProcess("http3", within=lab.within("server"), tls="1.3", early_data=True, host=SERVER_ADDRESS) as server,
        LoadProcesses(1, lambda progress: None, lab.within("client")) as load,
    ):
        load.connect([asked(server.port, handshake, "closed:1", SERVER_ADDRESS, duration_ns=S)])
        load.release()
        result = merge(load.results())
    assert result["errors"] == {}
    measured = result["latency"].get_value_at_percentile(50) / (RTT_MS * 1e6)
    assert measured == pytest.approx(ROUND_TRIPS[handshake], abs=0.2)
