"""WebSocket frames and messages (RFC 6455, sections 5 to 8), without I/O.

    offset  bytes  field
         0      1  FIN = 0x80, RSV1 = 0x40 (a compressed message), opcode in the lower four bits
         1      1  MASK = 0x80 (set by clients, and only by them); length in the lower seven bits
         2    0-8  the length, if the seven bits say 126 (two bytes follow) or 127 (eight bytes)
              0-4  the masking key
                   payload

A message is one frame, or a first one without FIN and continuations. Control frames may come between those.
ProtocolError carries the close code that names the error (RFC 6455, section 7.4.1).
"""

import codecs
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import ClassVar, Final

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.permessage_deflate import Inflate

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

FIN: Final = 0x80
RSV1: Final = 0x40
_RESERVED: Final = 0x70
_CONTROL: Final = 0x08
_MASK: Final = 0x80
_OPCODE: Final = 0x0F

MAX_CONTROL_BYTES: Final = 125
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127

_TEXT_FRAME: Final = FIN | TEXT
_WHOLE: Final = bytes((FIN | TEXT, FIN | BINARY))
"""How a frame begins that is a whole message."""

NO_KEY: Final = b""
_KEY_BYTES: Final = 4


class CloseCode(IntEnum):
    """Why a connection ends (RFC 6455, section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """Never sent: what is received in a close frame that gives no reason."""
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    TRY_AGAIN_LATER = 1013


_DEFINED_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""What a close frame may say; the last three are registered with IANA. 3000 to 4999 belong to libraries and
applications."""


# Masking (RFC 6455, section 5.3)

_XOR_BYTES: Final = 800
"""Up to this size one XOR of whole numbers is faster than four table look-ups, each for every fourth byte."""

