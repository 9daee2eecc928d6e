"""Clients of topics over HTTP: subscribers that read server-sent events (see `bench.wire.sse`), and publishers; over
HTTP/1.1 and over HTTP/2."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from bench.errors import ProtocolError
from bench.wire.http1 import ResponseReader, encode_request
from bench.wire.sse import PLAIN_EVENT, EventReader
from clients.http2_asking import Asked, AskedHead, AskingPeer

MEDIA_TYPE = "text/event-stream"

MAX_UNACKNOWLEDGED = 1 << 16

_PLAIN_CHUNK = re.compile(rb"([0-9a-f]{1,6})\r\n(%b)\r\n" % PLAIN_EVENT.pattern)
"""A plain event in a chunk of its own (RFC 9112, section 7.1), as servers send it that have nothing to wait for."""


def _target(topic: str) -> str:
    return f"/topics/{topic}"


def _require_success(status: int, said: bytes) -> None:
    if status != 200:
        raise ProtocolError(f"status {status}: {said[:200].decode(errors='replace').strip()}", status)


def _require_events(content_type: str) -> None:
    # The answer to anything else is to give up (WHATWG HTML, section 9.2.3).
    if content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProtocolError(f"the answer is {content_type or 'of no type'}, not {MEDIA_TYPE}")


class SseSubscriber(ResponseReader):
    """One subscription to a topic, over HTTP/1.1.

    Where an event that came whole, in a chunk of its own, was the last thing read, the next one is mostly the same:
    such a one is taken apart at once, for a parser at rest would find the same in it. A server sends it to all its
    subscribers in equal bytes, so what one of them has taken apart serves the others.
    """

    _known: ClassVar[tuple[bytes, bytes, Sequence[bytes]]] = (b"", b"", ())
    """The last bytes that were one plain chunk, the id of the event in it, and the event."""

    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"

    def __init__(self, topic: str, authority: str, scheme: str = "http", after_id: str = "") -> None:
        """`after_id` is the `last_event_id` of a subscription that has ended, to go on after that event."""
        super().__init__()
        self.max_in_flight = 0
        self.outgoing: list[bytes] = []
        last = b"last-event-id: %b\r\n" % after_id.encode("ascii") if after_id else b""
        fields = b"accept: text/event-stream\r\ncache-control: no-cache\r\n" + last
        self._request = encode_request("GET", _target(topic), authority, b"", fields)
        self._reader = EventReader(after_id)
        self._content_type = ""
        self._refusal = b""
        self._events: list[bytes] = []
        # Whether the next byte begins a chunk.
        self._between_chunks = False
        # The last event that `feed` has given: the reader's, or a later one that it knows nothing of.
        self._last_event_id = after_id
        self._passed: bytes | None = None

    @property
    def last_event_id(self) -> str:
        """The id of the last event that `feed` has given."""
        return self._last_event_id if self._passed is None else self._passed.decode("ascii")

    @property
    def retry_ms(self) -> int | None:
        """How long the server asks to wait before subscribing again, in milliseconds; None if it did not say."""
        return self._reader.retry_ms

    def open(self) -> None:
        """The connection is up: subscribe."""
        self.outgoing.append(self._request)

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take bytes of the stream. Gives the data of the events that they complete. Raises ProtocolError, for an
        answer that is no event stream too."""
        if self._between_chunks:
            known, event_id, events = SseSubscriber._known
            if data == known:
                self._passed = event_id
                return events
            # Two loops: most often there is one event.
            match = _PLAIN_CHUNK.fullmatch(data)
            if match is not None and int(match[1], 16) == len(match[2]):
                self._passed = match[3]
                events = (match[4],)
                SseSubscriber._known = data, match[3], events
                return events
            return self._feed_several(data)
        return self._parse(data)

    def feed_eof(self) -> Sequence[bytes]:
        """The server closed its side. An event that is not complete is none."""
        return ()

    def _feed_several(self, data: bytes) -> list[bytes]:
        events, at, passed = [], 0, None
        while match := _PLAIN_CHUNK.match(data, at):
            if int(match[1], 16) != len(match[2]):
                break
            passed = match[3]
            events.append(match[4])
            at = match.end()
        if at < len(data):
            events += self._parse(data[at:] if at else data, passed)
        elif passed is not None:
            self._passed = passed
        return events

    def _parse(self, data: bytes, passed: bytes | None = None) -> list[bytes]:
        """`passed` is the event before these bytes, if the reader knows nothing of it and nobody has been given it."""
        if self._passed is not None:
            self._last_event_id = self.last_event_id
            self._reader.passed(self._passed)
            self._passed = None
        if passed is not None:
            self._reader.passed(passed)
        self._events = []
        self.parse(data)
        self._last_event_id = self._reader.last_event_id
        # The line that a chunk begins with has not begun, for part of it would not end like this.
        self._between_chunks = self._between_chunks and data.endswith(b"\r\n") and self._reader.at_rest
        return self._events

    # ResponseReader

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if name.lower() == b"content-type":
            self._content_type = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._parser.get_status_code() == 200:
            _require_events(self._content_type)
            self.max_in_flight = 1

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended."""
        self._between_chunks = self.max_in_flight > 0

    def body_received(self, data: bytes) -> None:
        if self.max_in_flight:
            self._events += [event.data.encode() for event in self._reader.feed(data)]
        else:
            self._refusal += data[:200]

    def response_received(self, status: int) -> None:
        self._between_chunks = False
        _require_success(status, self._refusal)


class HttpPublisher(ResponseReader):
    """Publishes events over HTTP/1.1, each a request; they are pipelined."""

    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"

    def __init__(self, topic: str, authority: str, scheme: str = "http") -> None:
        super().__init__()
        self.max_in_flight = MAX_UNACKNOWLEDGED
        self.outgoing: list[bytes] = []
        self._topic = topic
        self._authority = authority
        self._due = 0
        self._acknowledged = 0
        self._said = b""

    def open(self) -> None:
        """HTTP/1.1 has no greeting."""

    def publish(self, payload: bytes) -> list[bytes]:
        """What to send for one event."""
        self._due += 1
        return [encode_request("POST", _target(self._topic), self._authority, payload)]

    def feed(self, data: bytes) -> int:
        """Take bytes of the stream. Gives how many events they acknowledge. Raises ProtocolError for a refusal too."""
        self._acknowledged = 0
        self.parse(data)
        return self._acknowledged

    def feed_eof(self) -> int:
        """The server closed its side. Gives how many events this acknowledges."""
        self._acknowledged = 0
        self.parse_eof()
        return self._acknowledged

    # ResponseReader

    def body_received(self, data: bytes) -> None:
        self._said += data[:200]

    def response_received(self, status: int) -> None:
        said, self._said = self._said, b""
        if self._due == 0:
            raise ProtocolError("an answer that nothing asked for")
        _require_success(status, said)
        self._due -= 1
        self._acknowledged += 1


class SseHttp2Subscriber(AskingPeer):
    """One subscription to a topic, over HTTP/2."""

    def __init__(self, topic: str, authority: str, scheme: str = "http", after_id: str = "") -> None:
        """`after_id` is the `last_event_id` of a subscription that has ended, to go on after that event."""
        super().__init__(authority, scheme)
        self._topic = topic
        self._after_id = after_id
        self._reader = EventReader(after_id)
        self._events: list[bytes] = []
        self.last_event_id = after_id
        """The id of the last event that `feed` has given."""

    @property
    def retry_ms(self) -> int | None:
        """How long the server asks to wait before subscribing again, in milliseconds; None if it did not say."""
        return self._reader.retry_ms

    def open(self) -> None:
        """The connection is up: subscribe."""
        super().open()
        last = [(b"last-event-id", self._after_id.encode("ascii"))] if self._after_id else []
        accepted = [(b"accept", MEDIA_TYPE.encode("ascii")), (b"cache-control", b"no-cache"), *last]
        self.request("GET", _target(self._topic), accepted, b"")

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take bytes of the stream. Gives the data of the events that they complete. Raises ProtocolError, for an
        answer that is no event stream too."""
        self._events = []
        self.take(data)
        self.last_event_id = self._reader.last_event_id
        return self._events

    def feed_eof(self) -> Sequence[bytes]:
        """The server closed its side. An event that is not complete is none."""
        return ()

    # AskingPeer

    def begun(self, asked: Asked, head: AskedHead) -> None:
        if head.status == 200:
            _require_events(head.content_type)
            self.max_in_flight = 1

    def piece_received(self, asked: Asked, data: bytes) -> None:
        if not self.max_in_flight:
            super().piece_received(asked, data)
            return
        match = PLAIN_EVENT.fullmatch(data) if self._reader.at_rest else None
        if match is not None:
            self._reader.passed(match[1])
            self._events.append(match[2])
        else:
            self._events += [event.data.encode() for event in self._reader.feed(data)]

    def answered(self, asked: Asked) -> None:
        _require_success(asked.status, b"".join(asked.pieces))


