"""A connection with an upstream over HTTP/1.1: one exchange at a time, and then it waits for the next."""

import asyncio
from typing import TYPE_CHECKING, cast

from bench.errors import ProtocolError
from bench.wire.http1 import LAST_CHUNK, encode_chunk
from bench.wire.prompt_writing import prompt_writer
from servers.proxies.exchange import Exchange
from servers.proxies.fields import Fields
from servers.proxies.http1_reading import AnswerReader
from servers.proxies.splice import WatchedEnd, end_writing, pass_loss
from servers.proxies.upstreams import Upstream

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7


class Http1Upstream(AnswerReader, asyncio.Protocol):
    """What a client's requests are sent to."""

    __slots__ = (
        "_exchange",
        "_holds_back",
        "_is_last",
        "_proxy",
        "_switched",
        "_tunnel",
        "_upstream",
        "_via",
        "has_ended",
        "quiet",
        "transport",
        "write",
    )

    def __init__(self, proxy: "Layer7", upstream: Upstream) -> None:
        super().__init__()
        self.quiet = 0
        self.has_ended = False
        self.transport: asyncio.Transport
        self._proxy = proxy
        self._upstream = upstream
        self._exchange: Exchange | None = None
        self._tunnel: WatchedEnd | None = None
        self._switched: tuple[Fields, bytes] | None = None
        self._via = b"via: %b\r\n" % proxy.request_via
        self._is_last = False
        self._holds_back = False
        """The exchange's client takes no more for now, so that silence is not the upstream's."""

    # Upward

    def send_request(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.quiet = 0
        self.expect(exchange.method)
        out = [b"%b %b HTTP/1.1\r\n" % (exchange.method, exchange.target)]
        out += [b"%b: %b\r\n" % field for field in exchange.fields]
        out.append(self._via)
        if exchange.upgrade is not None:
            out.append(b"connection: upgrade\r\nupgrade: %b\r\n" % exchange.upgrade)
        is_chunked = exchange.has_body and exchange.length is None
        out.append(b"transfer-encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")
        if exchange.pieces:
            out += map(encode_chunk, exchange.pieces) if is_chunked else exchange.pieces
        if is_chunked and exchange.is_complete:
            out.append(LAST_CHUNK)
        self.write(b"".join(out))

    def send_piece(self, exchange: Exchange, data: bytes) -> None:
        self.quiet = 0
        self.write(data if exchange.length is not None else encode_chunk(data))

    def send_end(self, exchange: Exchange) -> None:
        self.quiet = 0
        if exchange.has_body and exchange.length is None:
            self.write(LAST_CHUNK)

    def leave(self, exchange: Exchange) -> None:
        self._exchange = None
        self.transport.abort()

    def room(self, exchange: Exchange, has_room: bool) -> None:
        self._holds_back = not has_room
        self.quiet = 0
        if self.transport.is_closing():
            return
        if has_room:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def has_room(self) -> bool:
        """Whether it takes an exchange; it is not asked while it has one."""
        return not (self.has_ended or self.transport.is_closing())

    def put_back(self) -> None:
        if self.has_room:
            self._upstream.idle.append(self)

    def become_tunnel(self, other: WatchedEnd) -> None:
        """From now on its bytes go to that connection as they are."""
        self._tunnel = other
        self._exchange = None

    def abort(self) -> None:
        """Let go of the connection."""
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = prompt_writer(self.transport)
        self._proxy.upward.add(self)
        self._proxy.answers.members.add(self)

    def data_received(self, data: bytes) -> None:
        self.quiet = 0
        if self._tunnel is not None:
            self._proxy.counts.bytes_down += len(data)
            self._tunnel.quiet = 0
            self._tunnel.write(data)
            return
        if self._exchange is None:
            self.transport.abort()  # an answer that nobody asked for
            return
        down = self._exchange.down
        try:
            self.feed(data)
        except ProtocolError as error:
            self._give_up(str(error))
            return
        if self.rest is not None:
            self._switch(self.rest)
        elif self._exchange is not None:
            down.answer_flush()

    def eof_received(self) -> bool:
        self.has_ended = True
        if self._tunnel is not None:
            end_writing(self._tunnel, self)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.upward.discard(self)
        self._proxy.answers.members.discard(self)
        if self._tunnel is not None:
            pass_loss(self._tunnel, exc)
            return
        exchange = self._exchange
        if exchange is None:
            if self in self._upstream.idle:
                self._upstream.idle.remove(self)
        elif exc is None and self.ends_with_connection and self.has_ended:
            self._exchange = None
            exchange.answer_ended()
        else:
            self._give_up("the upstream closed the connection before its answer was complete")

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.transport.pause_reading()
        elif self._exchange is not None:
            self._exchange.down.room(self._exchange, False)

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.transport.resume_reading()
        elif self._exchange is not None:
            self._exchange.down.room(self._exchange, True)

    # AnswerReader

    def head_received(self, status: int, fields: Fields, upgrade: bytes | None) -> None:
        exchange = self._exchange
        if exchange is None:
            raise ProtocolError("an answer that nobody asked for")
        if status >= 200:
            self._is_last = not (self.keep_alive and exchange.is_complete)
            exchange.head(status, fields, self.length)
        elif status != 101:
            exchange.down.interim(exchange, status, fields)
        elif exchange.upgrade is None or upgrade is None:
            raise ProtocolError("the upstream changed to a protocol that was not asked for")
        else:
            self._switched = fields, upgrade

    def body_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if not self.transport.is_closing():
                raise ProtocolError("more of an answer than there is")
            return
        self._proxy.counts.bytes_down += len(data)
        exchange.down.answer_piece(exchange, data)

    def answer_received(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._is_last or self.has_ended:
            self.transport.close()
        else:
            self.put_back()
        exchange.answer_ended()

    def _switch(self, rest: bytes) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or self._switched is None:
            self.transport.abort()
            return
        fields, upgrade = self._switched
        self._tunnel = cast(WatchedEnd, exchange.down)
        exchange.switch(fields, upgrade, self, rest)

    # Watched

    def looked_at(self, looks: int) -> None:
        exchange = self._exchange
        if self.quiet <= looks or self._tunnel is not None:
            return
        if exchange is None:
            self.transport.close()
        elif exchange.is_complete and not self._holds_back:
            exchange.timed_out()

    def _give_up(self, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        self.transport.abort()
        if exchange is not None:
            exchange.broken(message)
