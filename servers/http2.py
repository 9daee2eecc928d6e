"""The lean HTTP/2 server (RFC 9113), for clients that know beforehand that it speaks HTTP/2 (h2c, section 3.3); with
streams of server-sent events, answers that last until the client or the server ends them."""

from bisect import insort
from collections import deque
from typing import ClassVar

from bench.contract import MAX_BODY_BYTES
from bench.wire.header_blocks import Fields
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME_BYTES,
    ErrorCode,
    encode_frame,
    frame_head,
    pack_id,
)
from servers.counters import REQUESTS
from servers.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, OPENING, encoded
from servers.http2_messages import TOO_LARGE, AnswerHeads, Refusal, Request
from servers.http2_serving import BURST_BYTES, Http2Server, ServedStream
from servers.service import Collect, Refused, Route, Upload
from servers.topics import Event, Topic
from servers.worker import Worker

_CONTINUE = b"\x08\x03100"  # a literal :status (RFC 7541, section 6.2.2), for `Expect: 100-continue`


class _Stream(ServedStream):
    """A request, until the last byte of its answer is sent."""

    __slots__ = ("events", "outcome", "pieces", "received_bytes", "receiver", "request")

    def __init__(self, stream_id: int, send_window: int, request: Request) -> None:
        super().__init__(stream_id, send_window)
        self.request = request
        self.urgency = request.urgency
        self.outcome: Route | Refusal | None = request.outcome
        """What the request will get when it is complete; None if it has got it before."""
        self.receiver: Collect | Upload | None = None
        self.received_bytes = 0
        self.pieces: deque[bytes] | None = None
        """What of the answer is to follow, each a frame of its own, once what is being sent is."""
        self.events: _Events | None = None
        """The answer is a topic's events."""


