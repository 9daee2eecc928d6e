"""A request on its way through the proxy, and its answer on the way back: whatever versions of HTTP the two sides
speak."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from servers.proxies.fields import Fields
from servers.proxies.splice import End
from servers.proxies.upstreams import Upstream

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""Methods whose requests may be sent once more if a connection ends before the answer begins (RFC 9110, 9.2.2)."""
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods whose requests ask for no action (RFC 9110, section 9.2.1)."""
NO_BODY = (204, 304)
"""Statuses of answers without a body (RFC 9110, section 6.4.1)."""
_MAX_RETRIES = 2
_MAX_KEPT_BYTES = 64 * 1024
"""Of a request's body that is kept so that it can be sent once more, and that may wait for a connection."""


class Downstream(Protocol):
    """A client's side of an exchange. Of the answer it is told the head once, then pieces, then the end; or that it
    failed."""

    def interim(self, exchange: "Exchange", status: int, fields: Fields) -> None:
        """An answer that is not the final one (RFC 9110, section 15.2)."""

    def answer_head(self, exchange: "Exchange", status: int, fields: Fields, length: int | None) -> None:
        """`length` is None where the answer does not tell it."""

    def answer_piece(self, exchange: "Exchange", data: bytes) -> None: ...

    def answer_end(self, exchange: "Exchange") -> None: ...

    def answer_flush(self) -> None:
        """No more of the answer comes for now."""

    def failed(self, exchange: "Exchange", status: int, message: str) -> None:
        """There is no answer, or no more of it than has come. `status` is what to tell a client that had nothing."""

    def cut(self, exchange: "Exchange") -> None:
        """The answer is to be lost, and what it would have gone over with it."""

    def switched(self, exchange: "Exchange", fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        """The upstream has changed to another protocol, whose first bytes are `rest`."""

    def connected(self, exchange: "Exchange", upward: End) -> None:
        """The tunnel that the client asked for is there."""

    def room(self, exchange: "Exchange", has_room: bool) -> None:
        """Whether more of the request may come."""


class Upward(Protocol):
    """An upstream's side of an exchange."""

    @property
    def has_room(self) -> bool:
        """Whether it takes an exchange, or one more."""

    def send_request(self, exchange: "Exchange") -> None:
        """Send the head of the request, and what is there of the body."""

    def send_piece(self, exchange: "Exchange", data: bytes) -> None: ...

    def send_end(self, exchange: "Exchange") -> None: ...

    def leave(self, exchange: "Exchange") -> None:
        """The exchange is given up before its end."""

    def room(self, exchange: "Exchange", has_room: bool) -> None:
        """Whether more of the answer may come."""

    def put_back(self) -> None:
        """Wait for an exchange: the one that it was made for needs it no longer."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_attempts",
        "_candidates",
        "_kept_bytes",
        "_left_bytes",
        "_proxy",
        "_task",
        "answered",
        "authority",
        "down",
        "fields",
        "has_body",
        "is_complete",
        "is_last",
        "is_over",
        "length",
        "method",
        "named",
        "pieces",
        "stream",
        "target",
        "trailers",
        "upgrade",
        "upstream",
        "upward",
        "upward_stream",
    )

    def __init__(
        self,
        proxy: "Layer7",
        down: Downstream,
        method: bytes,
        target: bytes,
        authority: bytes,
        fields: Fields,
        length: int | None,
        has_body: bool,
        upgrade: bytes | None = None,
        stream: int = 0,
    ) -> None:
        self._proxy = proxy
        self.down = down
        self.method = method
        self.target = target
        self.authority = authority
        self.fields = fields
        self.length = length
        self.has_body = has_body
        self.upgrade = upgrade
        self.named: Upstream | None = None
        """The upstream that the request itself names, to a forward proxy."""
        self.is_last = False
        """The client's connection closes behind the answer, where it has but one exchange at a time."""
        self.stream = stream
        """The client's stream, where its connection has several."""
        self.pieces: list[bytes] = []
        """Of the body: what waits for a connection, and what is kept for another attempt."""
        self.is_complete = False
        """Whether the whole request has come."""
        self.answered = False
        """Whether the final answer has begun."""
        self.is_over = False
        self.upstream: Upstream | None = None
        self.upward: Upward | None = None
        self.upward_stream = 0
        """The stream of the upstream's connection, where that has several."""
        self.trailers: Fields = []
        """Of the answer, where the upstream's HTTP has them as fields (HTTP/2)."""
        self._kept_bytes = 0
        self._left_bytes: int | None = None
        """Of the answer's body, how much its head announces beyond what has come; None if it does not say."""
        self._attempts = 0
        self._candidates: list[Upstream] = []
        self._task: asyncio.Task[None] | None = None

    # The request

    def begin(self, candidates: Sequence[Upstream]) -> None:
        """Send the request to the first of these that takes it."""
        self._candidates = list(candidates)
        self._try_next()

    def body(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        if self.is_over:
            return
        if self._kept_bytes >= 0:
            self._kept_bytes += len(data)
            self.pieces.append(data)
        if self.upward is not None:
            if self._kept_bytes > _MAX_KEPT_BYTES:
                self._keep_nothing()
            self.upward.send_piece(self, data)
        elif self._kept_bytes > _MAX_KEPT_BYTES:
            self.down.room(self, False)

    def end(self) -> None:
        """The request is complete."""
        self.is_complete = True
        if self.upward is not None:
            self.upward.send_end(self)

    def abandon(self) -> None:
        """The client has gone."""
        if not self.is_over:
            self._finish()

    # The answer, as the upstream's side tells it

    def head(self, status: int, fields: Fields, length: int | None) -> None:
        """The final answer has begun."""
        if self.method not in SAFE and self._proxy.loses():
            down = self.down
            self._finish()
            down.cut(self)
            return
        self.answered = True
        self._left_bytes = 0 if self.method == b"HEAD" or status in NO_BODY else length
        self._keep_nothing()
        self.down.answer_head(self, status, fields, length)

    def fits(self, size_bytes: int) -> bool:
        """Count so much of the answer's body, where it is not framed by the length that its head announces; whether
        that was announced. What is too much a client of HTTP/1.1 could take for another answer."""
        if self._left_bytes is None:
            return True
        self._left_bytes -= size_bytes
        return self._left_bytes >= 0

    @property
    def is_short(self) -> bool:
        """Less of the answer's body has come than its head announces."""
        return bool(self._left_bytes)

    def serve(self, status: int, fields: Fields, body: bytes) -> None:
        """Answer without an upstream."""
        self.answered = self.is_over = True
        self.down.answer_head(self, status, fields, len(body))
        if body:
            self.down.answer_piece(self, body)
        self.down.answer_end(self)

    def answer_ended(self) -> None:
        """The answer is complete; the upstream's side is free again if the request is."""
        assert self.upstream is not None
        self.is_over = True
        self.upstream.open -= 1
        self.down.answer_end(self)

    def switch(self, fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        """The upstream has changed to another protocol: what follows is no exchange."""
        self.is_over = True
        self._let_go()
        self.down.switched(self, fields, upgrade, upward, rest)

    def broken(self, message: str) -> None:
        """The upstream's connection has ended, or is of no use, before the end of the answer."""
        if self.is_over:
            return
        self._proxy.counts.upstream_errors += 1
        self._let_go()
        may_again = not self.answered and self._kept_bytes >= 0 and self.method in _IDEMPOTENT
        if may_again and self._attempts <= _MAX_RETRIES and self.upgrade is None:
            self._proxy.counts.retries += 1
            if not self._candidates:
                self._candidates = list(self._proxy.candidates(self))
            self._try_next()
            return
        self.fail(502, message)

    def timed_out(self) -> None:
        """The upstream has been silent for too long."""
        self._proxy.counts.upstream_errors += 1
        self.fail(504, "the upstream gave no answer in time")

    def fail(self, status: int, message: str) -> None:
        """There will be no answer, or no more of it."""
        if not self.is_over:
            self._finish()
            self._proxy.counts.refused += 1
            self.down.failed(self, status, message)

    # Attempts

    def _try_next(self) -> None:
        if not self._candidates:
            self.fail(503, "no upstream can be reached")
            return
        upstream = self._candidates.pop(0)
        while upstream.idle:
            pooled = upstream.idle.pop()
            if pooled.has_room:
                self._attach(upstream, pooled)
                return
        self._task = self._proxy.spawn(self._connect(upstream))

    async def _connect(self, upstream: Upstream) -> None:
        upward = await self._proxy.connect(upstream)
        self._task = None
        if self.is_over:
            if upward is not None:
                upward.put_back()
        elif upward is None:
            self._try_next()
        else:
            self._attach(upstream, upward)

    def _attach(self, upstream: Upstream, upward: Upward) -> None:
        self._attempts += 1
        self.upstream = upstream
        upstream.open += 1
        self.upward = upward
        upward.send_request(self)
        if self._kept_bytes > _MAX_KEPT_BYTES:
            self.down.room(self, True)
        if self.method not in _IDEMPOTENT or self._kept_bytes > _MAX_KEPT_BYTES:
            self._keep_nothing()

    def _keep_nothing(self) -> None:
        self._kept_bytes = -1
        self.pieces = []

    def _let_go(self) -> None:
        if self.upstream is not None and self.upward is not None:
            self.upstream.open -= 1
        self.upward = None

    def _finish(self) -> None:
        self.is_over = True
        upward = self.upward
        self._let_go()
        if upward is not None:
            upward.leave(self)
