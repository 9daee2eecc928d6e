"""gRPC over HTTP/2, as bytes: messages with their length, status, deadlines (the protocol's own description,
PROTOCOL-HTTP2.md in grpc/grpc), and the one protobuf form that the hot paths know by heart.

The messages of this project's services are in wirebench.proto; wirebench_pb2 is made of it by

    python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. bench/wire/wirebench.proto
"""

import re
import zlib
from enum import IntEnum
from struct import Struct
from urllib.parse import unquote_to_bytes

from bench.contract import MAX_BODY_BYTES

SERVICE = "wirebench.v1.Wirebench"
TODO_SERVICE = "wirebench.v1.Todos"

CONTENT_TYPE = b"application/grpc"

MAX_MESSAGE_BYTES = MAX_BODY_BYTES + 64
"""The longest message that is read or unpacked: the longest body, and what protobuf puts around it."""

PREFIX_BYTES = 5
"""What stands before each message: whether it is compressed (1 byte), and its length (4)."""

MAX_TIMEOUT_NS = 1000 * 24 * 3600 * 10**9
"""Deadlines further away than this are none: timers do not reach that far."""


class Status(IntEnum):
    """How a call has ended (statuscodes.md in grpc/grpc)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


REFUSALS = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED,
    409: Status.ABORTED,
    422: Status.INVALID_ARGUMENT,
    501: Status.UNIMPLEMENTED,
}
"""What the service's refusals are here; any other is RESOURCE_EXHAUSTED, for something has run out."""

HTTP_STATUS = {
    Status.OK: 200,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.UNAUTHENTICATED: 401,
}
"""The status of HTTP that means the same (code.proto in googleapis/googleapis); any other is 500."""


class StatusError(Exception):
    """A call cannot go on, and ends with a status other than OK."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


# Messages

_PREFIX = Struct(">BI")
_read_prefix = _PREFIX.unpack_from


def message_prefix(size_bytes: int, compressed: bool = False) -> bytes:
    """What stands before a message of that length."""
    return _PREFIX.pack(compressed, size_bytes)


def frame_message(message: bytes, compressed: bool = False) -> bytes:
    """A message with its prefix."""
    return _PREFIX.pack(compressed, len(message)) + message


class MessageReader:
    """Takes one side's messages out of the body of a call, which may be cut anywhere."""

    __slots__ = ("_chunks", "_kept_bytes", "_needed_bytes", "gzip")

    def __init__(self, gzip: bool) -> None:
        self.gzip = gzip
        """Whether the call's grpc-encoding is gzip, which compressed messages then are."""
        self._chunks: list[bytes] = []
        self._kept_bytes = 0
        self._needed_bytes = PREFIX_BYTES
        """How much must have been kept before it is worth looking at."""

    @property
    def mid_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._kept_bytes > 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete, unpacked. Raises StatusError."""
        if self._chunks:
            self._chunks.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes < self._needed_bytes:
                return []
            data = b"".join(self._chunks)
        messages, at, size = [], 0, len(data)
        self._needed_bytes = PREFIX_BYTES
        while size - at >= PREFIX_BYTES:
            compressed, length = _read_prefix(data, at)
            if length > MAX_MESSAGE_BYTES:
                raise StatusError(
                    Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes; at most {MAX_MESSAGE_BYTES} are read"
                )
            end = at + PREFIX_BYTES + length
            if end > size:
                self._needed_bytes = end - at
                break
            message = data[at + PREFIX_BYTES : end]
            messages.append(self._unpack(compressed, message) if compressed else message)
            at = end
        self._chunks = [data[at:]] if at < size else []
        self._kept_bytes = size - at
        return messages

    def _unpack(self, compressed: int, message: bytes) -> bytes:
        if compressed != 1:
            raise StatusError(Status.INTERNAL, f"the compressed flag of a message is {compressed}")
        if not self.gzip:
            raise StatusError(Status.INTERNAL, "a compressed message in a call without grpc-encoding")
        return unpack(message)


_GZIP_BITS = 16 + zlib.MAX_WBITS
"""zlib's way of being asked for gzip's head and check sum (RFC 1952)."""


def pack(message: bytes) -> bytes:
    """A message compressed with gzip, at the level that costs least: this is a benchmark of protocols, not of zlib."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_BITS)
    return packer.compress(message) + packer.flush()


def unpack(packed: bytes) -> bytes:
    """What `pack` was given, or any other gzip. Raises StatusError for anything else, and for what is too long."""
    unpacker = zlib.decompressobj(_GZIP_BITS)
    try:
        message = unpacker.decompress(packed, MAX_MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise StatusError(Status.INTERNAL, f"a message that is not gzip: {error}") from None
    if len(message) > MAX_MESSAGE_BYTES:
        raise StatusError(Status.RESOURCE_EXHAUSTED, f"a message of more than {MAX_MESSAGE_BYTES} bytes, unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise StatusError(Status.INTERNAL, "a message that is not one whole gzip")
    return message


# Header fields

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_NS = {b"H": 3600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 1000, b"n": 1}


def encode_timeout(timeout_ns: int) -> bytes:
    """A grpc-timeout, in the finest unit that eight digits are enough for; what is left over is rounded up."""
    for unit, unit_ns in reversed(_UNIT_NS.items()):
        count = -(-timeout_ns // unit_ns)
        if count < 10**8:
            return b"%d%b" % (count, unit)
    raise ValueError(f"a timeout of {timeout_ns} ns is too long for gRPC")


def decode_timeout(field: bytes) -> int | None:
    """The nanoseconds of a grpc-timeout; None for what is too far away to matter. Raises StatusError."""
    match = _TIMEOUT.fullmatch(field)
    if match is None:
        raise StatusError(Status.INTERNAL, "malformed grpc-timeout")
    timeout_ns = int(match[1]) * _UNIT_NS[match[2]]
    return timeout_ns if timeout_ns <= MAX_TIMEOUT_NS else None


_NOT_PLAIN = re.compile(rb"[^ -$&-~]")


def percent_encode(text: str) -> bytes:
    """A grpc-message: UTF-8, with whatever is not printable ASCII, and the percent sign, as %XX."""
    return _NOT_PLAIN.sub(lambda found: b"%%%02X" % found[0][0], text.encode("utf-8", "replace"))


def percent_decode(field: bytes) -> str:
    """The text of a grpc-message. Never fails: what cannot be decoded stands for itself."""
    return unquote_to_bytes(field).decode("utf-8", "replace")


# Protobuf

_PAYLOAD = 0x0A  # field 1, length-delimited (protobuf's encoding.md)


def payload_prefix(size_bytes: int) -> bytes:
    """What stands before the bytes of a field 1 (bytes or string) of that length, the only one of its message. Empty
    for an empty field, which proto3 leaves out."""
    if size_bytes == 0:
        return b""
    prefix = bytearray([_PAYLOAD])
    while size_bytes > 0x7F:
        prefix.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    prefix.append(size_bytes)
    return bytes(prefix)


def encode_payload(payload: bytes) -> bytes:
    """A message whose only field is number 1 (bytes or string)."""
    return payload_prefix(len(payload)) + payload


def decode_payload(message: bytes) -> bytes | None:
    """The other way round, for messages of that plain form: the field once, and nothing else. None for any other, which
    may still be a right one."""
    if not message:
        return b""
    if message[0] != _PAYLOAD:
        return None
    size = 0
    for at, byte in enumerate(message[1:6]):
        size |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            payload = message[at + 2 :]
            return payload if len(payload) == size else None
    return None
