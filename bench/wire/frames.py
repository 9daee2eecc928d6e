"""The binary frames of raw TCP and raw UDP, which other protocols carry too, without I/O. This page is all that another
client or server needs.

A frame is a header of 20 bytes and a payload. Numbers are unsigned and big-endian.

    offset  bytes  field
         0      1  magic: 0x57 ("W")
         1      1  version in the upper four bits: 1; flags in the lower four: MORE = 1, FATAL = 2
         2      2  code: in a request the operation (0 health, 1 echo, 2 bytes, 3 upload, 4 work,
                   7 create todo, 8 read todos, 9 read todos stream; 64 any of them, named as HTTP names it),
                   in an answer a status with the numbers of HTTP (200, 400, 404, 413 ...)
         4      4  length of the payload in bytes: at most 64 MiB, over UDP at most 65,487
         8      4  a: the operation's first argument (n of bytes, cpu_us of work, limit of read todos; of 64 how many
                   bytes the name has), else 0; 0 in answers
        12      4  b: the operation's second argument (chunk of bytes, wait_ms of work), else 0; 0 in answers
        16      4  id: chosen by the client, any four bytes; the answer carries the same
        20         payload: the body of the request or of the answer; with a status other than 200, a message in UTF-8

Over TCP, frames follow each other in both directions. A client may send requests without waiting, with ids that are
distinct among those in flight; answers come in any order. An answer in pieces is several frames with its id and status,
one right after the other, all but the last with MORE. A request is always one frame. What is not a frame (wrong magic,
version or flags, a status where an operation belongs, a payload that is too long) cannot be skipped: the server answers
with one last frame that has FATAL set, a status, and id 0, and closes.

A request with code 64 names its operation by a method and a path, like "POST /jobs?ms=500": that is what its payload
begins with, and the rest is the body. So whatever HTTP can ask for can be asked for here. "GET /topics/NAME?after=ID"
subscribes: the answer is a frame with MORE and no payload, which says that the subscription stands, then a frame with
MORE for each event of the topic, with the upper half of the event's id as a and the lower half as b, and at the end, if
there is one, an empty frame without MORE. Other answers may come between the frames of that one.

Over WebSocket (RFC 6455), a connection that was opened with the subprotocol SUBPROTOCOL, on whatever path, carries
frames as TCP does, in binary messages: each holds one frame or several, and is at most 64 MiB long. A frame that has
FATAL set is followed by the close code 1008.

Over UDP, a datagram is one frame; the length must be that of the datagram, and MORE and FATAL are not used. An answer
that does not fit has status 413, and one that the server has no room to work on has status 503. A server drops
whatever is no request and never answers it: with a forged source address, an answer to garbage would let anyone make
two servers talk to each other for ever. Datagrams may be lost, doubled and reordered; a client tells answers apart by
id, and ignores ids that it does not wait for.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError

SUBPROTOCOL = "wirebench"
"""The name of frames where another protocol carries them: a WebSocket (RFC 6455, section 1.9), or a data channel (RFC
8831, section 6.7)."""

HEADER_BYTES = 20
MAX_DATAGRAM_BYTES = 65507
"""What one UDP datagram over IPv4 can carry: 65,535 less the headers of IP and UDP."""
MAX_DATAGRAM_PAYLOAD_BYTES = MAX_DATAGRAM_BYTES - HEADER_BYTES

OK = 200
MORE, FATAL = 1, 2
NAMED = 64
"""The code of a request that names its operation as HTTP does."""
NO_ID = bytes(4)
"""The id of a frame that answers no request in particular."""

ID = slice(16, HEADER_BYTES)
"""Where a frame has its id."""

_START = 0x5710
_STATUS_MIN = 100

_head = struct.Struct(">HHIII")
_header = struct.Struct(">HHIII4s")
_make_id = struct.Struct(">I").pack


@lru_cache(maxsize=1024)
def encode_head(code: int, length: int, a: int = 0, b: int = 0, flags: int = 0) -> bytes:
    """The first 16 bytes of a frame; then come its id and `length` bytes of payload."""
    return _head.pack(_START | flags, code, length, a, b)


def encode_frame(code: int, frame_id: bytes, payload: bytes, a: int = 0, b: int = 0, flags: int = 0) -> bytes:
    """A whole frame."""
    return b"".join((encode_head(code, len(payload), a, b, flags), frame_id, payload))


def encode_named(method: str, path: str, frame_id: bytes, body: bytes = b"") -> bytes:
    """A request for whatever HTTP can ask for."""
    name = f"{method} {path}".encode("ascii")
    return encode_frame(NAMED, frame_id, name + body, len(name))


def split_named(name_bytes: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """The method, path and body of such a request. Raises ProtocolError."""
    method, space, path = payload[:name_bytes].partition(b" ")
    if not space or name_bytes > len(payload):
        raise ProtocolError("a request that names no operation", 400)
    return method, path, payload[name_bytes:]


def encode_event(frame_id: bytes, event_id: int, data: bytes) -> bytes:
    """An event of a subscription."""
    return _header.pack(_START | MORE, OK, len(data), event_id >> 32, event_id & 0xFFFFFFFF, frame_id) + data


def decode_datagram(data: bytes) -> tuple[int, int, int, bytes, bytes]:
    """Code, a, b, id and payload of a datagram. Raises ProtocolError if it is not one whole frame."""
    if len(data) < HEADER_BYTES:
        raise ProtocolError(f"a datagram of {len(data)} bytes is shorter than a header", 400)
    start, code, length, a, b, frame_id = _header.unpack_from(data)
    if start != _START:
        raise ProtocolError("not a frame of this protocol's version 1", 400)
    if length != len(data) - HEADER_BYTES:
        raise ProtocolError(f"a length of {length} in a datagram with {len(data) - HEADER_BYTES} bytes of payload", 400)
    return code, a, b, frame_id, data[HEADER_BYTES:]


def is_status(code: int) -> bool:
    """Whether a frame's code is a status, which makes it an answer; else it names an operation."""
    return code >= _STATUS_MIN


