"""The ways to reach a service, and how many round trips each takes until the first byte of an answer.

The expectation is arithmetic on the specifications, for a client that has nothing but what the way allows it to have
kept: TCP's handshake takes one round trip (RFC 9293, section 3.5), none where data comes with the SYN (TCP Fast Open,
RFC 7413); TLS 1.2 takes two, one if a session is resumed (RFC 5246, section 7.3); TLS 1.3 takes one, none for early
data (RFC 8446, section 2); QUIC does both at once (RFC 9001, section 4). The request and its answer take one. An
upgrade to HTTP/2 takes none where the request asks for it, and one where a request with a body waits for another that
does (RFC 7540, section 3.2).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.labels import label, varying
from analysis.load_results import Scenario

TOLERANCE_RTTS = 0.15
"""A measured first byte that is further from the expected one than this is told to the reader."""

_OVER_TCP = {
    "http1": "HTTP/1.1",
    "http2": "HTTP/2",
    "http2-upgrade": "HTTP/2 by Upgrade",
    "grpc": "gRPC",
    "tcp": "TCP",
}
_OVER_QUIC = {"http3": "HTTP/3"}
_WITH_BODY = ("echo", "upload", "create-todo")
"""Operations whose request has a body."""
_HANDSHAKES = {"resumed": "resumed", "early-data": "0-RTT"}


@dataclass(frozen=True)
class Expectation:
    """The round trips until the first byte, by what they are spent on."""

    parts: tuple[tuple[str, int], ...]

    @property
    def rtts(self) -> int:
        return sum(count for _, count in self.parts)

    @property
    def words(self) -> str:
        """ "1 (TCP) + 1 (TLS 1.3) + 1 (request)"."""
        return " + ".join(f"{count} ({what})" for what, count in self.parts)


def expectation(scenario: Scenario) -> Expectation | None:
    """What a scenario's way should take; None for protocols whose opening is no part of this arithmetic, as
    WebSocket's, and for versions of TLS that its server chose."""
    request = ("request", 1)
    if scenario.protocol == "udp" and scenario.tls == "off":
        return Expectation((request,))
    if scenario.protocol in _OVER_QUIC:
        return Expectation((("QUIC", 0 if scenario.handshake == "early-data" else 1), request))
    tls = _TLS.get((scenario.tls, scenario.handshake)) if scenario.tls != "off" else 0
    if scenario.protocol not in _OVER_TCP or tls is None:
        return None
    parts = [("TCP", 0 if scenario.fast_open == "on" else 1)]
    if scenario.tls != "off":
        parts.append((f"TLS {scenario.tls}", tls))
    if scenario.protocol == "http2-upgrade" and scenario.operation.partition(":")[0] in _WITH_BODY:
        parts.append(("Upgrade", 1))
    return Expectation((*parts, request))


_TLS = {
    ("1.2", "full"): 2,
    ("1.2", "resumed"): 1,
    ("1.3", "full"): 1,
    ("1.3", "resumed"): 1,
    ("1.3", "early-data"): 0,
}


def way_name(scenario: Scenario) -> str:
    """ "HTTP/1.1, TCP Fast Open, TLS 1.3 0-RTT"."""
    how = _HANDSHAKES.get(scenario.handshake, "")
    if scenario.protocol in _OVER_QUIC:
        return f"{_OVER_QUIC[scenario.protocol]}, QUIC {how}".rstrip()
    words = [_OVER_TCP.get(scenario.protocol, scenario.protocol)]
    if scenario.fast_open == "on":
        words.append("TCP Fast Open")
    if scenario.tls.startswith("dtls"):
        words.append(f"DTLS {scenario.tls.removeprefix('dtls')}")
    elif scenario.tls != "off":
        words.append(f"TLS {scenario.tls} {how}".rstrip())
    return ", ".join(words) if len(words) > 1 else f"{words[0]}, no TLS"


def way_names(scenarios: Iterable[Scenario]) -> dict[Scenario, str]:
    """The name of each way, with what else tells scenarios apart that share one."""
    every = list(scenarios)
    names: dict[Scenario, str] = {}
    for scenario in every:
        alike = [other for other in every if way_name(other) == way_name(scenario)]
        apart = varying(alike)
        names[scenario] = way_name(scenario) + (f" · {label(scenario, apart)}" if apart else "")
    return names


def differs(expected: Expectation | None, measured_rtts: float | None) -> bool:
    """Whether a measurement is further from what is expected than the tolerance."""
    return expected is not None and measured_rtts is not None and abs(measured_rtts - expected.rtts) > TOLERANCE_RTTS
