"""What both ends of an HTTP/2 connection have in common (RFC 9113), without I/O.

An end is a subclass: bytes go in through `receive`, what is to be sent gathers in `outgoing`, and what the frames mean
comes out as calls of hooks that the subclass defines. A call costs less than an event object, and this is the hot path.

Errors come in two sizes (section 5.4). A stream's ends in `reset`; a connection's raises ProtocolError, whose code is
the ErrorCode for GOAWAY, and the connection is of no further use.
"""

from abc import ABC, abstractmethod
from struct import Struct
from typing import ClassVar

from bench.errors import ProtocolError
from bench.wire.http2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW_BYTES,
    PADDED,
    PING,
    SETTINGS,
    SETTINGS_ACK,
    WITH_PRIORITY,
    ErrorCode,
    Setting,
    encode_frame,
    encode_window_update,
    read_number,
    read_settings,
    require_connection,
    require_length,
    require_stream,
    without_padding,
)
from bench.wire.http2_sending import S, Sender

MAX_BLOCK_BYTES = 64 * 1024
MAX_CONTINUATIONS = 16
"""The longest header block that is put together, and of how many CONTINUATION frames: nothing else can be read until it
is complete, so an endless one would hold the connection and its memory."""

_read_head = Struct(">IBI").unpack_from  # length (24 bits) and type (8), flags, stream


