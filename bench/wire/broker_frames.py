"""The frames of the embedded broker, without I/O. This page is all that another client or broker needs.

A frame is a header of 9 bytes and a payload. Numbers are unsigned and big-endian.

    offset  bytes  field
         0      4  length of the payload in bytes: at most 64 MiB
         4      1  kind
         5      4  token: chosen by the client; the answer, and every delivery of a subscription, carries the same
         9         payload

    kind            from    payload
     1  DECLARE     client  JSON: topic, subscriptions (a list of names), max_deliveries
     2  PUBLISH     client  a name (the topic), then a batch
     3  SUBSCRIBE   client  JSON: topic, subscription, prefetch
     4  ACK         client  numbers of 8 bytes each, of messages that were delivered under this token; no answer
     5  RETURN      client  as ACK: they are to be delivered again
     6  BURY        client  as ACK: they are dead letters
     7  LEAVE       client  empty: the subscription's reader goes; what is not acknowledged comes again; no answer
    16  DONE        broker  empty. A publish is on the disk, a topic or a subscription is there
    17  REFUSED     broker  one byte of reason (`Reason`), a message in UTF-8. What was asked for has not been done
    18  DELIVER     broker  count (4 bytes); for each message its number (8 bytes); for each, how often it has been
                            delivered with this time (1 byte, 255 for more); then a batch of as many

A name is its length (2 bytes) and UTF-8. A batch is a count (4 bytes), for each message its length (4 bytes), and
then the messages one after the other. Frames may be sent without waiting; publishes of one connection are kept in
their order. What is no frame is answered with one last REFUSED that has token 0, and the connection ends.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError

HEADER_BYTES = 9
NO_TOKEN = 0
MAX_PUBLISH_BYTES = MAX_BODY_BYTES // 2
"""Of the payload of a PUBLISH: a delivery of its messages has more around them, and has to fit into a frame."""
_MOST_DELIVERIES = 255

_header = struct.Struct(">IBI")
_count = struct.Struct(">I")
_name = struct.Struct(">H")


class Kind(IntEnum):
    """What a frame is."""

    DECLARE = 1
    PUBLISH = 2
    SUBSCRIBE = 3
    ACK = 4
    RETURN = 5
    BURY = 6
    LEAVE = 7
    DONE = 16
    REFUSED = 17
    DELIVER = 18


class Reason(IntEnum):
    """Why something was refused."""

    NOT_A_FRAME = 1
    UNKNOWN_TOPIC = 2
    UNKNOWN_SUBSCRIPTION = 3
    STORE_FAILED = 4
    """The disk is full, or fails."""
    TAKEN_OVER = 5
    """Another reader has taken the subscription."""
    TOO_LONG = 6
    """A publish has more than MAX_PUBLISH_BYTES."""


class Frame(NamedTuple):
    """One frame as it arrived. `kind` may be none of `Kind`."""

    kind: int
    token: int
    payload: bytes


class Delivery(NamedTuple):
    """One message as a reader gets it. `deliveries` counts this one."""

    number: int
    deliveries: int
    body: bytes


def encode_frame(kind: Kind, token: int, *parts: bytes) -> bytes:
    """A whole frame whose payload is these parts."""
    return b"".join((_header.pack(sum(map(len, parts)), kind, token), *parts))


def encode_batch(bodies: Sequence[bytes]) -> bytes:
    """Messages as one piece of bytes."""
    return b"".join((struct.pack(f">{len(bodies) + 1}I", len(bodies), *map(len, bodies)), *bodies))


def decode_batch(data: bytes, at: int = 0) -> list[bytes]:
    """The messages of a batch that begins there and ends with the data. Raises ProtocolError."""
    count, at = _read_count(data, at, 4)
    bodies = []
    start = at + 4 * count
    for length in struct.unpack_from(f">{count}I", data, at):
        bodies.append(data[start : start + length])
        start += length
    if start != len(data):
        raise ProtocolError("the lengths of a batch are not those of its messages")
    return bodies


def encode_publish(token: int, topic: str, bodies: Sequence[bytes]) -> bytes:
    """Messages for a topic."""
    name = topic.encode()
    return encode_frame(Kind.PUBLISH, token, _name.pack(len(name)), name, encode_batch(bodies))


def decode_publish(payload: bytes) -> tuple[str, list[bytes]]:
    """The topic, and the messages. Raises ProtocolError."""
    if len(payload) < _name.size:
        raise ProtocolError("a publish without a topic")
    at = _name.size + _name.unpack_from(payload)[0]
    try:
        topic = payload[_name.size : at].decode()
    except UnicodeDecodeError:
        raise ProtocolError("a topic that is not UTF-8") from None
    return topic, decode_batch(payload, at)


def encode_numbers(kind: Kind, token: int, numbers: Sequence[int]) -> bytes:
    """ACK, RETURN or BURY for these messages."""
    return encode_frame(kind, token, struct.pack(f">{len(numbers)}Q", *numbers))


def decode_numbers(payload: bytes) -> tuple[int, ...]:
    """The numbers that an ACK, RETURN or BURY carries. Raises ProtocolError."""
    if len(payload) % 8:
        raise ProtocolError("numbers that are not 8 bytes each")
    return struct.unpack(f">{len(payload) // 8}Q", payload)


def encode_deliveries(numbers: Sequence[int], deliveries: Sequence[int], bodies: Sequence[bytes]) -> bytes:
    """The payload of a DELIVER."""
    count = len(numbers)
    times = bytes([min(times, _MOST_DELIVERIES) for times in deliveries])
    return b"".join((struct.pack(f">I{count}Q", count, *numbers), times, encode_batch(bodies)))


def decode_deliveries(payload: bytes) -> list[Delivery]:
    """The messages of a DELIVER. Raises ProtocolError."""
    count, at = _read_count(payload, 0, 9)
    numbers = struct.unpack_from(f">{count}Q", payload, at)
    at += 8 * count
    bodies = decode_batch(payload, at + count)
    if len(bodies) != count:
        raise ProtocolError(f"{count} numbers for {len(bodies)} messages")
    return list(map(Delivery, numbers, payload[at : at + count], bodies))


def encode_refusal(token: int, reason: Reason, message: str) -> bytes:
    """Why something was not done."""
    return encode_frame(Kind.REFUSED, token, bytes((reason,)), message.encode())


def decode_refusal(payload: bytes) -> tuple[Reason, str]:
    """The reason and the message. Raises ProtocolError."""
    try:
        return Reason(payload[0]), payload[1:].decode(errors="replace")
    except (IndexError, ValueError):
        raise ProtocolError("a refusal without a known reason") from None


class FrameReader:
    """Frames of a stream, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises ProtocolError; the stream is then of no further use."""
        buffer = self._data
        buffer += data
        frames = []
        at = 0
        size = len(buffer)
        while size - at >= HEADER_BYTES:
            length, kind, token = _header.unpack_from(buffer, at)
            if length > MAX_BODY_BYTES:
                raise ProtocolError(f"a payload of {length} bytes is longer than {MAX_BODY_BYTES}")
            end = at + HEADER_BYTES + length
            if end > size:
                break
            frames.append(Frame(kind, token, bytes(buffer[at + HEADER_BYTES : end])))
            at = end
        del buffer[:at]
        return frames


def _read_count(data: bytes, at: int, each_bytes: int) -> tuple[int, int]:
    """A count, and where what it counts begins: there has to be room for so many of at least that size."""
    if len(data) - at < _count.size:
        raise ProtocolError("a batch without a count")
    (count,) = _count.unpack_from(data, at)
    at += _count.size
    if count * each_bytes > len(data) - at:
        raise ProtocolError(f"a count of {count} where there is no room for so many")
    return count, at
