"""What both sides of the proxy need of HTTP/2 (RFC 9113): streams that are exchanges, and how bytes get out."""

import asyncio
from typing import TYPE_CHECKING, cast

from bench.errors import ProtocolError
from bench.wire.header_blocks import HeaderReader
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME_BYTES,
    ErrorCode,
    encode_frame,
    encode_goaway,
)
from bench.wire.http2_sending import Stream
from bench.wire.prompt_writing import prompt_writer
from servers.proxies.exchange import Exchange
from servers.proxies.field_sections import read_head

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 256 * 1024, 16 << 20
"""How much of a body may be on its way to the proxy, and of all of a connection together."""

_MAX_UNSENT_BYTES = 256 * 1024
"""Of a body that may wait to be sent, before its source has to."""
_BURST_BYTES = 256 * 1024
_MAX_KEPT_BLOCKS = 256


class RelayedStream(Stream):
    """An exchange on a connection of HTTP/2, as long as either end has something to say on it."""

    __slots__ = ("exchange", "head", "is_done", "is_full", "quiet", "received_bytes", "trailers")

    def __init__(self, stream_id: int, send_window: int, exchange: Exchange | None) -> None:
        super().__init__(stream_id, send_window, STREAM_WINDOW_BYTES)
        self.end_flags = 0
        self.exchange = exchange
        self.head: list[tuple[bytes, bytes]] | None = None
        """The head that is to be sent, until it is."""
        self.trailers: list[tuple[bytes, bytes]] = []
        """What is to be sent behind the body."""
        self.is_done = False
        """Nothing more will be added to what is sent."""
        self.is_full = False
        """So much waits to be sent that its source was told to wait."""
        self.received_bytes = 0
        self.quiet = 0


class Http2End(Http2Peer[RelayedStream], asyncio.Protocol):
    """One connection. Subclasses know who opens streams, and what a header block is."""

    stream_window_bytes = STREAM_WINDOW_BYTES
    connection_window_bytes = CONNECTION_WINDOW_BYTES

    def __init__(self, proxy: "Layer7") -> None:
        super().__init__()
        self.transport: asyncio.Transport
        self.quiet = 0
        self.closed = False
        self._proxy = proxy
        self._reader = HeaderReader(read_head)
        self._blocked = False
        self._receiving = False
        self._to_begin: dict[RelayedStream, None] = {}
        """Streams whose head is to be sent."""
        self._blocks: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}
        self._blocks_version = 0

    def abort(self) -> None:
        """Let go of the connection."""
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._write = prompt_writer(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        self.quiet = 0
        self._receiving = True
        try:
            self.receive(data)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, error.code, str(error)))
            self._receiving = False
            self.send()
            self.broke(str(error))
            return
        self._receiving = False
        self.send()
        if self._blocked and not self.transport.is_closing():
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if not self.closed:
            self.send()
            self.transport.resume_reading()

    # Hooks

    def broke(self, reason: str) -> None:
        """The connection is of no further use: the peer broke the protocol."""

    # Output

    def begin(self, stream: RelayedStream, fields: list[tuple[bytes, bytes]]) -> None:
        """Have a stream begin with these fields; they go out with what follows at once, if something does."""
        stream.head = fields
        self._to_begin[stream] = None

    def add(self, stream: RelayedStream, data: bytes) -> None:
        """Send more of a stream's body."""
        self._send_head(stream)
        self.add_body(stream, data)
        if not stream.is_full and len(stream.body) - stream.sent_bytes > _MAX_UNSENT_BYTES:
            stream.is_full = True
            self.tell_room(stream, False)

    def finish(self, stream: RelayedStream, trailers: list[tuple[bytes, bytes]]) -> None:
        """Nothing follows on a stream but these."""
        stream.is_done, stream.trailers = True, trailers
        if stream.sent_bytes < len(stream.body):
            stream.end_flags = 0 if trailers else END_STREAM
        elif trailers:
            self._send_head(stream)
            self._send_trailers(stream)
        elif stream.head is not None:
            self._send_head(stream, END_STREAM)
            self.sent(stream)
        else:
            self.outgoing.append(encode_frame(DATA, END_STREAM, stream.id))
            self.sent(stream)

    def body_sent(self, stream: RelayedStream) -> None:
        if stream.is_done:
            if stream.trailers:
                self._send_trailers(stream)
            else:
                self.sent(stream)
        elif stream.is_full:
            stream.is_full = False
            self.tell_room(stream, True)

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        """Whether the source of what is sent on a stream may go on."""

    def sent(self, stream: RelayedStream) -> None:
        """All that a stream had to send is in `outgoing`."""

    def hold(self, stream: RelayedStream, has_room: bool) -> None:
        """Have the peer wait with more of a stream's body, or go on."""
        if has_room:
            self.release(stream)
            self.send()
        else:
            stream.held = True

    def send_heads(self) -> None:
        """Send the heads that nothing has followed so far."""
        to_begin, self._to_begin = self._to_begin, {}
        for stream in to_begin:
            if stream.id in self.streams:
                self._send_head(stream)
        self.send()

    def send(self) -> None:
        """Write what can be, unless more is about to be there."""
        if self._receiving or self.closed:
            return
        more = True
        while more:
            more = not self._blocked and self.send_bodies(_BURST_BYTES)
            if self.outgoing:
                data = b"".join(self.outgoing)
                self.outgoing.clear()
                self._write(data)

    def _send_head(self, stream: RelayedStream, end_flag: int = 0) -> None:
        fields, stream.head = stream.head, None
        if fields is not None:
            self._to_begin.pop(stream, None)
            self.send_block(stream.id, fields, end_flag)

    def _send_trailers(self, stream: RelayedStream) -> None:
        self.send_block(stream.id, stream.trailers, END_STREAM)
        self.sent(stream)

    def send_block(self, stream_id: int, fields: list[tuple[bytes, bytes]], end_flag: int) -> None:
        """Send a header block."""
        block = self._encode(fields)
        kind, flags = HEADERS, end_flag
        while len(block) > MAX_FRAME_BYTES:
            self.outgoing.append(encode_frame(kind, flags, stream_id, block[:MAX_FRAME_BYTES]))
            block, kind, flags = block[MAX_FRAME_BYTES:], CONTINUATION, 0
        self.outgoing.append(encode_frame(kind, flags | END_HEADERS, stream_id, block))

    def _encode(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        """The block of these fields; worked out once for as long as the encoder's table stays as it is."""
        writer, key = self.writer, tuple(fields)
        if writer.version != self._blocks_version:
            self._blocks.clear()
            self._blocks_version = writer.version
        block = self._blocks.get(key)
        if block is None:
            block = writer.encode(fields)
            if writer.version == self._blocks_version and len(self._blocks) < _MAX_KEPT_BLOCKS:
                self._blocks[key] = block
        return block

    def malformed(self, stream_id: int) -> None:
        """A message breaks the rules (section 8.1.1)."""
        self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