class Http2Publisher(AskingPeer):
    """Publishes events over HTTP/2, each a request on a stream of its own."""

    def __init__(self, topic: str, authority: str, scheme: str = "http") -> None:
        super().__init__(authority, scheme)
        self._topic = topic
        self._acknowledged = 0
        self._waiting: list[bytes] = []

    def publish(self, payload: bytes) -> list[bytes]:
        """What to send for one event. Those past what the server takes at a time wait, and go to `outgoing` later."""
        self._waiting.append(payload)
        self._ask_waiting()
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return to_send

    def feed(self, data: bytes) -> int:
        """Take bytes of the stream. Gives how many events they acknowledge. Raises ProtocolError for a refusal too."""
        self._acknowledged = 0
        self.take(data)
        self._ask_waiting()
        return self._acknowledged

    def feed_eof(self) -> int:
        """The server closed its side. It acknowledges nothing by that."""
        return 0

    # AskingPeer

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_UNACKNOWLEDGED)

    def answered(self, asked: Asked) -> None:
        _require_success(asked.status, b"".join(asked.pieces))
        self._acknowledged += 1

    def _ask_waiting(self) -> None:
        count = min(len(self._waiting), self.max_in_flight - len(self.streams))
        for payload in self._waiting[:count]:
            self.request("POST", _target(self._topic), (), payload)
        del self._waiting[:count]
