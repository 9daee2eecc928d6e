"""What a proxy is asked to be, and what it counts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Layer = Literal[4, 7]
Http = Literal["1.1", "2", "3"]
Tls = Literal["off", "1.2", "1.3"]
Transport = Literal["tcp", "udp"]
Balance = Literal["round-robin", "least-connections"]


class SpecError(Exception):
    """A spec that makes no sense. The message is one line."""


@dataclass(frozen=True)
class ProxySpec:
    """The spec, as the first line of a proxy's input has it."""

    layer: Layer
    upstreams: tuple[tuple[str, int], ...]
    """Host and port of each."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 for any free port."""
    backlog: int = 4096
    balance: Balance = "round-robin"
    transport: Transport = "tcp"
    """Layer 4 only: what it passes on."""
    http: Http = "1.1"
    """Layer 7 only: what clients speak; HTTP/2 with prior knowledge, or by ALPN over TLS; HTTP/3 with TLS 1.3 alone."""
    upstream_http: Http = "1.1"
    tls: Tls = "off"
    """Layer 7 only: the version of TLS that clients speak, with this certificate and its key (files in PEM form)."""
    certificate: str = ""
    private_key: str = ""
    upstream_tls: Tls = "off"
    authorities: str = ""
    """A file of the certificates (PEM) that an upstream's must come from; empty for those that the system trusts."""
    forward: bool = False
    """Layer 7 only: do what a forward proxy does (RFC 9110, section 3.7), for loopback and the upstreams: CONNECT, and
    requests whose target is a whole URL."""
    connect_timeout_s: float = 2.0
    answer_timeout_s: float = 30.0
    """Layer 7 only: how long an upstream may be silent while it owes something."""
    idle_timeout_s: float = 60.0
    """How long a connection may be silent."""
    health_interval_s: float = 0.0
    """Between two checks of an upstream; 0 for none."""
    health_path: str = ""
    """What a check asks for with GET; empty for a check that only connects."""
    cache_bytes: int = 0
    """Layer 7 only: how much the cache may hold; 0 for none."""
    lose_share: float = 0.0
    """The share of answers that are lost once the upstream has begun to give them: the connection with the client, or
    its stream, is cut instead. At layer 7 of those to requests that act, which GET and other safe ones do not; at layer
    4, what comes in answer to one read of the client's counts as one, and over UDP each datagram does."""
    seed: int = 0
    """What is lost comes from it."""


def parse_spec(values: Mapping[str, Any]) -> ProxySpec:
    """A spec from JSON. Raises SpecError."""
    known = {field.name for field in fields(ProxySpec)}
    for name in values:
        if name not in known:
            raise SpecError(f"a proxy has no {name}; it has {', '.join(sorted(known))}")
    try:
        upstreams = tuple((str(host), int(port)) for host, port in values["upstreams"])
        spec = ProxySpec(**{**values, "upstreams": upstreams})
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"not a spec of a proxy: {error}") from None
    if spec.layer not in get_args(Layer) or spec.balance not in get_args(Balance):
        raise SpecError(f"a proxy has layer 4 or 7 and balances by {' or '.join(get_args(Balance))}")
    if not {spec.http, spec.upstream_http} <= set(get_args(Http)):
        raise SpecError(f"a proxy speaks HTTP {' or '.join(get_args(Http))}")
    if not {spec.tls, spec.upstream_tls} <= set(get_args(Tls)):
        raise SpecError(f"the TLS of a proxy is {' or '.join(get_args(Tls))}")
    if spec.transport not in get_args(Transport):
        raise SpecError(f"the transport of a proxy is {' or '.join(get_args(Transport))}")
    for http, tls in ((spec.http, spec.tls), (spec.upstream_http, spec.upstream_tls)):
        if http == "3" and tls != "1.3":
            raise SpecError("HTTP/3 is always encrypted: it takes TLS 1.3")
    if spec.health_interval_s and (spec.upstream_http == "3" or spec.transport == "udp"):
        raise SpecError("health checks connect over TCP, and these upstreams take UDP; leave them out")
    if spec.health_path and spec.upstream_tls != "off":
        raise SpecError("health checks that ask for a path go without TLS; leave the path out")
    if not spec.upstreams and not spec.forward:
        raise SpecError("a proxy that is no forward proxy has one upstream or more")
    if not 0 <= spec.lose_share <= 1:
        raise SpecError("the share of answers that are lost is from 0 to 1")
    if min(spec.connect_timeout_s, spec.answer_timeout_s, spec.idle_timeout_s) <= 0:
        raise SpecError("timeouts are longer than 0 s")
    return spec


@dataclass(slots=True)
class Counts:
    """What a proxy has done so far."""

    accepted: int = 0
    """Connections of clients."""
    requests: int = 0
    """Layer 7 only."""
    bytes_up: int = 0
    """From clients to upstreams; at layer 7 of bodies alone."""
    bytes_down: int = 0
    upstream_connections: int = 0
    upstream_errors: int = 0
    """Connections with upstreams that could not be made, broke before an answer was whole, or were no HTTP."""
    retries: int = 0
    """Requests that were sent once more."""
    refused: int = 0
    """Requests that the proxy answered itself, with an error."""
    idle_closed: int = 0
    lost: int = 0
    """Answers that were lost on purpose."""
    cache_hits: int = 0