def frame_ids() -> Iterator[bytes]:
    """Ids without end. The first comes again after 2**32 others."""
    return map(_make_id, chain.from_iterable(repeat(range(1 << 32))))


class FrameShape:
    """Frames that are alike in all but their ids: made, and recognised, many at a time.

    One frame is `frame_id.join(shape.around)`, and its id `frame[ID]`: so cheap that a method would double it.
    """

    def __init__(self, code: int, payload: bytes, a: int = 0, b: int = 0) -> None:
        self.around = (encode_head(code, len(payload), a, b), payload)
        self.frame_bytes = HEADER_BYTES + len(payload)
        self._between = payload + self.around[0]

    def encode(self, frame_ids: Sequence[bytes]) -> bytes:
        """One frame for each id, in a row."""
        return self._between.join(frame_ids).join(self.around)

    def match(self, data: bytes) -> list[bytes] | None:
        """The ids, if the data are exactly frames of this shape; else None."""
        if len(data) % self.frame_bytes or not data.startswith(self.around[0]):
            return None
        frame_ids = [data[at : at + 4] for at in range(ID.start, len(data), self.frame_bytes)]
        return frame_ids if self.encode(frame_ids) == data else None


@lru_cache(maxsize=8)
def shape_of(code: int, payload: bytes, a: int = 0, b: int = 0) -> FrameShape:
    """A shape that all connections share: a payload may be 64 MiB."""
    return FrameShape(code, payload, a, b)


class FrameReader:
    """Frames of a stream. Hooks: `frame_begun` when a header is complete, `payload_received` for each piece of payload,
    `frame_received` at the end; `whole_frame` may stand for all three."""

    def __init__(self) -> None:
        self.mid_frame = False
        """Whether a frame has begun to arrive and is not complete."""
        self._partial = b""  # a header that has not arrived in full
        self._due_bytes = 0  # what is still to come of a payload

    # Hooks

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        """A header has arrived. Raises ProtocolError to refuse it."""

    def payload_received(self, data: bytes) -> None:
        """A piece of the frame's payload."""

    def frame_received(self) -> None:
        """The frame is complete."""

    def whole_frame(self, flags: int, code: int, a: int, b: int, frame_id: bytes, payload: bytes) -> None:
        """A frame has arrived all at once. Most do, and on a hot path one call is less than three."""
        self.frame_begun(flags, code, a, b, frame_id)
        self.payload_received(payload)
        self.frame_received()

    # Input

    def parse(self, data: bytes) -> None:
        """Take bytes of the stream. Raises ProtocolError; the stream is then of no further use."""
        at = 0
        if self._due_bytes:
            at = self._due_bytes
            self._take_payload(data[:at])
        elif self._partial:
            data = self._partial + data
        size = len(data)
        while size - at >= HEADER_BYTES:
            start, code, length, a, b, frame_id = _header.unpack_from(data, at)
            flags = start ^ _START
            if flags > MORE | FATAL:
                raise ProtocolError("not a frame of this protocol's version 1", 400)
            if length > MAX_BODY_BYTES:
                raise ProtocolError(f"a payload of {length} bytes is longer than {MAX_BODY_BYTES}", 413)
            at += HEADER_BYTES
            payload = data[at : at + length]
            at += length
            if at <= size:
                self.whole_frame(flags, code, a, b, frame_id, payload)
            else:
                self.frame_begun(flags, code, a, b, frame_id)
                self._due_bytes = length
                self._take_payload(payload)
        self._partial = data[at:]
        # At its first byte: garbage may be shorter than a header, and its sender may wait for an answer.
        if self._partial and self._partial[0] != _START >> 8:
            raise ProtocolError("not a frame of this protocol", 400)
        self.mid_frame = bool(self._due_bytes or self._partial)

    def _take_payload(self, piece: bytes) -> None:
        self._due_bytes -= len(piece)
        self.payload_received(piece)
        if not self._due_bytes:
            self.frame_received()