_XOR_TABLES: list[bytes] = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def mask(data: bytes, key: bytes) -> bytes:
    """Data XOR the key, four bytes, over and over. Doing it twice changes nothing."""
    size = len(data)
    if size <= _XOR_BYTES:
        return (int.from_bytes(data) ^ int.from_bytes((key * (size // 4 + 1))[:size])).to_bytes(size)
    masked = bytearray(size)
    for at in range(_KEY_BYTES):
        masked[at::4] = data[at::4].translate(_XOR_TABLES[key[at]])
    return bytes(masked)


# Frames


@lru_cache(maxsize=1024)
def encode_head(first: int, length: int, masked: bool = False) -> bytes:
    """What a frame begins with, up to the masking key. `first` is the first byte: opcode, FIN, RSV1."""
    bit = _MASK if masked else 0
    if length <= MAX_CONTROL_BYTES:
        return bytes((first, bit | length))
    if length < 1 << 16:
        return bytes((first, bit | _LENGTH_16)) + length.to_bytes(2)
    return bytes((first, bit | _LENGTH_64)) + length.to_bytes(8)


def encode_frame(first: int, payload: bytes, key: bytes = NO_KEY) -> bytes:
    """A whole frame, masked if there is a key. `first` is the first byte: opcode, FIN, RSV1."""
    if key:
        return b"".join((encode_head(first, len(payload), masked=True), key, mask(payload, key)))
    return encode_head(first, len(payload)) + payload


def encode_close(code: int, reason: str = "", key: bytes = NO_KEY) -> bytes:
    """A close frame; NO_STATUS gives an empty one. A reason that is too long is cut."""
    payload = b""
    if code != CloseCode.NO_STATUS:
        cut = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore")
        payload = code.to_bytes(2) + cut.encode()
    return encode_frame(FIN | CLOSE, payload, key)


def decode_close(payload: bytes) -> int:
    """The code that a close frame's payload gives; NO_STATUS if it gives none. Raises ProtocolError if it may not."""
    if not payload:
        return CloseCode.NO_STATUS
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in _DEFINED_CODES or 3000 <= code <= 4999):
        raise ProtocolError("a close frame with a code that means nothing", CloseCode.PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _not_text() from None
    return code


def _not_text() -> ProtocolError:
    return ProtocolError("a text that is not UTF-8", CloseCode.INVALID_PAYLOAD)


def _broken(why: str) -> ProtocolError:
    return ProtocolError(why, CloseCode.PROTOCOL_ERROR)


_new_decoder: Callable[[], codecs.IncrementalDecoder] = codecs.getincrementaldecoder("utf-8")


class MessageReader:
    """The messages of one direction. Hooks: `message_begun`, `payload_received` for each piece of payload as it comes,
    `message_received` at the end; `whole_message` may stand for all three. Control frames have hooks of their own.

    Payloads are unmasked and decompressed, texts are checked; a message is at most MAX_BODY_BYTES long.
    """

    peer_masks: ClassVar[bool]
    """Whether the other side is a client."""

    __slots__ = (
        "_decoder",
        "_due_bytes",
        "_first",
        "_head_bytes",
        "_inflating",
        "_key",
        "_mask_bit",
        "_message_bytes",
        "_opcode",
        "_partial",
        "inflate",
        "peer_closed",
    )

    def __init__(self) -> None:
        self._mask_bit = _MASK if self.peer_masks else 0
        self._head_bytes = 2 + _KEY_BYTES if self.peer_masks else 2
        self.inflate: Inflate | None = None
        """What decompresses, if compression has been agreed on."""
        self.peer_closed = False
        """Whether a close frame has come. What follows it is ignored."""
        self._partial = b""  # the head of a frame, or a control frame, that has not arrived in full
        # The message that is arriving in pieces; no opcode if there is none.
        self._opcode = 0
        self._message_bytes = 0
        self._inflating = False
        self._decoder: codecs.IncrementalDecoder | None = None
        # Its frame that is arriving in pieces.
        self._first = 0
        self._due_bytes = 0
        self._key = NO_KEY

    # Hooks

    def message_begun(self, opcode: int) -> None:
        """A message begins: TEXT or BINARY. Raises ProtocolError to refuse it."""

    def payload_received(self, data: bytes) -> None:
        """A piece of the message's payload."""

    def message_received(self) -> None:
        """The message is complete."""

    def whole_message(self, opcode: int, payload: bytes) -> None:
        """A message has arrived all at once. Most do, and on a hot path one call is less than three."""
        self.message_begun(opcode)
        self.payload_received(payload)
        self.message_received()

    def ping_received(self, payload: bytes) -> None:
        """A ping, which wants a pong with the same payload."""

    def close_received(self, code: int) -> None:
        """The peer closes; NO_STATUS if it does not say why. It is the last that is read."""

    # Input

    @property
    def mid_message(self) -> bool:
        """Whether a message has begun to arrive and is not complete."""
        return self._opcode != 0 or self._partial != b""

    def parse(self, data: bytes) -> None:
        """Take bytes of the stream. Raises ProtocolError; the stream is then of no further use."""
        if self.peer_closed:
            return
        at = 0
        if self._due_bytes:
            at = self._due_bytes
            self._take_payload(data[:at])
        elif self._partial:
            data = self._partial + data
            self._partial = b""
        size = len(data)
        mask_bit, head_bytes = self._mask_bit, self._head_bytes
        while size - at >= 2:
            # Whole messages in one short frame are taken here, and all others below.
            first = data[at]
            length = data[at + 1] ^ mask_bit
            if length <= MAX_CONTROL_BYTES:
                start = at + head_bytes
                end = start + length
            elif length == _LENGTH_16:
                start = at + head_bytes + 2
                length = int.from_bytes(data[at + 2 : at + 4])
                end = start + length if length > MAX_CONTROL_BYTES else size + 1
            else:
                end = size + 1
            if end <= size and first in _WHOLE and not self._opcode:
                payload = data[start:end]
                if mask_bit and length:
                    payload = mask(payload, data[start - 4 : start])
                if first == _TEXT_FRAME:
                    try:
                        payload.decode()
                    except UnicodeDecodeError:
                        raise _not_text() from None
                self.whole_message(first & _OPCODE, payload)
                at = end
                continue
            end = self._take_frame(data, at)
            if not end or self.peer_closed:
                break
            at = end
        self._partial = data[at:]

    def _take_frame(self, data: bytes, at: int) -> int:
        """Take the frame that begins here, or what is there of it. Gives where the next one begins; 0 if there is too
        little to begin with."""
        first, second = data[at], data[at + 1]
        self._check_head(first, second)
        start = at + 2
        length = second & ~_MASK
        if length > MAX_CONTROL_BYTES:
            start += 2 if length == _LENGTH_16 else 8
            if len(data) < start:
                return 0
            least = 1 << 16 if length == _LENGTH_64 else _LENGTH_16
            length = int.from_bytes(data[at + 2 : start])
            if length < least or length >> 63:
                raise _broken("a length that is not written as it has to be")
        key = data[start : start + self._head_bytes - 2]
        start += self._head_bytes - 2
        if len(data) < start:
            return 0
        end = start + length
        if first & _CONTROL:
            if len(data) < end:
                return 0
            self._take_control(first & _OPCODE, mask(data[start:end], key) if key else data[start:end])
            return end
        if self._message_bytes + length > MAX_BODY_BYTES:
            raise _too_big()
        if first & _OPCODE:
            self._opcode = first & _OPCODE
            self._inflating = bool(first & RSV1)
            self.message_begun(self._opcode)
        self._first, self._key, self._due_bytes = first, key, length
        self._take_payload(data[start:end])
        return min(end, len(data))

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise _broken("an unknown opcode")
        if bool(second & _MASK) != self.peer_masks:
            raise _broken("a client's frames are masked, and a server's are not")
        allowed = RSV1 if self.inflate is not None and opcode in (TEXT, BINARY) else 0
        if first & _RESERVED & ~allowed:
            raise _broken("a reserved bit that nothing was agreed for")
        if opcode & _CONTROL:
            if not first & FIN or second & ~_MASK > MAX_CONTROL_BYTES:
                raise _broken("a control frame that is in pieces, or too long")
        elif bool(opcode) == bool(self._opcode):
            raise _broken("a message inside another" if opcode else "a continuation of nothing")

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.ping_received(payload)
        elif opcode == CLOSE:
            code = decode_close(payload)
            self.peer_closed = True
            self.close_received(code)

    def _take_payload(self, piece: bytes) -> None:
        """A piece of a message's frame, as it has come."""
        size = len(piece)
        self._due_bytes -= size
        if key := self._key:
            piece = mask(piece, key)
            if turn := size % _KEY_BYTES:
                self._key = key[turn:] + key[:turn]
        if self._inflating and self.inflate is not None:
            piece = self.inflate.feed(piece, MAX_BODY_BYTES - self._message_bytes)
        self._take_message(piece)
        if not self._due_bytes and self._first & FIN:
            self._end_message()

    def _take_message(self, piece: bytes) -> None:
        """A piece of a message, as it was before it was compressed."""
        self._message_bytes += len(piece)
        if self._message_bytes > MAX_BODY_BYTES:
            raise _too_big()
        if self._opcode == TEXT:
            if self._decoder is None:
                self._decoder = _new_decoder()
            self._decode(self._decoder, piece)
        if piece:
            self.payload_received(piece)

    def _end_message(self) -> None:
        if self._inflating and self.inflate is not None:
            self._take_message(self.inflate.finish(MAX_BODY_BYTES - self._message_bytes))
        if self._decoder is not None:
            self._decode(self._decoder, b"", final=True)
            self._decoder = None
        self._opcode = self._message_bytes = 0
        self.message_received()

    @staticmethod
    def _decode(decoder: codecs.IncrementalDecoder, piece: bytes, final: bool = False) -> None:
        try:
            decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise _not_text() from None


def _too_big() -> ProtocolError:
    return ProtocolError(f"a message is at most {MAX_BODY_BYTES} bytes long", CloseCode.TOO_BIG)
