"""The hops that can stand between clients and a server: what each is, and what it can carry.

A hop is a proxy as a process of its own, on the machine (and in a lab, on the node) of the server. A path is the hops
in the order in which a request meets them, spelled like "sidecar,sidecar" or "l4,lossy:10%". Two hops can speak
another HTTP between them than both ends do: "sidecar:http3,sidecar".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bench import registry
from bench.errors import UsageError
from bench.peers.programs import CADDY, HAPROXY, NGINX, NGINX_STREAM, Program
from bench.protocols import PROTOCOLS
from bench.quantities import parse_share

if TYPE_CHECKING:
    from bench.scenario import Scenario

NO_HOPS = "none"
MAX_HOPS = 8

Layer = Literal[4, 7]


@dataclass(frozen=True)
class HopKind:
    """A proxy that can be a hop."""

    name: str
    line: str
    layer: Layer
    start: str | None = None
    """"module:function" of what starts a program of others (see `bench.proxyprograms`). None for this project's own."""
    http: tuple[str, ...] = ()
    """Of layer 7: the versions of HTTP that it takes."""
    speaks: tuple[str, ...] = ()
    """Of layer 7: those that it speaks with the next hop or the server."""
    program: Program | None = None
    """What must be installed."""
    transports: tuple[str, ...] = ("tcp",)
    """Of layer 4: what it passes on."""
    fails: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Protocols that it does not carry over a version of HTTP that it takes, and why."""


_PROGRAMS = "bench.proxyprograms"
_LOSSY = "lossy"
_SIDECAR = "sidecar"
_OVER_TCP = ("1.1", "2")
_ALL = (*_OVER_TCP, "3")
_BETWEEN = {"http1": "1.1", "http2": "2", "http3": "3"}
"""What a sidecar can be told to speak with the next hop."""

HOPS: Mapping[str, HopKind] = {
    kind.name: kind
    for kind in (
        HopKind("l4", "this project's proxy of layer 4: bytes or datagrams, passed on", 4, transports=("tcp", "udp")),
        HopKind("l7", "this project's proxy of layer 7: HTTP/1.1, HTTP/2 and HTTP/3", 7, http=_ALL, speaks=_ALL),
        HopKind(
            _SIDECAR,
            "l7 beside one end, bound to one neighbour; two make a pair, like sidecar:http3,sidecar",
            7,
            http=_ALL,
            speaks=_ALL,
        ),
        HopKind(
            _LOSSY,
            "l7 that loses a share of answers after the server acted (not to GET), like lossy:10%",
            7,
            http=_ALL,
            speaks=_ALL,
        ),
        HopKind("haproxy-tcp", "HAProxy in its tcp mode", 4, f"{_PROGRAMS}:haproxy_tcp", program=HAPROXY),
        HopKind(
            "haproxy-http", "HAProxy in its http mode", 7, f"{_PROGRAMS}:haproxy_http", _OVER_TCP, _OVER_TCP, HAPROXY
        ),
        HopKind("nginx-tcp", "nginx's stream module", 4, f"{_PROGRAMS}:nginx_tcp", program=NGINX_STREAM),
        HopKind("nginx-http", "nginx as a reverse proxy", 7, f"{_PROGRAMS}:nginx_http", ("1.1",), ("1.1",), NGINX),
        HopKind(
            "caddy",
            "Caddy as a reverse proxy",
            7,
            f"{_PROGRAMS}:caddy",
            _ALL,
            _OVER_TCP,
            CADDY,
            fails={("grpc", "3"): "loses the bodies of requests without a length, as grpc's are"},  # 2.6.2 does
        ),
    )
}


@dataclass(frozen=True)
class Hop:
    """One hop of a path."""

    kind: HopKind
    lose_share: float = 0.0
    """The share of answers that are lost after the server acted."""

    between: str = ""
    """The protocol of `_BETWEEN` that it speaks with the next hop; empty for that of both ends."""

    def __str__(self) -> str:
        words = f"{self.lose_share * 100:g}%" if self.kind.name == _LOSSY else self.between
        return f"{self.kind.name}:{words}" if words else self.kind.name


@dataclass(frozen=True)
class Leg:
    """A part of a path: what is spoken between two neighbours."""

    http: str
    """The version of HTTP; empty for what an intermediary of HTTP cannot pass on."""
    tls: str = "off"
    """The version of TLS."""
    transport: Literal["tcp", "udp"] = "tcp"

    @property
    def protocol(self) -> str:
        """The plain protocol of that HTTP."""
        return {http: protocol for protocol, http in _BETWEEN.items()}[self.http]


def legs_of(hops: Sequence[Hop], ends: Leg) -> list[Leg]:
    """What each hop is spoken to in, and behind the last one the server; `ends` is what client and server speak."""
    legs = [ends]
    for hop in hops:
        if hop.kind.layer == 4:
            legs.append(legs[-1])
        elif hop.between:
            legs.append(_leg(_BETWEEN[hop.between], ends.tls))
        else:
            legs.append(ends)
    return legs


def ends_of(scenario: "Scenario") -> Leg:
    """What client and server of a scenario speak."""
    is_udp = PROTOCOLS[scenario.protocol].transport_kind in ("quic", "datagram")
    return Leg(http_version(scenario.protocol), scenario.tls, "udp" if is_udp else "tcp")


def _leg(http: str, tls: str) -> Leg:
    return Leg("3", "1.3", "udp") if http == "3" else Leg(http, tls)


def parse_via(text: str, where: str) -> str:
    """A path, spelled the one way. Raises UsageError."""
    return ",".join(map(str, hops_of(text, where))) or NO_HOPS


def hops_of(via: str, where: str = "via") -> tuple[Hop, ...]:
    """The hops of a path, from the client to the server. Raises UsageError."""
    if via.strip() == NO_HOPS:
        return ()
    hops = tuple(_parse_hop(word.strip(), where) for word in via.split(","))
    if len(hops) > MAX_HOPS:
        raise UsageError(f"{where}: {len(hops)} hops, and a path has {MAX_HOPS} at the most")
    return hops


def _parse_hop(word: str, where: str) -> Hop:
    name, colon, words = word.partition(":")
    kind = HOPS[registry.choose(name, HOPS, where)]
    if name == _LOSSY:
        if not colon:
            raise UsageError(f"{where}: which share of answers is lost? Write it like lossy:10%")
        return Hop(kind, parse_share(words, where))
    if colon and name == _SIDECAR:
        return Hop(kind, between=registry.choose(words, _BETWEEN, where))
    if colon:
        raise UsageError(f"{where}: {word!r}: the hop {name} takes no words")
    return Hop(kind)


def why_unsupported(scenario: "Scenario") -> str | None:
    """Why a scenario cannot go through its hops; None if it can, or has none."""
    hops = hops_of(scenario.via)
    if not hops:
        return None
    if scenario.tls.startswith("dtls"):
        return f"{scenario.protocol} tells each end the other's address, and so goes past all hops"
    if scenario.fast_open == "on":
        return "with hops in the path, TCP Fast Open would be between the client and the first of them; leave it off"
    legs = legs_of(hops, ends_of(scenario))
    for hop, leg, next_leg in zip(hops, legs, legs[1:], strict=False):
        if (why := _why_not(hop, leg, next_leg, scenario)) is not None:
            return why
    if legs[-1] != legs[0]:
        return f"{scenario.via} ends in HTTP/{legs[-1].http}, and the server speaks {scenario.protocol}"
    return None


def _why_not(hop: Hop, leg: Leg, next_leg: Leg, scenario: "Scenario") -> str | None:
    kind = hop.kind
    if kind.program is not None and kind.program.find() is None:
        return f"the hop {kind.name} needs a program that is not installed; {kind.program.get}"
    if kind.layer == 4:
        if leg.transport not in kind.transports:
            return f"the hop {kind.name} passes on TCP alone, and here it would be UDP; choose l4"
        return None
    if leg.http not in kind.http:
        speaks = _named(kind.http)
        comes = "what comes to it" if leg != ends_of(scenario) else scenario.protocol
        spoken = f"HTTP/{leg.http}" if leg.http else "no HTTP"
        return f"the hop {kind.name} passes on {speaks}, and {comes} is {spoken} here; choose a hop of layer 4, like l4"
    if next_leg.http not in kind.speaks:
        behind = f"what is behind it HTTP/{next_leg.http}"
        return f"the hop {kind.name} speaks {_named(kind.speaks)}, and {behind}; choose a hop of this project, like l7"
    if (why := kind.fails.get((scenario.protocol, leg.http))) is not None:
        return f"the hop {kind.name} takes HTTP/{leg.http}, and {why}"
    if next_leg.http != leg.http and (why := _why_not_translated(scenario.protocol, {leg.http, next_leg.http})):
        return why
    if kind.program is not None and ((leg.tls != "off" and leg.http != "3") or next_leg.tls != "off"):
        return (
            f"the hop {kind.name} is set up without TLS here; choose tls off, or a hop of this project, like l4 or l7"
        )
    if scenario.handshake == "early-data":
        return f"the hop {kind.name} ends TLS, and takes no early data; choose a hop of layer 4, like l4"
    return None


def _named(versions: Sequence[str]) -> str:
    return " and ".join(f"HTTP/{version}" for version in versions)


def _why_not_translated(protocol: str, versions: set[str]) -> str | None:
    """Why what a protocol says cannot be said in another HTTP on its way."""
    if protocol == "websocket":
        return "websocket makes a connection of HTTP/1.1 its own, and other versions do not have that here"
    if protocol == "grpc" and "1.1" in versions:
        return "grpc ends with trailers, which are not passed on over HTTP/1.1"
    return None


def http_version(protocol: str) -> str:
    """Which HTTP a protocol's connections begin with: "1.1", "2", "3", or "" for what an intermediary of HTTP cannot
    pass on."""
    if protocol == "http2-upgrade":
        return ""  # Upgrade: h2c is of one connection, and an intermediary that does not speak it leaves it out
    if PROTOCOLS[protocol].transport_kind == "quic":
        return "3"
    return {"grpc": "2", "websocket": "1.1"}.get(protocol, PROTOCOLS[protocol].http_version)
