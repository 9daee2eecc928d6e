"""Clients of topics over HTTP: subscribers that read server-sent events (see `bench.wire.sse`), and publishers; over
HTTP/1.1 and over HTTP/2."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from bench.errors import ProtocolError
from bench.wire.header_blocks import Fields, Head, HeaderReader, MalformedError
from bench.wire.http1 import ResponseReader, encode_request
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_frame,
    encode_goaway,
    encode_settings,
    encode_window_update,
)
from bench.wire.http2_sending import Stream
from bench.wire.sse import PLAIN_EVENT, EventReader

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


class _Head:
    """What a header block of the server says."""

    __slots__ = ("content_type", "status")

    def __init__(self, fields: Fields) -> None:
        """Raises ProtocolError."""
        try:
            head = Head(fields)
        except MalformedError as error:
            raise ProtocolError(f"a malformed answer: {error}", ErrorCode.PROTOCOL_ERROR) from None
        status = head.pseudo.get(b"status", b"")
        self.status = int(status) if len(status) == 3 and status.isdigit() else 0
        """0 in trailers, which have none."""
        self.content_type = dict(head.fields).get(b"content-type", b"").decode("latin-1")


class _Answer(Stream):
    """A request, until its answer is complete."""

    __slots__ = ("said", "status")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.status = 0
        self.said = b""


class _TopicPeer(Http2Peer[_Answer]):
    """A client's end of an HTTP/2 connection that is about one topic. Whatever is not as it should be ends it."""

    alpn: ClassVar[tuple[str, ...]] = ("h2",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"
    stream_window_bytes = MAX_WINDOW_BYTES
    connection_window_bytes = MAX_WINDOW_BYTES
    peer_may_push = False

    def __init__(self, topic: str, authority: str, scheme: str = "http") -> None:
        super().__init__()
        self.max_in_flight = 0
        self._fields = [
            (b":scheme", scheme.encode("ascii")),
            (b":authority", authority.encode("ascii")),
            (b":path", _target(topic).encode("ascii")),
        ]
        self._heads = HeaderReader(_Head)
        self._next_id = 1

    def open(self) -> None:
        """The connection is up."""
        settings = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES}
        update = encode_window_update(0, MAX_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
        self.outgoing.append(PREFACE + encode_settings(settings) + update)

    def _ask(self, method: bytes, fields: Fields, body: bytes) -> None:
        stream = self.streams[self._next_id] = _Answer(self._next_id, self.peer_stream_window)
        self._next_id += 2
        block = self.writer.encode([(b":method", method), *self._fields, *fields])
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        self.outgoing.append(encode_frame(HEADERS, flags, stream.id, block))
        if body:
            self.send_body(stream, body)
            self.send_bodies(MAX_WINDOW_BYTES)

    def _take(self, data: bytes) -> None:
        try:
            self.receive(data)
            if self.is_sending:
                self.send_bodies(MAX_WINDOW_BYTES)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, ErrorCode.PROTOCOL_ERROR))
            raise error

    # Hooks

    def _began(self, stream: _Answer, head: _Head) -> None:
        """The head of an answer has come."""

    def _ended(self, stream: _Answer) -> None:
        """An answer is complete, and a success."""

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        stream = self.streams.get(stream_id)
        if stream is None or bool(stream.status) == bool(head.status):
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.PROTOCOL_ERROR)
        if head.status >= 200:
            stream.status = head.status
            if head.status == 200:
                self._began(stream, head)
        if end_stream:
            self._end(stream)

    def body_received(self, stream: _Answer, data: bytes, end_stream: bool) -> None:
        if not stream.status:
            raise ProtocolError("a body without a head", ErrorCode.PROTOCOL_ERROR)
        stream.said += data[: 200 - len(stream.said)]
        if end_stream:
            self._end(stream)

    def unlisted(self, stream_id: int) -> _Answer | None:
        raise ProtocolError("an answer to nothing that was asked", ErrorCode.STREAM_CLOSED)

    def stream_ended(self, stream_id: int, stream: _Answer | None) -> None:
        raise ProtocolError("the server has given the request up", ErrorCode.CANCEL)

    def is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_id or stream_id % 2 == 0

    def _end(self, stream: _Answer) -> None:
        self.drop(stream.id)
        _require_success(stream.status, stream.said)
        self._ended(stream)


class SseHttp2Subscriber(_TopicPeer):
    """One subscription to a topic, over HTTP/2."""

    def __init__(self, topic: str, authority: str, scheme: str = "http", after_id: str = "") -> None:
        """`after_id` is the `last_event_id` of a subscription that has ended, to go on after that event."""
        super().__init__(topic, authority, scheme)
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
        self._ask(b"GET", [(b"accept", MEDIA_TYPE.encode("ascii")), (b"cache-control", b"no-cache"), *last], b"")

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take bytes of the stream. Gives the data of the events that they complete. Raises ProtocolError, for an
        answer that is no event stream too."""
        self._events = []
        self._take(data)
        self.last_event_id = self._reader.last_event_id
        return self._events

    def feed_eof(self) -> Sequence[bytes]:
        """The server closed its side. An event that is not complete is none."""
        return ()

    def body_received(self, stream: _Answer, data: bytes, end_stream: bool) -> None:
        if self.max_in_flight:
            match = PLAIN_EVENT.fullmatch(data) if self._reader.at_rest else None
            if match is not None:
                self._reader.passed(match[1])
                self._events.append(match[2])
            else:
                self._events += [event.data.encode() for event in self._reader.feed(data)]
            data = b""
        super().body_received(stream, data, end_stream)

    def _began(self, stream: _Answer, head: _Head) -> None:
        _require_events(head.content_type)
        self.max_in_flight = 1


class Http2Publisher(_TopicPeer):
    """Publishes events over HTTP/2, each a request on a stream of its own."""

    def __init__(self, topic: str, authority: str, scheme: str = "http") -> None:
        super().__init__(topic, authority, scheme)
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
        self._take(data)
        self._ask_waiting()
        return self._acknowledged

    def feed_eof(self) -> int:
        """The server closed its side. It acknowledges nothing by that."""
        return 0

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_UNACKNOWLEDGED)

    def _ended(self, stream: _Answer) -> None:
        self._acknowledged += 1

    def _ask_waiting(self) -> None:
        count = min(len(self._waiting), self.max_in_flight - len(self.streams))
        for payload in self._waiting[:count]:
            self._ask(b"POST", [(b"content-length", b"%d" % len(payload))], payload)
        del self._waiting[:count]
