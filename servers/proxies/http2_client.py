"""A client's connection over HTTP/2: each of its streams is an exchange."""

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
from servers.proxies.exchange import Exchange
from servers.proxies.field_sections import (
    MAX_SECTION_BYTES,
    answer_section,
    exchange_of,
    is_request,
    lower,
    refusal,
)
from servers.proxies.fields import Fields
from servers.proxies.http2_end import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, Http2End, RelayedStream
from servers.proxies.splice import End
from servers.strain import Strain

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_MAX_STREAMS = 256

_OPENING = encode_settings(
    {
        Setting.MAX_CONCURRENT_STREAMS: _MAX_STREAMS,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: MAX_SECTION_BYTES,
    }
) + encode_window_update(0, CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)


class Http2Client(Http2End):
    """What one client asks for."""

    peer_may_push = True

    def __init__(self, proxy: "Layer7") -> None:
        super().__init__(proxy)
        self._preface = PREFACE
        self._last_id = 0
        self._strain = Strain()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.counts.accepted += 1
        self._proxy.clients.add(self)
        self._proxy.watch.members.add(self)
        self._write(_OPENING)

    def data_received(self, data: bytes) -> None:
        if self._preface:
            size = min(len(data), len(self._preface))
            if data[:size] != self._preface[:size]:
                self.transport.abort()  # not HTTP/2 at all
                return
            self._preface, data = self._preface[size:], data[size:]
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.clients.discard(self)
        self._proxy.watch.members.discard(self)
        self._abandon_all()

    def broke(self, reason: str) -> None:
        self._abandon_all()
        self.transport.close()

    def _abandon_all(self) -> None:
        self.closed = True
        for stream in list(self.streams.values()):
            if stream.exchange is not None:
                stream.exchange.abandon()
        self.streams.clear()

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._reader.read(block)
        stream = self.streams.get(stream_id)
        if stream is not None:  # trailers, which are not passed on (RFC 9110, section 6.5.1)
            if head is None or head.pseudo or not end_stream or stream.exchange is None or stream.exchange.is_complete:
                self.malformed(stream_id)
            else:
                self._request_ended(stream)
            return
        if stream_id % 2 == 0:
            raise ProtocolError("a client's streams have odd ids", ErrorCode.PROTOCOL_ERROR)
        if stream_id <= self._last_id:
            return  # of a stream that was reset, or is over
        self._last_id = stream_id
        if len(self.streams) >= _MAX_STREAMS:
            self.fail_stream(stream_id, ErrorCode.REFUSED_STREAM)
        elif head is None or not is_request(head):
            self.malformed(stream_id)
        else:
            self._open(stream_id, head, end_stream)

    def _open(self, stream_id: int, head: Head, end_stream: bool) -> None:
        exchange = exchange_of(self._proxy, self, head, not end_stream, stream_id)
        stream = self.streams[stream_id] = RelayedStream(stream_id, self.peer_stream_window, exchange)
        if end_stream:
            self._request_ended(stream)
        if not exchange.is_over:
            self._proxy.begin(exchange)

    def _request_ended(self, stream: RelayedStream) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if exchange.length is not None and exchange.length != stream.received_bytes:
            self.malformed(
                stream.id
            )  # section 8.1.1: the next server would wait for the rest, or take it for a request
            return
        exchange.end()

    def body_received(self, stream: RelayedStream, data: bytes, end_stream: bool) -> None:
        exchange = stream.exchange
        if exchange is None or exchange.is_complete:
            self.malformed(stream.id)
            return
        stream.received_bytes += len(data)
        if exchange.length is not None and stream.received_bytes > exchange.length:
            self.malformed(stream.id)
            return
        if data:
            self._proxy.counts.bytes_up += len(data)
            exchange.body(data)
        if end_stream:
            self._request_ended(stream)

    def unlisted(self, stream_id: int) -> None:
        return None  # a late frame of a stream that is over

    def stream_ended(self, stream_id: int, stream: RelayedStream | None) -> None:
        if stream is not None and stream.exchange is not None:
            stream.exchange.abandon()

    def reset(self, stream_id: int, code: ErrorCode) -> RelayedStream | None:
        stream = super().reset(stream_id, code)
        self.stream_ended(stream_id, stream)
        return stream

    def is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id > self._last_id

    def strain(self) -> None:
        if self._strain.is_too_much():
            raise ProtocolError("too much work for nothing", ErrorCode.ENHANCE_YOUR_CALM)

    # Http2End

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        exchange = stream.exchange
        if exchange is not None and exchange.upward is not None:
            exchange.upward.room(exchange, has_room)

    def sent(self, stream: RelayedStream) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if exchange.is_complete:
            self.drop(stream.id)
        else:
            self.reset(stream.id, ErrorCode.NO_ERROR)  # the rest of the request is not wanted (section 8.1)

    # Downstream

    def interim(self, exchange: Exchange, status: int, fields: Fields) -> None:
        if exchange.stream in self.streams:
            self.send_block(exchange.stream, [(b":status", b"%d" % status), *lower(fields)], 0)
            self.send()

    def answer_head(self, exchange: Exchange, status: int, fields: Fields, length: int | None) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.begin(stream, answer_section(status, fields, self._proxy.answer_via))

    def answer_piece(self, exchange: Exchange, data: bytes) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None and data:
            self.add(stream, data)

    def answer_end(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.finish(stream, exchange.trailers)
            self.quiet = 0
            self._proxy.loop.call_soon(self.send)  # not before all is looked at that came with it

    def answer_flush(self) -> None:
        self.send_heads()

    def failed(self, exchange: Exchange, status: int, message: str) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is None:
            return
        if exchange.answered and stream.head is None:
            self.reset(stream.id, ErrorCode.INTERNAL_ERROR)
        else:
            section, text = refusal(status, message, self._proxy.answer_via)
            self.begin(stream, section)
            if exchange.method != b"HEAD":
                self.add(stream, text)
            self.finish(stream, [])
        self.send()

    def cut(self, exchange: Exchange) -> None:
        if exchange.stream in self.streams:
            self.reset(exchange.stream, ErrorCode.INTERNAL_ERROR)
            self.send()

    def switched(self, exchange: Exchange, fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        raise AssertionError("no request of HTTP/2 changes the protocol")

    def connected(self, exchange: Exchange, upward: End) -> None:
        raise AssertionError("tunnels are not offered to clients of HTTP/2")

    def room(self, exchange: Exchange, has_room: bool) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.hold(stream, has_room)

    # Watched

    def looked_at(self, looks: int) -> None:
        if self.quiet > looks and not any(s.exchange and s.exchange.is_complete for s in self.streams.values()):
            self._proxy.counts.idle_closed += 1
            self.transport.close()
