"""The proxy of layer 7: requests and answers, as an intermediary passes them on (RFC 9110, section 7.6)."""

import asyncio
import ipaddress
import random
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar, cast

from bench.errors import ProtocolError
from bench.wire.tls import python_end
from servers.proxies.cache import Cache
from servers.proxies.exchange import Exchange, Upward
from servers.proxies.http1_client import Http1Client
from servers.proxies.http1_upstream import Http1Upstream
from servers.proxies.idle import Watch
from servers.proxies.listening import Listener, bound_udp, listen_tcp
from servers.proxies.security import SecuredClient, SecuredUpstream, client_side, upstream_side
from servers.proxies.spec import Counts, ProxySpec
from servers.proxies.splice import WatchedEnd
from servers.proxies.upstreams import Upstream, Upstreams, connect

_SCHEME = b"http://"
_COUNTED = (b"OPTIONS", b"TRACE")
_MAX_NAMED = 256
"""Authorities that a forward proxy keeps connections with."""


U = TypeVar("U", bound=asyncio.Protocol)


class Connection(Protocol):
    """A connection of the proxy's, with either side."""

    def abort(self) -> None:
        """Cut it: the proxy ends."""


class Layer7:
    """The proxy: what its connections share."""

    def __init__(self, spec: ProxySpec, upstreams: Upstreams, counts: Counts) -> None:
        self.spec = spec
        self.counts = counts
        self.loop = asyncio.get_running_loop()
        self.watch = Watch(spec.idle_timeout_s)
        self.answers = Watch(spec.answer_timeout_s)
        """Connections with upstreams."""
        self.clients: set[Connection] = set()
        self.upward: set[Connection] = set()
        # RFC 9110, section 7.6.3: the version is that in which the message came.
        self.request_via = b"%b wirebench" % spec.http.encode()
        self.answer_via = b"%b wirebench" % spec.upstream_http.encode()
        self.quic_idle_timeout_s = 2 * max(spec.idle_timeout_s, spec.answer_timeout_s)
        """QUIC's own; what is silent is found out before."""
        self._upstreams = upstreams
        self._client_context, self._upstream_context = client_side(spec), upstream_side(spec)
        self._cache = Cache(spec.cache_bytes) if spec.cache_bytes else None
        self._named: dict[bytes, Upstream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: dict[Upstream, asyncio.Task[Upward | None]] = {}
        self._draw = random.Random(spec.seed).random
        self.lose_share = spec.lose_share

    def start(self) -> None:
        """Begin to look after connections."""
        self.watch.start()
        self.answers.start()

    async def listen(self) -> Listener:
        """Take clients from now on. Raises OSError."""
        if self.spec.http != "3":
            return await listen_tcp(self.spec, self._make_connection)
        from servers.proxies.http3_client import Http3Endpoint

        return Http3Endpoint(self, bound_udp(self.spec))

    def _make_connection(self) -> asyncio.Protocol:
        """What takes a client's connection over TCP."""
        if self._client_context is not None:
            return SecuredClient(self, python_end(self._client_context))
        if self.spec.http == "1.1":
            return Http1Client(self)
        from servers.proxies.http2_client import Http2Client

        return Http2Client(self)

    def begin(self, exchange: Exchange) -> None:
        """An exchange's turn has come."""
        self.counts.requests += 1
        if exchange.method == b"CONNECT":
            self._open_tunnel(exchange)
            return
        if exchange.target[:1] != b"/" and exchange.target != b"*" and not self._take_apart(exchange):
            return
        if not exchange.authority:  # a client of HTTP/1.0 need not say, and a server of HTTP/1.1 must be told
            exchange.authority = b"localhost"
            exchange.fields.insert(0, (b"host", exchange.authority))
        if exchange.method in _COUNTED and self._answers_itself(exchange):
            return
        if self._cache is not None and self._cache.answer(exchange):
            self.counts.cache_hits += 1
            return
        exchange.begin(self.candidates(exchange))

    def _answers_itself(self, exchange: Exchange) -> bool:
        """Whether a request was to go no further than here (Max-Forwards, RFC 9110, section 7.6.2)."""
        for place, (name, value) in enumerate(exchange.fields):
            if name.lower() == b"max-forwards" and value.isdigit():
                left = int(value[:9])
                if left == 0:
                    exchange.serve(204, [], b"") if exchange.method == b"OPTIONS" else exchange.fail(
                        405, "no TRACE here"
                    )
                    return True
                exchange.fields[place] = (name, b"%d" % (left - 1))
        return False

    def candidates(self, exchange: Exchange) -> Sequence[Upstream]:
        """Where an exchange may go, in order."""
        return self._upstreams.order() if exchange.named is None else (exchange.named,)

    def loses(self) -> bool:
        """Whether the answer that begins is to be lost."""
        if self.lose_share == 0 or self._draw() >= self.lose_share:
            return False
        self.counts.lost += 1
        return True

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run it beside everything else."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def connect(self, upstream: Upstream) -> Upward | None:
        """A connection with that upstream; None if there is none in time."""
        if self.spec.upstream_http == "1.1":
            return await self._connect(upstream, Http1Upstream(self, upstream))
        # One that others may have been waiting for too: it takes many exchanges.
        begin = self._connect_http2 if self.spec.upstream_http == "2" else self._connect_http3
        while True:
            task = self._connecting.get(upstream)
            if task is None:
                task = self._connecting[upstream] = self.loop.create_task(begin(upstream))
                task.add_done_callback(lambda _: self._connecting.pop(upstream, None))
            upward = await asyncio.shield(task)
            if upward is None or upward.has_room:
                return upward

    async def _connect_http2(self, upstream: Upstream) -> Upward | None:
        from servers.proxies.http2_upstream import Http2Upstream

        return await self._connect(upstream, Http2Upstream(self, upstream))

    async def _connect_http3(self, upstream: Upstream) -> Upward | None:
        from servers.proxies.http3_upstream import Http3Upstream

        upward = Http3Upstream(self, upstream)
        try:
            async with asyncio.timeout(self.spec.connect_timeout_s):
                await upward.connect()
        except (OSError, TimeoutError, ProtocolError):
            self.counts.upstream_errors += 1
            upward.close_now()
            return None
        self.counts.upstream_connections += 1
        return upward

    async def _connect(self, upstream: Upstream, upward: U) -> U | None:
        """Have that connection with an upstream over TCP, over TLS where that is spoken."""
        context = self._upstream_context
        if context is None:
            return await connect(upstream, lambda: upward, self.spec, self.counts)
        end = python_end(context, upstream.host)
        secured = await connect(
            upstream, lambda: SecuredUpstream(end, upward, self.spec.upstream_http), self.spec, self.counts
        )
        if secured is None:
            return None
        try:
            async with asyncio.timeout(self.spec.connect_timeout_s):
                await secured.ready
        except (OSError, TimeoutError):
            self.counts.upstream_errors += 1
            secured.abort()
            return None
        return upward

    def abort(self) -> None:
        """Let go of all connections."""
        self.watch.stop()
        self.answers.stop()
        for task in (*self._tasks, *self._connecting.values()):
            task.cancel()
        for connection in [*self.clients, *self.upward]:
            connection.abort()

    # Targets of a forward proxy

    def _take_apart(self, exchange: Exchange) -> bool:
        """A target that is a whole URL (RFC 9112, section 3.2.2): its authority takes the place of the host field."""
        if exchange.target[: len(_SCHEME)].lower() != _SCHEME:
            exchange.fail(400, "the target is neither a path nor a URL of http")
            return False
        authority, slash, path = exchange.target[len(_SCHEME) :].partition(b"/")
        exchange.target, exchange.authority = slash + path or b"/", authority
        exchange.fields = [field for field in exchange.fields if field[0].lower() != b"host"]
        exchange.fields.insert(0, (b"host", authority))
        if self.spec.forward:
            exchange.named = self._upstream_named(authority, 80)
            if exchange.named is None:
                exchange.fail(403, "this proxy goes to loopback addresses and to its upstreams only")
                return False
        return True

    def _open_tunnel(self, exchange: Exchange) -> None:
        """CONNECT (RFC 9110, section 9.3.6)."""
        if not self.spec.forward:
            exchange.fail(405, "this is no forward proxy")
            return
        if self.spec.http != "1.1":
            exchange.fail(501, "tunnels are for clients of HTTP/1.1")
            return
        upstream = self._upstream_named(exchange.target, None)
        if upstream is None:
            exchange.fail(403, "this proxy goes to loopback addresses and to its upstreams only")
            return
        self.spawn(self._tunnel(exchange, upstream))

    async def _tunnel(self, exchange: Exchange, upstream: Upstream) -> None:
        upward = await connect(upstream, lambda: Http1Upstream(self, upstream), self.spec, self.counts)
        if upward is None:
            exchange.fail(502, "no connection with that authority")
        elif exchange.is_over:
            upward.transport.abort()
        else:
            exchange.is_over = True
            upward.become_tunnel(cast(WatchedEnd, exchange.down))
            exchange.down.connected(exchange, upward)

    def _upstream_named(self, authority: bytes, default_port: int | None) -> Upstream | None:
        """The upstream that an authority names; None if the proxy does not go there."""
        found = self._named.get(authority)
        if found is None:
            host, port = _split(authority, default_port)
            known = [u for u in self._upstreams.all if (u.host, u.port) == (host, port)]
            if known:
                return known[0]
            if not port or not _is_loopback(host):
                return None
            found = Upstream(host, port)
            if len(self._named) < _MAX_NAMED:
                self._named[authority] = found
        return found


def _split(authority: bytes, default_port: int | None) -> tuple[str, int]:
    """Host and port; port 0 for what is no authority (RFC 3986, section 3.2)."""
    text = authority.decode("latin-1")
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port or "")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        return "", 0
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
