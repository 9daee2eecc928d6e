"""The hops that can stand between clients and a server: what each is, and what it can carry.

A hop is a proxy as a process of its own, on the machine (and in a lab, on the node) of the server. A path is the hops
in the order in which a request meets them, spelled like "sidecar,sidecar" or "l4,lossy:10%".
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """Of layer 7: the versions of HTTP that it takes, and speaks with the next hop or the server."""
    program: Program | None = None
    """What must be installed."""


_PROGRAMS = "bench.proxyprograms"
_LOSSY = "lossy"

HOPS: Mapping[str, HopKind] = {
    kind.name: kind
    for kind in (
        HopKind("l4", "this project's proxy of layer 4: bytes, passed on", 4),
        HopKind("l7", "this project's proxy of layer 7: HTTP/1.1 and HTTP/2", 7, http=("1.1", "2")),
        HopKind("sidecar", "l7 beside one end, bound to one neighbour; two make a pair", 7, http=("1.1", "2")),
        HopKind(
            _LOSSY,
            "l7 that loses a share of answers after the server acted (not to GET), like lossy:10%",
            7,
            http=("1.1", "2"),
        ),
        HopKind("haproxy-tcp", "HAProxy in its tcp mode", 4, f"{_PROGRAMS}:haproxy_tcp", program=HAPROXY),
        HopKind("haproxy-http", "HAProxy in its http mode", 7, f"{_PROGRAMS}:haproxy_http", ("1.1", "2"), HAPROXY),
        HopKind("nginx-tcp", "nginx's stream module", 4, f"{_PROGRAMS}:nginx_tcp", program=NGINX_STREAM),
        HopKind("nginx-http", "nginx as a reverse proxy", 7, f"{_PROGRAMS}:nginx_http", ("1.1",), NGINX),
        HopKind("caddy", "Caddy as a reverse proxy", 7, f"{_PROGRAMS}:caddy", ("1.1", "2"), CADDY),
    )
}


@dataclass(frozen=True)
class Hop:
    """One hop of a path."""

    kind: HopKind
    lose_share: float = 0.0
    """The share of answers that are lost after the server acted."""

    def __str__(self) -> str:
        return f"{self.kind.name}:{self.lose_share * 100:g}%" if self.kind.name == _LOSSY else self.kind.name


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
    name, colon, share = word.partition(":")
    kind = HOPS[registry.choose(name, HOPS, where)]
    if name == _LOSSY:
        if not colon:
            raise UsageError(f"{where}: which share of answers is lost? Write it like lossy:10%")
        return Hop(kind, parse_share(share, where))
    if colon:
        raise UsageError(f"{where}: {word!r}: the hop {name} takes no words")
    return Hop(kind)


def why_unsupported(scenario: "Scenario") -> str | None:
    """Why a scenario cannot go through its hops; None if it can, or has none."""
    hops = hops_of(scenario.via)
    if not hops:
        return None
    protocol = PROTOCOLS[scenario.protocol]
    if protocol.transport_kind != "stream" or scenario.tls.startswith("dtls"):
        return f"{scenario.protocol} runs over UDP, and the hops here pass on TCP and what is on it"
    if scenario.fast_open == "on":
        return "with hops in the path, TCP Fast Open would be between the client and the first of them; leave it off"
    for hop in hops:
        if (why := _why_not(hop, scenario)) is not None:
            return why
    return None


def _why_not(hop: Hop, scenario: "Scenario") -> str | None:
    kind = hop.kind
    if kind.program is not None and kind.program.find() is None:
        return f"the hop {kind.name} needs a program that is not installed; {kind.program.get}"
    if kind.layer == 4:
        return None
    version = http_version(scenario.protocol)
    if version not in kind.http:
        speaks = " and ".join(f"HTTP/{known}" for known in kind.http)
        spoken = f"HTTP/{version}" if version else "no HTTP"
        return (
            f"the hop {kind.name} passes on {speaks}, and {scenario.protocol} is {spoken} here; "
            "choose a hop of layer 4, like l4"
        )
    if scenario.tls == "off":
        return None
    if kind.program is not None:
        return (
            f"the hop {kind.name} is set up without TLS here; choose tls off, or a hop of this project, like l4 or l7"
        )
    if scenario.handshake == "early-data":
        return f"the hop {kind.name} ends TLS, and takes no early data; choose a hop of layer 4, like l4"
    return None


def http_version(protocol: str) -> str:
    """Which HTTP a protocol's connections begin with: "1.1", "2", or "" for what an intermediary of HTTP cannot
    pass on."""
    if protocol == "http2-upgrade":
        return ""  # Upgrade: h2c is of one connection, and an intermediary that does not speak it leaves it out
    return {"grpc": "2", "websocket": "1.1"}.get(protocol, PROTOCOLS[protocol].http_version)