class Http2Connection(Http2Server[_Stream, Request]):
    """One client. Its requests are run as they come, and answered as they are done."""

    alpn: ClassVar[tuple[str, ...]] = ("h2", "http/1.1")
    reads_while_blocked = True  # or else what is urgent would not be seen before what is not has been sent

    def __init__(self, worker: Worker, fields: Fields = ()) -> None:
        """`fields` are in every answer."""
        super().__init__(worker)
        self._heads = AnswerHeads(self.writer, fields)
        # Requests that wait until the socket takes more, the most urgent first.
        self._waiting: deque[tuple[_Stream, Route, bytes]] = deque()
        # Plain answers in `outgoing`.
        self._unsent_bytes = 0

    # Connection

    def answer(self, token: _Stream, route: Route, answer: bytes) -> None:
        if self.closed:
            return
        stream_id, size = token.id, len(answer)
        token.running = False
        if self.streams.get(stream_id) is not token:
            self._orphans -= 1
        elif (
            0 < size <= MAX_FRAME_BYTES
            and size <= token.send_window
            and size <= self.send_window
            and route.is_plain
            and not token.request.head_only
        ):
            head, between = self._heads.frames(route.content_type, size)
            packed_id = pack_id(stream_id)
            outgoing = self.outgoing
            self._unsent_bytes = self._unsent_bytes + size if outgoing else size
            outgoing += (head, packed_id, between, packed_id, answer)
            self.send_window -= size
            self.end(token)
            if self._unsent_bytes > BURST_BYTES:
                self.write()
        elif isinstance(answer, Refused):
            refusal = Refusal(answer.status, answer.decode())
            self._send(token, self._heads.refusal(refusal), refusal.body)
        elif route.topic is not None:
            self._send_events(token, route, route.topic)
        elif route.in_pieces:
            self._send_pieces(token, route, answer)
        else:
            self._send(token, self._heads.block(route.content_type, size), answer)
        if not self.batching:
            self.flush()

    def drain(self) -> None:
        super().drain()
        for stream in list(self.streams.values()):
            if stream.events is not None:
                stream.events.end()
        if not self.batching:
            self.flush()

    # Http2Server

    def read_request(self, fields: Fields) -> Request:
        return Request(self.worker.service, fields)

    def opened(self, stream_id: int, request: Request, end_stream: bool) -> None:
        if request.malformed or request.is_trailers:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        stream = self.streams[stream_id] = _Stream(stream_id, self.peer_stream_window, request)
        if end_stream:
            self._complete(stream)
        elif stream.outcome is TOO_LARGE:
            self._refuse(stream, TOO_LARGE)
        elif isinstance(stream.outcome, Route):
            stream.receiver = stream.outcome.receiver()
            if request.expects_continue:
                self.outgoing.append(encode_frame(HEADERS, END_HEADERS, stream_id, _CONTINUE))

    def trailers_received(self, stream: _Stream, request: Request, end_stream: bool) -> None:
        if stream.complete:
            self.fail_stream(stream.id, ErrorCode.STREAM_CLOSED)
        elif request.is_trailers and end_stream:
            self._complete(stream)
        else:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)

    def unblocked(self) -> None:
        while self._waiting and not self.blocked:
            stream, route, body = self._waiting.popleft()
            if self.streams.get(stream.id) is stream:
                self._run(stream, route, body)

    def gone(self, stream: _Stream) -> None:
        if stream.events is not None:
            stream.events.unsubscribe()
        elif not stream.running:
            self._waiting = deque(waiting for waiting in self._waiting if waiting[0] is not stream)
        else:
            self.worker.deferrals.hasten(self, lambda token: token is stream)

    # Http2Peer

    def body_received(self, stream: _Stream, data: bytes, end_stream: bool) -> None:
        if stream.complete:
            self.fail_stream(stream.id, ErrorCode.STREAM_CLOSED)
            return
        stream.received_bytes += len(data)
        if stream.receiver is not None:
            if stream.received_bytes > MAX_BODY_BYTES:
                stream.receiver = None
                self._refuse(stream, TOO_LARGE)
            else:
                stream.receiver.feed(data)
        if end_stream:
            self._complete(stream)

    def body_sent(self, stream: _Stream) -> None:
        if stream.pieces:
            self._send_piece(stream, stream.pieces)
        elif stream.end_flags:
            self.end(stream)
        elif stream.events is not None:
            stream.events.drained()

    # Requests

    def _complete(self, stream: _Stream) -> None:
        """The client has sent all of a request."""
        length, outcome = stream.request.content_length, stream.outcome
        stream.complete = True
        if length is not None and length != stream.received_bytes:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)  # section 8.1.1
        elif isinstance(outcome, Refusal):
            self._refuse(stream, outcome)
        elif outcome is not None:
            receiver = stream.receiver
            body = (outcome.receiver() if receiver is None else receiver).finish()
            self.worker.counts[REQUESTS] += 1
            if self.blocked:
                insort(self._waiting, (stream, outcome, body), key=lambda waiting: waiting[0].urgency)
            else:
                self._run(stream, outcome, body)
        elif stream.answered:
            self.end(stream)

    def _run(self, stream: _Stream, route: Route, body: bytes) -> None:
        stream.running = True
        self.worker.run(self, stream, route, body)

    # Answers

    def _refuse(self, stream: _Stream, refusal: Refusal) -> None:
        stream.outcome = None
        self.worker.counts[REQUESTS] += 1
        self._send(stream, self._heads.refusal(refusal), refusal.body)

    def _send(self, stream: _Stream, block: bytes, body: bytes) -> None:
        if self._send_head(stream, block, bool(body)):
            self.send_body(stream, body)

    def _send_pieces(self, stream: _Stream, route: Route, answer: bytes) -> None:
        pieces = deque(route.pieces(answer))
        if self._send_head(stream, self._heads.block(route.content_type, None), bool(pieces)):
            stream.pieces = pieces
            stream.end_flags = 0
            self._send_piece(stream, pieces)

    def _send_piece(self, stream: _Stream, pieces: deque[bytes]) -> None:
        piece = pieces.popleft()
        if not pieces:
            stream.end_flags = END_STREAM
        self.send_body(stream, piece)

    def _send_head(self, stream: _Stream, block: bytes, has_body: bool) -> bool:
        """Whether a body follows."""
        body_follows = has_body and not stream.request.head_only
        flags = END_HEADERS if body_follows else END_HEADERS | END_STREAM
        self.outgoing.append(encode_frame(HEADERS, flags, stream.id, block))
        if not body_follows:
            self.end(stream)
        return body_follows

    # Events

    def _send_events(self, stream: _Stream, route: Route, topic: Topic) -> None:
        if self._send_head(stream, self._heads.events(route.content_type), True):
            stream.end_flags = 0
            stream.events = _Events(self, stream, topic)
            stream.events.begin(route.after_id)

    def push(self, stream: _Stream, frame_start: bytes, data: bytes) -> None:
        """Send more of an answer that goes on. `frame_start` is that of a DATA frame with `data`, up to its stream."""
        size = len(data)
        if (
            size <= stream.send_window
            and size <= self.send_window
            and size <= MAX_FRAME_BYTES
            and not (stream.body or self.blocked or self.batching)
        ):
            stream.send_window -= size
            self.send_window -= size
            self._transport.write(b"%b%b%b" % (frame_start, pack_id(stream.id), data))
            return
        self.add_body(stream, data)
        if not self.batching:
            self.flush()

    def finish(self, stream: _Stream) -> None:
        """An answer that went on ends, with what of it waits to be sent."""
        stream.end_flags = END_STREAM
        if not stream.body:
            self.outgoing.append(encode_frame(DATA, END_STREAM, stream.id))
            self.end(stream)


