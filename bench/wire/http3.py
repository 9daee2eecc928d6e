"""HTTP/3 (RFC 9114) on the streams of a QUIC connection: frames, control streams, and header blocks (QPACK, RFC 9204).

Neither end uses a dynamic table, nor allows the other to. So a block means the same fields wherever it stands, nothing
is ever blocked, and there are no encoder and decoder streams to be kept: what a block means is worked out once.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Generic, TypeVar

import pylsqpack
from aioquic.quic.connection import QuicConnection

from bench.errors import ProtocolError
from bench.wire.quic_varint import encode_varint, read_varint

ALPN = "h3"

MAX_BLOCK_BYTES = 32 * 1024
"""The longest header block that is read."""

MAX_FIELDS_BYTES = 32 * 1024
"""The longest list of fields, each counted with 32 bytes beside its own (SETTINGS_MAX_FIELD_SECTION_SIZE)."""

_MAX_CONTROL_FRAME_BYTES = 4096
_MAX_KEPT_BLOCKS, _MAX_KEPT_BLOCK_BYTES = 256, 256

Fields = Sequence[tuple[bytes, bytes]]
T = TypeVar("T")


class ErrorCode(IntEnum):
    """Section 8.1, and RFC 9204, section 6."""

    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class Frame(IntEnum):
    """Section 7.2."""

    DATA = 0x0
    HEADERS = 0x1
    CANCEL_PUSH = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    GOAWAY = 0x7
    MAX_PUSH_ID = 0xD


class StreamType(IntEnum):
    """Section 6.2, and RFC 9204, section 4.2."""

    CONTROL = 0
    PUSH = 1
    QPACK_ENCODER = 2
    QPACK_DECODER = 3


_OF_HTTP2 = frozenset((0x2, 0x6, 0x8, 0x9))
"""Frames of HTTP/2 that HTTP/3 has not (section 7.2.8)."""

_ONLY_CONTROL = frozenset((Frame.CANCEL_PUSH, Frame.SETTINGS, Frame.GOAWAY, Frame.MAX_PUSH_ID)) | _OF_HTTP2
_NEVER_CONTROL = frozenset((Frame.DATA, Frame.HEADERS, Frame.PUSH_PROMISE)) | _OF_HTTP2

_SETTING_MAX_FIELDS = 0x6
_SETTINGS_OF_HTTP2 = frozenset((0x0, 0x2, 0x3, 0x4, 0x5))


def frame_head(kind: int, size: int) -> bytes:
    """What stands before the payload of a frame."""
    return encode_varint(kind) + encode_varint(size)


def encode_frame(kind: int, payload: bytes) -> bytes:
    """A whole frame."""
    return frame_head(kind, len(payload)) + payload


OPENING = encode_varint(StreamType.CONTROL) + encode_frame(
    Frame.SETTINGS, encode_varint(_SETTING_MAX_FIELDS) + encode_varint(MAX_FIELDS_BYTES)
)
"""What either end says first on its control stream. The tables of QPACK are empty where nothing is said of them."""


def encode_block(fields: Fields) -> bytes:
    """The header block of fields, without a dynamic table."""
    _, block = pylsqpack.Encoder().encode(0, list(fields))
    return block


class BlockReader(Generic[T]):
    """Decodes header blocks. `parse` makes of the fields what its user needs of them."""

    def __init__(self, parse: Callable[[Fields], T]) -> None:
        self._decoder = pylsqpack.Decoder(0, 0)
        self._parse = parse
        self._kept: dict[bytes, T] = {}

    def read(self, block: bytes) -> T:
        """What `parse` made of the block's fields. Raises ProtocolError; the connection is then of no further use."""
        parsed = self._kept.get(block)
        if parsed is not None:
            return parsed
        try:
            _, fields = self._decoder.feed_header(0, block)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked):
            raise ProtocolError("malformed header block", ErrorCode.QPACK_DECOMPRESSION_FAILED) from None
        parsed = self._parse(fields)
        if len(block) <= _MAX_KEPT_BLOCK_BYTES and len(self._kept) < _MAX_KEPT_BLOCKS:
            self._kept[block] = parsed
        return parsed

    def feed_encoder(self, data: bytes) -> None:
        """Instructions of the peer's encoder, of which an empty table allows hardly any. Raises ProtocolError."""
        try:
            self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError:
            raise ProtocolError("the table of header fields is empty", ErrorCode.QPACK_ENCODER_STREAM_ERROR) from None


