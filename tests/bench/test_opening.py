"""Ways of opening connections: which make sense, and how they are spelled."""

from dataclasses import replace

import pytest

from bench import opening
from bench.contract import Security
from bench.load import fast_open
from bench.opening import why_unsupported
from bench.placement import Placement
from bench.plan import single_suite
from bench.scenario import Scenario, parse_scenario
from bench.trial import load_specs

PLACEMENT = Placement(server=(), load=())


def scenario(**words: str) -> Scenario:
    values = {
        "protocol": "http1",
        "load": "closed:4",
        "pattern": "connect",
        "operation": "bytes",
        "tls": "1.3",
        **words,
    }
    return parse_scenario(dict(values), "test", "g")


LINK = "rtt=1ms"


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"tls": "off"},
        {"protocol": "http2", "handshake": "resumed"},
        {"protocol": "tcp", "handshake": "resumed", "tls": "1.2"},
        {"handshake": "early-data"},
        {"handshake": "early-data", "operation": "work:cpu=1us", "execution": "threads"},
        {"load": "open:100/s", "handshake": "early-data"},
        {"fast_open": "on", "link": LINK},
        {"fast_open": "on", "link": LINK, "handshake": "early-data"},
        {"protocol": "websocket", "operation": "echo"},
        {"protocol": "http3", "handshake": "resumed", "operation": "echo"},
        {"protocol": "http3", "handshake": "early-data", "execution": "reuseport-threads"},
    ],
)
def test_what_makes_sense(words: dict[str, str]) -> None:
    assert why_unsupported(scenario(**words)) is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"pattern": "request-response", "handshake": "resumed"}, "choose the pattern connect"),
        ({"pattern": "request-response", "fast_open": "on", "link": LINK}, "choose the pattern connect"),
        ({"load": "closed:8x16"}, "one request: write 128"),
        ({"tls": "off", "handshake": "resumed"}, "without TLS"),
        ({"tls": "off", "handshake": "early-data"}, "without TLS"),
        ({"tls": "1.2", "handshake": "early-data"}, "TLS 1.2 has no early data"),
        ({"client": "httpx", "handshake": "resumed"}, "choose the client lean"),
        ({"protocol": "http2", "handshake": "early-data"}, "early data is not taken for http2"),
        ({"stack": "uvicorn", "handshake": "early-data"}, "choose the stack lean"),
        ({"execution": "prefork", "handshake": "early-data"}, "a model of one process"),
        ({"operation": "echo", "handshake": "early-data"}, "echo is a POST"),
        ({"operation": "upload", "handshake": "early-data"}, "upload is a PUT"),
        ({"protocol": "http3", "handshake": "early-data", "execution": "reuseport"}, "a model of one process"),
        ({"protocol": "http3", "handshake": "resumed", "execution": "reuseport"}, "a model of one process"),
        ({"protocol": "http3", "handshake": "resumed", "stack": "hypercorn"}, "choose the stack lean"),
        ({"protocol": "http3", "handshake": "early-data", "operation": "echo"}, "echo is a POST"),
        ({"protocol": "http3", "handshake": "resumed", "client": "aioquic"}, "choose the client lean"),
        ({"protocol": "http3", "fast_open": "on", "link": LINK}, "runs over UDP"),
        ({"client": "httpx", "fast_open": "on", "link": LINK}, "choose stack and client lean"),
    ],
)
def test_what_makes_none(words: dict[str, str], why: str) -> None:
    found = why_unsupported(scenario(**words))
    assert found is not None
    assert why in found
    assert "\n" not in found


def test_a_pattern_of_connections() -> None:
    suite = single_suite({"protocol": ["http1", "udp", "sse"], "load": ["closed:4"], "pattern": ["connect"]}, "test")
    assert [made.protocol for made in suite.scenarios] == ["http1"]
    assert [made.protocol for made, _ in suite.unsupported] == ["udp", "sse"]


@pytest.mark.parametrize(("value", "works"), [("0", False), ("1", False), ("2", False), ("3", True), ("1027", True)])
def test_fast_open_on_loopback_is_as_the_kernel_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, value: str, works: bool
) -> None:
    setting = tmp_path_factory.mktemp("sys") / "tcp_fastopen"
    monkeypatch.setattr(fast_open, "SETTING", setting)
    asked = scenario(fast_open="on")
    assert "this kernel has no TCP Fast Open" in (opening.why_unsupported(asked) or "")
    setting.write_text(f"{value}\n")
    found = opening.why_unsupported(asked)
    assert (found is None) == works
    assert works or f"net.ipv4.tcp_fastopen is {value}" in (found or "")


def test_they_are_told_to_the_load() -> None:
    asked = scenario(handshake="early-data", fast_open="on", link=LINK)
    (spec,) = load_specs(asked, "10.77.0.2", 443, 1, 1, PLACEMENT)
    assert isinstance(spec.security, Security)
    assert (spec.pattern == "connect", spec.fast_open, spec.security.handshake) == (True, True, "early-data")
    (spec,) = load_specs(replace(asked, handshake="full", fast_open="off"), "10.77.0.2", 443, 1, 1, PLACEMENT)
    assert spec.security is not None
    assert (spec.fast_open, spec.security.handshake) == (False, "full")


def test_names_and_records_tell_them() -> None:
    asked = scenario(handshake="early-data", fast_open="on", link=LINK)
    assert "tls1.3 early-data fast-open connect" in asked.name
    assert {"handshake": "early-data", "fast_open": "on"}.items() <= asked.record().items()
    assert "full" not in scenario().name
