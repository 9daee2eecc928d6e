"""A connection with an upstream over HTTP/2: many exchanges at a time."""

import asyncio
from typing import TYPE_CHECKING

from bench.errors import ProtocolError
from bench.wire.header_blocks import Head
from bench.wire.http2_frames import (
    INITIAL_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_settings,
    encode_window_update,
)
from servers.proxies.exchange import Downstream, Exchange
from servers.proxies.field_sections import request_section, status_of
from servers.proxies.http2_end import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, Http2End, RelayedStream
from servers.proxies.upstreams import Upstream

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_MAX_STREAMS = 100
"""Of a connection, where the upstream allows more."""
_MAX_IDS = 2**30

_OPENING = (
    PREFACE
    + encode_settings({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES})
    + encode_window_update(0, CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
)


class Http2Upstream(Http2End):
    """What clients' requests are sent to."""

    peer_may_push = False

    def __init__(self, proxy: "Layer7", upstream: Upstream) -> None:
        super().__init__(proxy)
        self._upstream = upstream
        self._next_id = 1
        self._goes_away = False
        self._told: set[Downstream] = set()
        """Who was told something of an answer since the last flush."""

    @property
    def has_room(self) -> bool:
        """Whether it takes one more exchange."""
        most = min(_MAX_STREAMS, self.peer_max_streams)
        return not (self.closed or self._goes_away) and len(self.streams) < most and self._next_id < _MAX_IDS

    # Upward

    def send_request(self, exchange: Exchange) -> None:
        stream = RelayedStream(self._next_id, self.peer_stream_window, exchange)
        self._next_id += 2
        self.streams[stream.id] = stream
        exchange.upward_stream = stream.id
        self.put_back()
        is_secure = self._proxy.spec.upstream_tls != "off"
        self.begin(stream, request_section(exchange, is_secure, self._proxy.request_via))
        for piece in exchange.pieces:
            self.add(stream, piece)
        if exchange.is_complete:
            self.finish(stream, [])
        self.send_heads()

    def send_piece(self, exchange: Exchange, data: bytes) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None and data:
            self.add(stream, data)
            self.send()

    def send_end(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            self.finish(stream, [])
            self.send()

    def leave(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            stream.exchange = None
            self.reset(stream.id, ErrorCode.CANCEL)
            self.put_back()
            self.send()

    def room(self, exchange: Exchange, has_room: bool) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            stream.quiet = 0
            self.hold(stream, has_room)

    def put_back(self) -> None:
        """Be among those that wait for exchanges, if there is room."""
        idle = self._upstream.idle
        if self.has_room != (self in idle):
            if self.has_room:
                idle.append(self)
            else:
                idle.remove(self)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.upward.add(self)
        self._proxy.answers.members.add(self)
        self._write(_OPENING)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        for down in self._told:
            down.answer_flush()
        self._told.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.upward.discard(self)
        self._proxy.answers.members.discard(self)
        self._break_all("the upstream closed the connection before its answer was complete")

    def broke(self, reason: str) -> None:
        self.transport.abort()
        self._break_all(reason)

    def _break_all(self, reason: str) -> None:
        self.closed = True
        self.put_back()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            if stream.exchange is not None:
                stream.exchange.broken(reason)

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._reader.read(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise ProtocolError("HEADERS on an idle stream", ErrorCode.PROTOCOL_ERROR)
            return
        exchange = stream.exchange
        stream.quiet = 0
        if head is None or exchange is None:
            self.malformed(stream_id)
        elif exchange.answered:
            if head.pseudo or not end_stream:
                self.malformed(stream_id)
            else:
                exchange.trailers = head.fields
                self._answer_ended(stream)
        else:
            self._head_received(stream, exchange, head)
            if end_stream and stream.exchange is exchange:
                self._answer_ended(stream)

    def _head_received(self, stream: RelayedStream, exchange: Exchange, head: Head) -> None:
        status = status_of(head)
        if status is None:
            self.malformed(stream.id)
        elif status < 200:
            exchange.down.interim(exchange, status, head.fields)
        else:
            self._told.add(exchange.down)
            exchange.head(status, head.fields, head.content_length)

    def body_received(self, stream: RelayedStream, data: bytes, end_stream: bool) -> None:
        exchange = stream.exchange
        stream.quiet = 0
        if exchange is None or not exchange.answered or not exchange.fits(len(data)):
            self.malformed(stream.id)
            return
        if data:
            self._proxy.counts.bytes_down += len(data)
            self._told.add(exchange.down)
            exchange.down.answer_piece(exchange, data)
        if end_stream:
            self._answer_ended(stream)

    def _answer_ended(self, stream: RelayedStream) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if not exchange.answered or exchange.is_short:
            self.malformed(stream.id)
            return
        stream.exchange = None
        if stream.is_done and stream.sent_bytes >= len(stream.body):
            self.drop(stream.id)
        else:
            self.reset(stream.id, ErrorCode.NO_ERROR)
        self.put_back()
        exchange.answer_ended()

    def unlisted(self, stream_id: int) -> None:
        return None

    def stream_ended(self, stream_id: int, stream: RelayedStream | None) -> None:
        if stream is not None and stream.exchange is not None:
            exchange, stream.exchange = stream.exchange, None
            exchange.broken("the upstream gave the request up")
        self.put_back()

    def reset(self, stream_id: int, code: ErrorCode) -> RelayedStream | None:
        stream = super().reset(stream_id, code)
        if stream is not None:
            self.stream_ended(stream_id, stream)
        return stream

    def is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id >= self._next_id

    def settings_received(self) -> None:
        self.put_back()

    def goaway_received(self, last_id: int, code: int) -> None:
        self._goes_away = True
        self.put_back()
        for stream in [stream for stream in self.streams.values() if stream.id > last_id]:
            self.drop(stream.id)
            self.stream_ended(stream.id, stream)
        if not self.streams:
            self.transport.close()

    # Http2End

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        if stream.exchange is not None:
            stream.exchange.down.room(stream.exchange, has_room)

    # Watched

    def looked_at(self, looks: int) -> None:
        if not self.streams:
            if self.quiet > looks:
                self.transport.close()
            return
        for stream in list(self.streams.values()):
            exchange = stream.exchange
            stream.quiet += 1
            if stream.quiet > looks and exchange is not None and exchange.is_complete and not stream.held:
                exchange.timed_out()
