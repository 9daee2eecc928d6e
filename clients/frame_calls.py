"""Clients of raw TCP that ask for whatever HTTP can ask for: calls, subscriptions to topics, and publishers (see
`bench.wire.frames`). Each frame that they send or take is whole by itself, so they serve over data channels too."""

from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

from bench.contract import Exchange
from bench.conversation import Reply
from bench.errors import ProtocolError
from bench.wire.frames import FATAL, MORE, NO_ID, OK, FrameReader, encode_named, frame_ids, is_status

MAX_CALLS = 256
"""Calls on a connection at a time; the server takes no more."""

MAX_UNACKNOWLEDGED = 1 << 16


class _FramePeer(FrameReader):
    """A client's end of a connection."""

    alpn: ClassVar[tuple[str, ...]] = ()
    transport_kind: ClassVar[Literal["stream"]] = "stream"

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.outgoing: list[bytes] = []
        self._id = NO_ID
        self._status = 0
        self._more = False
        self._pieces: list[bytes] = []

    def open(self) -> None:
        """The connection is up."""

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        if flags & FATAL or not is_status(code):
            raise ProtocolError(f"the server gave up with status {code}" if flags & FATAL else "not an answer", code)
        self._id, self._status, self._more = frame_id, code, bool(flags & MORE)

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def _payload(self) -> bytes:
        payload = b"".join(self._pieces)
        self._pieces.clear()
        return payload


class FrameCaller(_FramePeer):
    """Calls of any kind (see `bench.load.calls.Caller`)."""

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = MAX_CALLS
        self._ids = frame_ids()
        self._waiting: dict[bytes, list[bytes]] = {}
        """The pieces of each answer that is waited for, as far as they have come."""
        self._replies: list[tuple[Hashable, Reply]] = []

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        frame_id = next(self._ids)
        self._waiting[frame_id] = []
        return frame_id, [encode_named(exchange.method, exchange.path, frame_id, exchange.body)]

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self._replies = []
        self.parse(data)
        return self._replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        return ()

    def frame_received(self) -> None:
        pieces = self._waiting.get(self._id)
        if pieces is None:
            raise ProtocolError("an answer that nothing asked for")
        pieces.append(self._payload())
        if not self._more:
            del self._waiting[self._id]
            self._replies.append((self._id, Reply(self._status, b"".join(pieces))))


class FrameSubscriber(_FramePeer):
    """One subscription to a topic.

    A server sends an event to all its subscribers in equal bytes. What one of them has parsed, and found to be whole
    frames and nothing else, the others take as read.
    """

    _known: ClassVar[tuple[bytes, int | None, Sequence[bytes]]] = (b"", None, ())
    """The last bytes that were whole frames, the id of the last event in them, and the events."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = 0
        self.last_id: int | None = None
        """The id of the last event that was given."""
        self._topic = topic
        self._event_id = 0
        self._events: list[bytes] = []

    def open(self) -> None:
        """The connection is up: subscribe."""
        self.outgoing.append(encode_named("GET", f"/topics/{self._topic}", NO_ID))

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The data of the events that these bytes complete. Raises ProtocolError."""
        is_at_rest = self.max_in_flight and not self.mid_frame
        known, last_id, events = FrameSubscriber._known
        if data == known and is_at_rest:
            self.last_id = last_id
            return events
        self._events = []
        self.parse(data)
        if is_at_rest and self._events and not self.mid_frame:
            FrameSubscriber._known = data, self.last_id, self._events
        return self._events

    def feed_eof(self) -> Sequence[bytes]:
        return ()

    def whole_frame(self, flags: int, code: int, a: int, b: int, frame_id: bytes, payload: bytes) -> None:
        if flags == MORE and code == OK and self.max_in_flight:
            self.last_id = a << 32 | b
            self._events.append(payload)
        else:
            super().whole_frame(flags, code, a, b, frame_id, payload)

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        super().frame_begun(flags, code, a, b, frame_id)
        self._event_id = a << 32 | b

    def frame_received(self) -> None:
        payload = self._payload()
        if self._status != OK:
            raise ProtocolError(f"status {self._status}: {payload[:200].decode(errors='replace')}", self._status)
        if not self._more:
            raise ProtocolError("the server ends the subscription")
        if self.max_in_flight:
            self.last_id = self._event_id
            self._events.append(payload)
        self.max_in_flight = 1


class FramePublisher(_FramePeer):
    """Publishes events, each a request."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = MAX_UNACKNOWLEDGED
        self._path = f"/topics/{topic}"
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()
        self._acknowledged = 0

    def publish(self, data: bytes) -> list[bytes]:
        """What to send for one event."""
        frame_id = next(self._ids)
        self._waiting.add(frame_id)
        return [encode_named("POST", self._path, frame_id, data)]

    def feed(self, data: bytes) -> int:
        """How many events these bytes acknowledge. Raises ProtocolError, for a refusal too."""
        self._acknowledged = 0
        self.parse(data)
        return self._acknowledged

    def feed_eof(self) -> int:
        return 0

    def frame_received(self) -> None:
        said = self._payload()
        if self._id not in self._waiting:
            raise ProtocolError("an answer that nothing asked for")
        if self._status != OK:
            raise ProtocolError(f"status {self._status}: {said[:200].decode(errors='replace')}", self._status)
        self._waiting.remove(self._id)
        self._acknowledged += 1
