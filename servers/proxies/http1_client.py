"""A client's connection over HTTP/1.1: its requests are exchanges, one at a time, in the order in which they came."""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from bench.errors import ProtocolError
from bench.wire.http1 import LAST_CHUNK, encode_chunk
from bench.wire.prompt_writing import prompt_writer
from servers.proxies.exchange import NO_BODY, Exchange
from servers.proxies.fields import Fields
from servers.proxies.http1_reading import RequestReader
from servers.proxies.splice import End, end_writing, pass_loss, reset

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_MAX_WAITING = 64
"""Requests that may wait behind the one under way; past it, the connection is not read."""
_LINGER_S = 1.0
"""How long a client that was refused may go on sending: closing at once would lose the answer (RFC 9112, 9.6)."""

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in _REASONS.items()}


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


class Http1Client(RequestReader, asyncio.Protocol):
    """What one client asks for."""

    __slots__ = (
        "_begun",
        "_blocked",
        "_chunks",
        "_current",
        "_discards",
        "_is_full",
        "_is_old",
        "_newest",
        "_out",
        "_proxy",
        "_refusal",
        "_tunnel",
        "_via",
        "_waiting",
        "has_ended",
        "quiet",
        "transport",
        "write",
    )

    def __init__(self, proxy: "Layer7") -> None:
        super().__init__()
        self.quiet = 0
        self.has_ended = False
        self.transport: asyncio.Transport
        self._proxy = proxy
        self._newest: Exchange | None = None
        """The one whose request is arriving."""
        self._waiting: deque[tuple[Exchange, bool]] = deque()
        """Exchanges whose turn has not come, with whether the client's HTTP is 1.0."""
        self._current: Exchange | None = None
        self._is_old = False
        """The client of the exchange under way speaks HTTP/1.0."""
        self._begun = False
        self._chunks = False
        self._discards = False
        """Nothing more is taken."""
        self._refusal: tuple[int, str] | None = None
        """What the client is told once it has had its answers."""
        self._via = b"via: %b\r\n" % proxy.answer_via
        self._is_full = False
        """Nothing is read for now: too much waits already."""
        self._blocked = False
        self._out: list[bytes] = []
        self._tunnel: End | None = None

    def abort(self) -> None:
        """Let go of the connection."""
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = prompt_writer(self.transport)
        self._proxy.counts.accepted += 1
        self._proxy.clients.add(self)
        self._proxy.watch.members.add(self)

    def data_received(self, data: bytes) -> None:
        self.quiet = 0
        if self._tunnel is not None:
            self._proxy.counts.bytes_up += len(data)
            self._tunnel.write(data)
            return
        if self._discards:
            return
        try:
            self.feed(data)
        except ProtocolError as error:
            if not self._discards:  # what follows a last request is nobody's
                self._refuse(error.code or 400, str(error))
                return
        self._begin_next()
        if len(self._waiting) > _MAX_WAITING or self.held is not None:
            self._is_full = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.has_ended = True
        if self._tunnel is not None:
            end_writing(self._tunnel, self)
            return True
        if self.mid_request or self._current is None:
            return False  # what has begun never ends, or nothing is owed
        self._discards = True  # it may still wait for its answers
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.clients.discard(self)
        self._proxy.watch.members.discard(self)
        self._discards = True
        self._waiting.clear()
        if self._tunnel is not None:
            pass_loss(self._tunnel, exc)
        elif self._current is not None:
            self._current.abandon()
            self._current = None

    def pause_writing(self) -> None:
        self._blocked = True
        self._tell_room()

    def resume_writing(self) -> None:
        self._blocked = False
        self._tell_room()
        self._begin_next()

    def _tell_room(self) -> None:
        if self._tunnel is not None:
            if self._blocked:
                self._tunnel.transport.pause_reading()
            else:
                self._tunnel.transport.resume_reading()
        elif self._current is not None and self._current.upward is not None:
            self._current.upward.room(self._current, not self._blocked)

    # RequestReader

    def head_received(
        self, method: bytes, target: bytes, authority: bytes, fields: Fields, upgrade: bytes | None
    ) -> None:
        has_body = self.chunked or bool(self.length)
        exchange = Exchange(self._proxy, self, method, target, authority, fields, self.length, has_body, upgrade)
        self._newest = exchange
        self._waiting.append((exchange, self.http_1_0))

    def body_received(self, data: bytes) -> None:
        assert self._newest is not None
        self._proxy.counts.bytes_up += len(data)
        self._newest.body(data)

    def request_received(self) -> None:
        assert self._newest is not None
        exchange, self._newest = self._newest, None
        if not self.keep_alive:
            self._discards = True
            exchange.is_last = True
        exchange.end()

    def _begin_next(self) -> None:
        while self._waiting and self._current is None and not self._blocked:
            exchange, is_old = self._waiting.popleft()
            self._current = exchange
            self._is_old = is_old
            self._begun = False
            self._proxy.begin(exchange)

    # Downstream

    def interim(self, exchange: Exchange, status: int, fields: Fields) -> None:
        if not self._is_old:
            lines = [b"%b: %b\r\n" % field for field in fields]
            self.write(b"%b%b\r\n" % (_status_line(status), b"".join(lines)))

    def answer_head(self, exchange: Exchange, status: int, fields: Fields, length: int | None) -> None:
        self._begun = True
        out = self._out
        out.append(_status_line(status))
        out += [b"%b: %b\r\n" % field for field in fields]
        out.append(self._via)
        self._chunks = False
        if not exchange.is_complete:
            self._discards = exchange.is_last = True
        if length is None and status not in NO_BODY and exchange.method != b"HEAD":
            if self._is_old:
                self._discards = exchange.is_last = True
            else:
                self._chunks = True
                out.append(b"transfer-encoding: chunked\r\n")
        out.append(b"connection: close\r\n\r\n" if exchange.is_last else b"\r\n")

    def answer_piece(self, exchange: Exchange, data: bytes) -> None:
        self._out.append(encode_chunk(data) if self._chunks else data)

    def answer_end(self, exchange: Exchange) -> None:
        if self._chunks:
            self._out.append(LAST_CHUNK)
        self.answer_flush()
        self._next(exchange)

    def answer_flush(self) -> None:
        self.quiet = 0
        if self._out:
            self.write(b"".join(self._out))
            self._out.clear()

    def failed(self, exchange: Exchange, status: int, message: str) -> None:
        if exchange is not self._current:
            return
        if self._begun:
            reset(self.transport)  # so that half of an answer is not taken for all of it
            return
        if not exchange.is_complete:
            self._discards = exchange.is_last = True
        self._answer(status, message, exchange.is_last, exchange.method == b"HEAD")
        self._next(exchange)

    def cut(self, exchange: Exchange) -> None:
        reset(self.transport)

    def switched(self, exchange: Exchange, fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.write(b"%b%bconnection: upgrade\r\nupgrade: %b\r\n\r\n%b" % (_status_line(101), lines, upgrade, rest))
        self._tunnel_to(upward)

    def connected(self, exchange: Exchange, upward: End) -> None:
        self.write(b"%b%b\r\n" % (_status_line(200), self._via))
        self._tunnel_to(upward)

    def _tunnel_to(self, upward: End) -> None:
        """From now on the client's bytes go to that connection as they are."""
        self._current = None
        self._tunnel = upward
        held, self.held = self.held, None
        if held:
            upward.write(held)
        if self._blocked:
            upward.transport.pause_reading()
        self.transport.resume_reading()

    def room(self, exchange: Exchange, has_room: bool) -> None:
        if self.transport.is_closing():
            return
        self._is_full = not has_room
        if has_room:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _next(self, exchange: Exchange) -> None:
        """That exchange is over."""
        self._current = None
        if exchange.is_last:
            self._close()
            return
        if self.held is not None:
            try:
                self.go_on()
            except ProtocolError as error:
                self._refuse(error.code or 400, str(error))
                return
        if not self.transport.is_closing():
            self._begin_next()
            self._close_if_refused()
            if self._is_full and len(self._waiting) <= _MAX_WAITING:
                self._is_full = False
                self.transport.resume_reading()
            if self.has_ended and self._current is None:
                self.transport.close()

    # Answers of the proxy's own

    def _answer(self, status: int, message: str, is_last: bool, head_only: bool = False) -> None:
        body = message.encode() + b"\n"
        closing = b"connection: close\r\n" if is_last else b""
        head = b"%bcontent-type: text/plain\r\n%b%bcontent-length: %d\r\n\r\n" % (
            _status_line(status),
            self._via,
            closing,
            len(body),
        )
        self.write(head if head_only else head + body)

    def _refuse(self, status: int, message: str) -> None:
        """The client broke the rules. What it has asked for before is answered first."""
        self._discards = True
        self._proxy.counts.refused += 1
        newest, self._newest = self._newest, None
        if newest is not None and newest is self._current:
            newest.abandon()
            self._current = None
            if newest.answered:
                reset(self.transport)
                return
        elif newest is not None:
            self._waiting.pop()
        self._refusal = status, message
        self._begin_next()
        self._close_if_refused()

    def _close_if_refused(self) -> None:
        if self._refusal is not None and self._current is None and not self._waiting:
            self._answer(*self._refusal, is_last=True)
            self._refusal = None
            self._close()

    def _close(self) -> None:
        """Let the client read what it was sent, and then close."""
        if not self.transport.is_closing():
            if not self.has_ended:
                self.transport.write_eof()
                self._proxy.loop.call_later(_LINGER_S, self.transport.close)
            else:
                self.transport.close()

    # Watched

    def looked_at(self, looks: int) -> None:
        if self.quiet <= looks:
            return
        if self._tunnel is not None:
            self._proxy.counts.idle_closed += 1
            self.transport.close()
        elif self._current is None:
            self._proxy.counts.idle_closed += 1
            if self.mid_request:
                self._refuse(408, "the request did not come in time")
            else:
                self.transport.close()
        elif self._blocked or not self._current.is_complete:  # it is the client that is waited for
            self._proxy.counts.idle_closed += 1
            reset(self.transport)