class Http2Peer(Sender[S], ABC):
    """One end of a connection. `streams` holds those that frames are expected on, or still have a body to send."""

    stream_window_bytes: ClassVar[int]
    """How much of a body the other end may send before it is let go on: the SETTINGS_INITIAL_WINDOW_SIZE announced."""
    connection_window_bytes: ClassVar[int]
    """The same for all bodies of the connection together."""
    peer_may_push: ClassVar[bool]
    """Whether the other end may say ENABLE_PUSH of 1: a client may, a server may not (section 6.5.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.peer_max_streams = MAX_STREAM_ID
        """The other end's SETTINGS_MAX_CONCURRENT_STREAMS."""
        self._receive_window = self.connection_window_bytes
        self._pending = b""
        self._greeted = False
        # The header block that is being put together.
        self._block_stream = 0
        self._block_flags = 0
        self._block: list[bytes] = []

    # Hooks

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        """A header block is complete. It must be decoded whatever becomes of the stream (section 4.3)."""

    def body_received(self, stream: S, data: bytes, end_stream: bool) -> None:
        """A piece of body on one of `streams`; it may be empty."""

    @abstractmethod
    def unlisted(self, stream_id: int) -> S | None:
        """A piece of body came for a stream that has been opened and is not one of `streams`. None to ignore it."""

    def stream_ended(self, stream_id: int, stream: S | None) -> None:
        """The other end reset a stream; it is not one of `streams` any more, if it was."""

    def settings_received(self) -> None:
        """The other end's settings changed."""

    def goaway_received(self, last_id: int, code: int) -> None:
        """The other end looks at no stream of ours after `last_id`, and opens no more itself."""

    @abstractmethod
    def is_idle(self, stream_id: int) -> bool:
        """Whether nobody has opened that stream yet."""

    def strain(self) -> None:
        """The other end caused work that does nothing for anybody: a place to raise, if it does so too often."""

    def fail_stream(self, stream_id: int, code: ErrorCode) -> None:
        """The other end broke a rule on a stream, at the cost of that stream."""
        self.strain()
        self.reset(stream_id, code)

    # Input

    def begin_with(self, settings: bytes) -> None:
        """Take the payload of a SETTINGS frame that came before the connection was one of HTTP/2. Nothing acknowledges
        it but the change to HTTP/2 itself (RFC 7540, section 3.2.1). Raises ProtocolError."""
        for name, value in read_settings(settings):
            self._set(name, value)

    def receive(self, data: bytes) -> None:
        """Take bytes from the other end, cut anywhere. Raises ProtocolError."""
        data = self.take_pending(data)
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            word, flags, stream_id = _read_head(data, at)
            kind = word & 0xFF
            if not self._greeted:
                if kind != SETTINGS or flags & ACK:
                    raise ProtocolError("the first frame is not SETTINGS", ErrorCode.PROTOCOL_ERROR)
                self._greeted = True
            if word >> 8 > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {word >> 8} bytes", ErrorCode.FRAME_SIZE_ERROR)
            end = at + HEAD_BYTES + (word >> 8)
            if end > size:
                break
            stream_id &= MAX_STREAM_ID  # the first bit is reserved
            if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
                raise ProtocolError("another frame inside a header block", ErrorCode.PROTOCOL_ERROR)
            if kind <= CONTINUATION:  # what is unknown is ignored (section 5.5)
                _HANDLERS[kind](self, flags, stream_id, data[at + HEAD_BYTES : end])
            at = end
        self._pending = data[at:]

    def take_pending(self, data: bytes) -> bytes:
        """`data`, behind what `receive` has kept of what came before: so it begins with a frame."""
        pending, self._pending = self._pending, b""
        return pending + data if pending else data

    def keep_pending(self, data: bytes) -> None:
        """Have `data`, which is less than what is worth looking at, stand before what comes next."""
        self._pending = data

    @property
    def mid_block(self) -> bool:
        """Whether the next frame must continue a header block."""
        return self._block_stream != 0

    def release(self, stream: S) -> None:
        """What came on a stream that was held is used up: let the other end go on."""
        stream.held = False
        increment = self.stream_window_bytes - stream.receive_window
        if increment > self.stream_window_bytes // 2:
            self.outgoing.append(encode_window_update(stream.id, increment))
            stream.receive_window = self.stream_window_bytes

    def take_in(self, size: int) -> None:
        """Account for `size` bytes of DATA payload on the connection (section 6.9.1)."""
        self._receive_window -= size
        full = self.connection_window_bytes
        if self._receive_window < full // 2:
            if self._receive_window < 0:
                raise ProtocolError("more data than the connection's window", ErrorCode.FLOW_CONTROL_ERROR)
            self.outgoing.append(encode_window_update(0, full - self._receive_window))
            self._receive_window = full

    # Frames, by type. The caller has seen to their place and their length's limit.

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        require_stream(stream_id)
        size = len(payload)
        self.take_in(size)  # padding counts
        if flags & PADDED:
            payload = without_padding(payload)
        if not payload and not flags & END_STREAM:
            self.strain()
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise ProtocolError("DATA on an idle stream", ErrorCode.PROTOCOL_ERROR)
            stream = self.unlisted(stream_id)
            if stream is None:
                return
        stream.receive_window -= size
        if stream.receive_window < self.stream_window_bytes // 2:
            if stream.receive_window < 0:
                self.fail_stream(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
                return
            if not (flags & END_STREAM or stream.held):
                increment = self.stream_window_bytes - stream.receive_window
                self.outgoing.append(encode_window_update(stream_id, increment))
                stream.receive_window = self.stream_window_bytes
        self.body_received(stream, payload, flags & END_STREAM != 0)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        require_stream(stream_id)
        if flags & (PADDED | WITH_PRIORITY):
            if flags & PADDED:
                payload = without_padding(payload)
            if flags & WITH_PRIORITY:
                if len(payload) < 5:
                    raise ProtocolError("HEADERS too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
                payload = payload[5:]
        if flags & END_HEADERS:
            self.headers_received(stream_id, payload, flags & END_STREAM != 0)
        else:
            self._block_stream, self._block_flags, self._block = stream_id, flags, [payload]

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        require_stream(stream_id)
        require_length(payload, 5)  # and that is all: priorities of this kind are given up (section 5.3.2)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        require_stream(stream_id)
        require_length(payload, 4)
        if self.is_idle(stream_id):
            raise ProtocolError("RST_STREAM on an idle stream", ErrorCode.PROTOCOL_ERROR)
        self.strain()
        self.stream_ended(stream_id, self.drop(stream_id))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        require_connection(stream_id)
        if flags & ACK:
            require_length(payload, 0)
            return
        self.strain()
        for name, value in read_settings(payload):
            self.strain()
            self._set(name, value)
        self.outgoing.append(SETTINGS_ACK)
        self.settings_received()

    def _set(self, name: int, value: int) -> None:
        match name:
            case Setting.HEADER_TABLE_SIZE:
                self.writer.limit_table(value)
            case Setting.ENABLE_PUSH:
                if value > self.peer_may_push:
                    raise ProtocolError(f"ENABLE_PUSH is {value}", ErrorCode.PROTOCOL_ERROR)
            case Setting.MAX_CONCURRENT_STREAMS:
                self.peer_max_streams = value
            case Setting.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW_BYTES:
                    raise ProtocolError(f"INITIAL_WINDOW_SIZE is {value}", ErrorCode.FLOW_CONTROL_ERROR)
                self.resize_stream_windows(value)
            case Setting.MAX_FRAME_SIZE:
                if not MAX_FRAME_BYTES <= value < 2**24:
                    raise ProtocolError(f"MAX_FRAME_SIZE is {value}", ErrorCode.PROTOCOL_ERROR)
            case _:  # what is unknown is ignored; the peer's MAX_HEADER_LIST_SIZE is far above what we send
                pass

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        # A client may not send it at all, and a server may not after our ENABLE_PUSH of 0 (section 8.4).
        raise ProtocolError("PUSH_PROMISE", ErrorCode.PROTOCOL_ERROR)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        require_connection(stream_id)
        require_length(payload, 8)
        if not flags & ACK:
            self.strain()
            self.outgoing.append(encode_frame(PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        require_connection(stream_id)
        if len(payload) < 8:
            raise ProtocolError("GOAWAY is too short", ErrorCode.FRAME_SIZE_ERROR)
        self.goaway_received(read_number(payload)[0] & MAX_STREAM_ID, read_number(payload, 4)[0])

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        require_length(payload, 4)
        increment = read_number(payload)[0] & MAX_WINDOW_BYTES
        if stream_id == 0:
            if increment == 0:
                raise ProtocolError("WINDOW_UPDATE of 0", ErrorCode.PROTOCOL_ERROR)
            self.send_window += increment
            if self.send_window > MAX_WINDOW_BYTES:
                raise ProtocolError("a window over 2^31-1 bytes", ErrorCode.FLOW_CONTROL_ERROR)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise ProtocolError("WINDOW_UPDATE on an idle stream", ErrorCode.PROTOCOL_ERROR)
        elif increment == 0:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif stream.send_window + increment > MAX_WINDOW_BYTES:
            self.fail_stream(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.widen(stream, increment)

    def _on_continuation(self, flags: int, _stream_id: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ProtocolError("CONTINUATION of nothing", ErrorCode.PROTOCOL_ERROR)
        block = self._block
        block.append(payload)
        if len(block) > MAX_CONTINUATIONS + 1 or sum(map(len, block)) > MAX_BLOCK_BYTES:
            raise ProtocolError("a header block without end", ErrorCode.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            stream_id, self._block_stream, self._block = self._block_stream, 0, []
            self.headers_received(stream_id, b"".join(block), self._block_flags & END_STREAM != 0)


_HANDLERS = (
    Http2Peer._on_data,
    Http2Peer._on_headers,
    Http2Peer._on_priority,
    Http2Peer._on_rst_stream,
    Http2Peer._on_settings,
    Http2Peer._on_push_promise,
    Http2Peer._on_ping,
    Http2Peer._on_goaway,
    Http2Peer._on_window_update,
    Http2Peer._on_continuation,
)