class MessageReader:
    """Takes the stream of one message apart. After each `feed`, ask `next` until there is no more.

    The order of frames is checked here (section 4.1): HEADERS, any DATA, then HEADERS again for trailers. Whether
    HEADERS are those of an interim answer, after which another head follows, only the owner can tell: it then calls
    `head_again`.
    """

    __slots__ = ("_buffer", "_heads", "_is_answer", "_kind", "_left", "received_bytes")

    def __init__(self, is_answer: bool) -> None:
        self._is_answer = is_answer
        self._buffer = b""
        self._kind = -1
        self._left = 0
        self._heads = 0
        self.received_bytes = 0
        """How much of the body has arrived."""

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data

    def head_again(self) -> None:
        """The HEADERS read last were not the final ones."""
        self._heads = 0

    def next(self) -> tuple[bool, bytes] | None:
        """The next header block (True), or the next part of the body (False); None if more of the stream is needed.
        Raises ProtocolError for a frame that must not be there."""
        while True:
            buffer = self._buffer
            if self._kind < 0:
                try:
                    kind, at = read_varint(buffer, 0)
                    size, at = read_varint(buffer, at)
                except IndexError:
                    return None
                self._check(kind, size)
                self._kind, self._left = kind, size
                buffer = self._buffer = buffer[at:]
            kind, left = self._kind, self._left
            if kind == Frame.HEADERS:
                if len(buffer) < left:
                    return None
                self._kind, self._buffer = -1, buffer[left:]
                self._heads += 1
                return True, buffer[:left]
            taken, self._buffer = buffer[:left], buffer[left:]
            self._left -= len(taken)
            if not self._left:
                self._kind = -1
            if kind == Frame.DATA and taken:
                self.received_bytes += len(taken)
                return False, taken
            if not taken and self._left:
                return None

    def end(self) -> None:
        """The stream has ended, and `next` gives nothing more. Raises ProtocolError if it ended within a frame (section
        7.1)."""
        if self._kind >= 0 or self._buffer:
            raise ProtocolError("the stream ends within a frame", ErrorCode.FRAME_ERROR)

    @property
    def has_head(self) -> bool:
        """The head of the message has been read."""
        return self._heads > 0

    @property
    def has_trailers(self) -> bool:
        """The HEADERS read last were trailers."""
        return self._heads > 1

    def _check(self, kind: int, size: int) -> None:
        if kind == Frame.HEADERS:
            if self._heads > 1:
                raise ProtocolError("HEADERS after the trailers", ErrorCode.FRAME_UNEXPECTED)
            if size > MAX_BLOCK_BYTES:
                raise ProtocolError(f"a header block over {MAX_BLOCK_BYTES} bytes", ErrorCode.EXCESSIVE_LOAD)
        elif kind == Frame.DATA:
            if self._heads != 1:
                raise ProtocolError("DATA without a head, or after the trailers", ErrorCode.FRAME_UNEXPECTED)
        elif kind == Frame.PUSH_PROMISE:
            # No server may get one; we as a client have allowed none (section 7.2.5).
            code = ErrorCode.ID_ERROR if self._is_answer else ErrorCode.FRAME_UNEXPECTED
            raise ProtocolError("a push that is not allowed", code)
        elif kind in _ONLY_CONTROL:
            raise ProtocolError(f"a frame of type {kind:#x} in a message", ErrorCode.FRAME_UNEXPECTED)