def _frame_start(event: Event) -> bytes:
    return frame_head(len(encoded(event)), DATA, 0)


class _Events:
    """A topic's events on their way to one stream."""

    __slots__ = ("_connection", "_stream", "_topic")

    def __init__(self, connection: Http2Connection, stream: _Stream, topic: Topic) -> None:
        self._connection = connection
        self._stream = stream
        self._topic: Topic | None = topic

    def begin(self, after_id: int | None) -> None:
        """Want the topic's events from now on, or from the one after `after_id`."""
        connection, topic = self._connection, self._topic
        assert topic is not None
        missed = topic.join(self, connection.worker.inbox(), after_id)
        connection.write()  # events do not wait for other frames, so nothing may wait before them
        self._push(OPENING)
        for event in missed:
            self.deliver(event)
        if connection.draining:
            self.end()
        else:
            connection.worker.later(KEEP_ALIVE_S, self._keep_alive)

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self._connection.push(self._stream, event.encoded("sse-http2", _frame_start), encoded(event))
        return not self._stream.body

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._connection.reset(self._stream.id, ErrorCode.CANCEL)
        self._connection.flush()

    def drained(self) -> None:
        """The stream's body is sent, as far as there is one. Called while bodies are sent."""
        connection = self._connection
        if self._topic is not None:
            was_batching, connection.batching = connection.batching, True
            self._topic.drained(self, connection.worker.inbox())
            connection.batching = was_batching

    def unsubscribe(self) -> list[Event]:
        """The stream is no more. Gives the events that still wait for it."""
        topic, self._topic = self._topic, None
        return [] if topic is None else topic.unsubscribe(self, self._connection.worker.inbox())

    def end(self) -> None:
        """Let the answer end."""
        for event in self.unsubscribe():
            self.deliver(event)
        self._connection.finish(self._stream)

    def _keep_alive(self) -> None:
        if self._topic is not None:
            self._push(KEEP_ALIVE)
            self._connection.worker.later(KEEP_ALIVE_S, self._keep_alive)

    def _push(self, data: bytes) -> None:
        self._connection.push(self._stream, frame_head(len(data), DATA, 0), data)
