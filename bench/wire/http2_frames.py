"""HTTP/2 frames as bytes (RFC 9113, section 4): numbers, encoders, and the shape of frames that are alike."""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from struct import Struct

from bench.errors import ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (section 3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
"""Frame types (section 6)."""

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20

HEAD_BYTES = 9
MAX_FRAME_BYTES = 16384
"""The longest payload that either end sends or takes: the initial SETTINGS_MAX_FRAME_SIZE, which no peer can lower."""

MAX_STREAM_ID = MAX_WINDOW_BYTES = 2**31 - 1
INITIAL_WINDOW_BYTES = 65535
"""Every flow-control window until SETTINGS or WINDOW_UPDATE say otherwise (section 6.9.2)."""


class ErrorCode(IntEnum):
    """Why a stream or a connection is given up (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(IntEnum):
    """The settings that every peer knows (section 6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


_SETTING = Struct(">HI")
_NUMBER = Struct(">I")
_TWO_NUMBERS = Struct(">II")

read_number = _NUMBER.unpack_from
"""`read_number(data)` gives the 4-byte number that `data` begins with, as a tuple of one."""

pack_id = _NUMBER.pack
"""A stream's id as it stands in a frame: 4 bytes, big-endian."""


def frame_head(length: int, kind: int, flags: int) -> bytes:
    """The first 5 bytes of a frame; the 4 bytes of the stream's id follow."""
    return (length << 16 | kind << 8 | flags).to_bytes(5, "big")


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes | bytearray = b"") -> bytes:
    """A whole frame. `payload` is at most MAX_FRAME_BYTES long."""
    return b"".join((frame_head(len(payload), kind, flags), pack_id(stream_id), payload))


def encode_settings(settings: Mapping[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return encode_frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in settings.items()))


SETTINGS_ACK = encode_frame(SETTINGS, ACK, 0)


def read_settings(payload: bytes) -> Iterable[tuple[int, int]]:
    """The settings of a SETTINGS frame, in order: identifier and value. Raises ProtocolError for a piece of one."""
    if len(payload) % _SETTING.size:
        raise ProtocolError("a SETTINGS frame ends inside a setting", ErrorCode.FRAME_SIZE_ERROR)
    return _SETTING.iter_unpack(payload)


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return encode_frame(WINDOW_UPDATE, 0, stream_id, pack_id(increment))


def encode_reset(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return encode_frame(RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def encode_goaway(last_id: int, code: int, reason: str = "") -> bytes:
    """A GOAWAY frame: no stream after `last_id` was or will be looked at."""
    return encode_frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_id, code) + reason.encode()[:256])


def require_stream(stream_id: int) -> None:
    """Raises ProtocolError where a frame that needs a stream stands on the connection."""
    if stream_id == 0:
        raise ProtocolError("a frame that needs a stream, on stream 0", ErrorCode.PROTOCOL_ERROR)


def require_connection(stream_id: int) -> None:
    """Raises ProtocolError where a frame of the connection stands on a stream."""
    if stream_id != 0:
        raise ProtocolError("a frame of the connection, on a stream", ErrorCode.PROTOCOL_ERROR)


def require_length(payload: bytes, length: int) -> None:
    """Raises ProtocolError where a frame that is always equally long is not."""
    if len(payload) != length:
        raise ProtocolError(f"a frame of {len(payload)} bytes where {length} are due", ErrorCode.FRAME_SIZE_ERROR)


def without_padding(payload: bytes) -> bytes:
    """A payload without its padding (sections 6.1 and 6.2). Raises ProtocolError."""
    if not payload:
        raise ProtocolError("a padded frame without a padding length", ErrorCode.FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):
        raise ProtocolError("more padding than payload", ErrorCode.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


class FrameShape:
    """Frames that are alike in all but the stream's id: made, and recognised, many at a time."""

    __slots__ = ("_between", "_size", "head", "payload")

    def __init__(self, kind: int, flags: int, payload: bytes) -> None:
        self.head = frame_head(len(payload), kind, flags)
        """How each of the frames begins."""
        self.payload = payload
        self._between = payload + self.head
        self._size = HEAD_BYTES + len(payload)

    def encode(self, ids: Sequence[bytes]) -> bytes:
        """One frame for each stream, in a row."""
        return b"".join((self.head, self._between.join(ids), self.payload))

    def match(self, data: bytes, start: int, after: bytes) -> tuple[list[bytes], int]:
        """The ids of the frames that stand in a row at `start`, up to where something that begins with `after` follows
        or the last whole frame ends; and that place. No ids if anything else stands there."""
        end = data.find(after, start)
        if end < 0:
            end = len(data) - (len(data) - start) % self._size
        elif (end - start) % self._size:
            return [], start
        ids = [data[at : at + 4] for at in range(start + 5, end, self._size)]
        row = data if end - start == len(data) else data[start:end]
        return (ids, end) if self.encode(ids) == row else ([], start)


class GroupShape:
    """Groups of frames, two or more back to back on one stream, that are alike in all but the stream's id."""

    __slots__ = ("_group", "_size")

    def __init__(self, *frames: FrameShape) -> None:
        self._group = [frames[0].head]
        """What stands around the ids, and places for the ids."""
        for frame, following in zip(frames, [*frames[1:], None], strict=True):
            self._group += [b"", frame.payload + (following.head if following else b"")]
        self._size = sum(map(len, self._group)) + 4 * len(frames)

    def match(self, data: bytes, start: int) -> tuple[list[bytes], int]:
        """The ids of the groups that stand in a row at `start`, up to the last whole group that there is room for; and
        that place. No ids if anything else stands there."""
        end = len(data) - (len(data) - start) % self._size
        if not data.startswith(self._group[2], start + HEAD_BYTES):
            return [], start
        ids = [data[at : at + 4] for at in range(start + 5, end, self._size)]
        return (ids, end) if self._encode(ids) == data[start:end] else ([], start)

    def begins(self, data: bytes) -> bool:
        """Whether `data` is the beginning of a group, and not all of it."""
        return 0 < len(data) < self._size and self._encode([data[5:HEAD_BYTES].ljust(4, b"\0")]).startswith(data)

    def _encode(self, ids: Sequence[bytes]) -> bytes:
        row, step = self._group * len(ids), len(self._group)
        for place in range(1, step, 2):
            row[place::step] = ids
        return b"".join(row)