class ControlStreams(Generic[T]):
    """The unidirectional streams of a connection: ours, and the peer's with what it says there."""

    def __init__(self, quic: QuicConnection, blocks: BlockReader[T], is_client: bool) -> None:
        self._quic = quic
        self._blocks = blocks
        self._encoder = pylsqpack.Encoder()
        self._is_client = is_client
        self._control_id = -1
        self._types: dict[int, int] = {}
        self._buffers: dict[int, bytes] = {}
        self._has_settings = False
        self._skip_bytes = 0
        self._max_push_id = -1
        self.goaway_id: int | None = None
        """What the peer's last GOAWAY named: the first request that it won't answer."""

    def open(self) -> None:
        """Say what is to be said first."""
        self._control_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(self._control_id, OPENING)

    def send_goaway(self, stream_id: int) -> None:
        """Requests from this one on are not answered (section 5.2)."""
        self._quic.send_stream_data(self._control_id, encode_frame(Frame.GOAWAY, encode_varint(stream_id)))

    def closed(self, stream_id: int) -> None:
        """A stream was reset by the peer, or is not wanted by it. Raises ProtocolError if it must stay open."""
        if stream_id == self._control_id or self._types.get(stream_id) in (
            StreamType.CONTROL,
            StreamType.QPACK_ENCODER,
            StreamType.QPACK_DECODER,
        ):
            raise ProtocolError("a stream that must stay open was closed", ErrorCode.CLOSED_CRITICAL_STREAM)
        self._buffers.pop(stream_id, None)

    def feed(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """What arrives on a unidirectional stream. Raises ProtocolError."""
        kind = self._types.get(stream_id)
        if kind is None:
            data = self._buffers.pop(stream_id, b"") + data
            try:
                kind, at = read_varint(data, 0)
            except IndexError:
                if not is_end:
                    self._buffers[stream_id] = data
                return
            self._begin(stream_id, kind)
            data = data[at:]
        if kind == StreamType.CONTROL:
            self._feed_control(stream_id, data)
        elif kind == StreamType.QPACK_ENCODER:
            self._blocks.feed_encoder(data)
        elif kind == StreamType.QPACK_DECODER:
            try:
                self._encoder.feed_decoder(data)
            except pylsqpack.DecoderStreamError:
                raise ProtocolError("nothing is in the table", ErrorCode.QPACK_DECODER_STREAM_ERROR) from None
        if is_end:
            self.closed(stream_id)
            self._types.pop(stream_id, None)

    def _begin(self, stream_id: int, kind: int) -> None:
        if kind in (StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER):
            if kind in self._types.values():
                raise ProtocolError("a second stream of a type", ErrorCode.STREAM_CREATION_ERROR)
        elif kind == StreamType.PUSH:
            code = ErrorCode.ID_ERROR if self._is_client else ErrorCode.STREAM_CREATION_ERROR
            raise ProtocolError("a push that is not allowed", code)
        self._types[stream_id] = kind

    def _feed_control(self, stream_id: int, data: bytes) -> None:
        data = self._buffers.pop(stream_id, b"") + data
        while data:
            skipped = min(self._skip_bytes, len(data))
            if skipped:
                self._skip_bytes -= skipped
                data = data[skipped:]
                continue
            try:
                kind, at = read_varint(data, 0)
                size, at = read_varint(data, at)
            except IndexError:
                break
            self._check_control(kind)
            if kind not in (Frame.SETTINGS, Frame.GOAWAY, Frame.MAX_PUSH_ID, Frame.CANCEL_PUSH):
                self._skip_bytes = size
                data = data[at:]
                continue
            if size > _MAX_CONTROL_FRAME_BYTES:
                raise ProtocolError("a control frame that is too long", ErrorCode.EXCESSIVE_LOAD)
            if len(data) < at + size:
                break
            self._control_received(kind, data[at : at + size])
            data = data[at + size :]
        if data:
            self._buffers[stream_id] = data

    def _check_control(self, kind: int) -> None:
        if not self._has_settings and kind != Frame.SETTINGS:
            raise ProtocolError("SETTINGS come first", ErrorCode.MISSING_SETTINGS)
        if (
            kind in _NEVER_CONTROL
            or (kind == Frame.SETTINGS and self._has_settings)
            or (kind == Frame.MAX_PUSH_ID and self._is_client)
        ):
            raise ProtocolError(f"a frame of type {kind:#x} on a control stream", ErrorCode.FRAME_UNEXPECTED)

    def _control_received(self, kind: int, payload: bytes) -> None:
        if kind == Frame.SETTINGS:
            self._has_settings = True
            self._settings_received(payload)
            return
        try:
            number, end = read_varint(payload, 0)
        except IndexError:
            end = -1
        if end != len(payload):
            raise ProtocolError("a frame that is not one number", ErrorCode.FRAME_ERROR)
        if kind == Frame.GOAWAY:
            if (self._is_client and number % 4) or (self.goaway_id is not None and number > self.goaway_id):
                raise ProtocolError("GOAWAY with a wrong id", ErrorCode.ID_ERROR)
            self.goaway_id = number
        elif kind == Frame.MAX_PUSH_ID:
            if number < self._max_push_id:
                raise ProtocolError("MAX_PUSH_ID goes down", ErrorCode.ID_ERROR)
            self._max_push_id = number
        else:
            raise ProtocolError("CANCEL_PUSH of what was not promised", ErrorCode.ID_ERROR)

    def _settings_received(self, payload: bytes) -> None:
        at, seen = 0, set()
        while at < len(payload):
            try:
                setting, at = read_varint(payload, at)
                _, at = read_varint(payload, at)
            except IndexError:
                raise ProtocolError("SETTINGS end within a setting", ErrorCode.FRAME_ERROR) from None
            if setting in seen or setting in _SETTINGS_OF_HTTP2:
                raise ProtocolError(f"setting {setting:#x}", ErrorCode.SETTINGS_ERROR)
            seen.add(setting)
