"""The lean WebSocket server (RFC 6455), with permessage-deflate (RFC 7692) for clients that offer it.

The path of the opening request says what the messages of a connection are: requests of that route, each answered by one
message; or, below `/topics/`, events to publish, and then each event of the topic is delivered as a message. With the
subprotocol of frames they are frames, whatever the path. What does not ask for WebSocket is served as HTTP/1.1, by the
same port.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Final, cast

from bench.contract import Opcode
from bench.errors import ProtocolError
from bench.wire.frames import SUBPROTOCOL
from bench.wire.http1_heads import HEAD_END, MAX_HEAD_BYTES
from bench.wire.permessage_deflate import Deflate, Inflate, accept_offer
from bench.wire.prompt_writing import prompt_writer
from bench.wire.websocket import (
    BINARY,
    CONTINUATION,
    FIN,
    PONG,
    RSV1,
    TEXT,
    CloseCode,
    MessageReader,
    encode_close,
    encode_frame,
    encode_head,
)
from bench.wire.websocket_handshake import (
    Opening,
    RefusalError,
    encode_acceptance,
    read_opening,
)
from servers.counters import ACCEPTS, REQUESTS
from servers.http1 import Http1Connection
from servers.service import Collect, Refused, Route, Upload
from servers.service_error import ServiceError
from servers.topics import Event, Topic
from servers.websocket_frames import LINGER_S, WebsocketFrames
from servers.worker import Lives, TransportKind, Worker

MAX_WAITING = 64
"""Messages of one connection that may wait behind the one that is being run; past it, the connection is not read."""

MAX_UNSENT_BYTES = 256 * 1024
"""Answers that may wait to be sent before the connection's next message has to."""

# What the bytes that arrive are to a connection. Zero, what they mostly are, is the quickest to ask for.
_MESSAGES, _OPENING, _OTHERS, _NOTHING = range(4)

_GET: Final = b"GET "

_BINARY_ONLY: Final = (Opcode.BYTES, Opcode.UPLOAD)
"""Operations whose answers are no text, whatever they were asked with."""


class WebsocketConnection(MessageReader, asyncio.Protocol):
    """One client. Its messages are run one after the other, and answered in the order that they came."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    peer_masks = True

    __slots__ = (
        "_after_id",
        "_blocked",
        "_closed",
        "_collecting",
        "_counts",
        "_deflate",
        "_draining",
        "_ended",
        "_farewell",
        "_input",
        "_is_plain",
        "_kind",
        "_other",
        "_out",
        "_out_bytes",
        "_receiver",
        "_route",
        "_run",
        "_running",
        "_topic",
        "_transport",
        "_waiting",
        "_worker",
        "_write_promptly",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._run = worker.run
        self._counts = worker.counts
        self._transport: asyncio.Transport
        self._input = _OPENING
        self._other: Http1Connection | WebsocketFrames | None = None
        self._route: Route | None = None
        # The topic that the messages are published to, and after which of its events the others are wanted.
        self._topic: Topic | None = None
        self._after_id: int | None = None
        self._deflate: Deflate | None = None
        self._is_plain = False
        """Whether each answer is one frame, of the kind that the request was."""
        # The message that is arriving in pieces.
        self._kind = BINARY
        self._receiver: Collect | Upload | None = None
        # Messages behind the one that is being run; made when there is one.
        self._waiting: deque[tuple[int, bytes]] | None = None
        self._running = False
        # Answers made while input is parsed, or waiting messages are run, leave together.
        self._collecting = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._blocked = False
        # No further message is taken; once those taken are answered, the farewell is sent.
        self._ended = False
        self._farewell = b""
        self._draining = False
        self._closed = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write_promptly = prompt_writer(self._transport)
        self._counts[ACCEPTS] += 1
        self._worker.connections.add(self)
        self._draining = self._worker.draining

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._waiting = None
        if self._topic is not None:
            self._topic.unsubscribe(self, self._worker.inbox())
        self._worker.lost(self)
        if self._other is not None:
            self._other.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._input:
            self._take_other(data)
            return
        self._collecting = True
        try:
            self.parse(data)
        except ProtocolError as error:
            self._input = _NOTHING
            self._end(error.code, str(error))
        self._collecting = False
        if self._out:
            self._write_promptly(b"".join(self._out))
            self._out.clear()
            self._out_bytes = 0
        if self._ended:
            self._leave_if_done()
        if self._blocked or (self._waiting and len(self._waiting) > MAX_WAITING):
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        if self._other is not None:
            return self._other.eof_received()
        # The client has sent all it will, and may still wait for answers.
        self._ended = self.peer_closed = True
        self._worker.deferrals.hasten(self)  # or it has left: it looks no different
        self._leave_if_done()
        return not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._blocked = True
        if self._other is not None:
            self._other.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._other is not None:
            self._other.resume_writing()
        else:
            if self._topic is not None:
                self._topic.drained(self, self._worker.inbox())
            self._run_waiting()

    # Opening

    def _take_other(self, data: bytes) -> None:
        """Bytes that are no messages."""
        if self._other is not None:
            self._other.data_received(data)
        elif self._input == _OPENING:
            self._partial = data = self._partial + data
            end = data.find(HEAD_END) + len(HEAD_END)
            if end >= len(HEAD_END) or len(data) > MAX_HEAD_BYTES or not (data + _GET).startswith(_GET):
                self._partial = b""
                self._open(data, end)

    def _open(self, data: bytes, end: int) -> None:
        """The opening request is `data` up to `end`, or there is none."""
        try:
            opening = read_opening(data[:end])
            if opening is None:
                self._become(Http1Connection(self._worker), data)
                return
            if SUBPROTOCOL.encode() in opening.subprotocols:
                self._transport.write(encode_acceptance(opening.key, subprotocol=SUBPROTOCOL))
                self._become(WebsocketFrames(self._worker), data[end:])
                return
            acceptance = self._accept(opening)
        except RefusalError as refusal:
            self._input = _NOTHING
            self._ended = True
            self._farewell = refusal.encode()
            self._leave_if_done()
            return
        self._input = _MESSAGES
        self._out.append(acceptance)
        if self._topic is not None:
            # Before the client is told, so that it misses nothing from then on; events leave after the acceptance.
            self._collecting = True
            self._topic.subscribe(self, self._worker.inbox(), self._after_id)
            self._collecting = False
        self._write()
        if self._draining:
            self.drain()
        if end < len(data):
            self.data_received(data[end:])

    def _accept(self, opening: Opening) -> bytes:
        """Make ready for what a client asks for. Gives the answer; raises RefusalError."""
        try:
            route = self._worker.service.route(opening.target)
        except ServiceError as error:
            raise RefusalError(error.status, error.message) from None
        self._route = route
        if route.other is not None and route.other.topic is not None:
            self._topic, self._after_id = route.other.topic, route.other.after_id
        try:
            agreement = accept_offer(opening.extensions)
        except ProtocolError as error:
            raise RefusalError(error.code, str(error)) from None
        if agreement is None:
            self._is_plain = route.is_plain and route.opcode not in _BINARY_ONLY
            return encode_acceptance(opening.key)
        self._deflate = Deflate(agreement.server_max_window_bits, agreement.server_no_context_takeover)
        self.inflate = Inflate(agreement.client_max_window_bits, agreement.client_no_context_takeover)
        return encode_acceptance(opening.key, agreement.encode())

    def _become(self, other: Http1Connection | WebsocketFrames, data: bytes) -> None:
        """From here on the connection is another one. It stays ours too: not every transport changes hands."""
        self._input = _OTHERS
        self._worker.connections.discard(self)
        self._counts[ACCEPTS] -= 1  # it is about to be counted once more
        self._other = other
        other.connection_made(self._transport)
        if self._draining:
            other.drain()
        if data:
            other.data_received(data)

    # MessageReader

    def whole_message(self, opcode: int, payload: bytes) -> None:
        route = self._route
        if route is None or route.receiver is not Collect or self._topic is not None:
            super().whole_message(opcode, payload)
        elif self._running or self._blocked or self._draining or self._ended:
            self._take(opcode, payload)
        else:
            self._counts[REQUESTS] += 1
            self._running = True
            self._run(self, opcode, route, payload)

    def message_begun(self, opcode: int) -> None:
        self._kind = opcode
        self._receiver = self._route.receiver() if self._route is not None else Collect()
        if self._topic is not None and opcode != TEXT:
            raise ProtocolError("events are text", CloseCode.UNSUPPORTED_DATA)

    def payload_received(self, data: bytes) -> None:
        assert self._receiver is not None
        self._receiver.feed(data)

    def message_received(self) -> None:
        assert self._receiver is not None
        body = self._receiver.finish()
        self._receiver = None
        self._take(self._kind, body)

    def ping_received(self, payload: bytes) -> None:
        if not self._ended:
            self._send(encode_frame(FIN | PONG, payload))

    def close_received(self, code: int) -> None:
        self._input = _NOTHING
        if not self._ended:
            self._end(code)

    # Connection

    def answer(self, token: int, route: Route, answer: bytes) -> None:
        """`token` is the kind of message that the request was."""
        if self._closed:
            return
        self._running = False
        if self._is_plain:
            size = len(answer)
            self._out += (encode_head(FIN | token, size), answer)
            self._out_bytes += size
            if self._out_bytes > MAX_UNSENT_BYTES:
                self._write()  # which calls pause_writing at once if the socket takes no more
        elif self._topic is None:
            self._send_framed(token, route, answer)
        elif isinstance(answer, Refused):
            self._refuse(answer)
        if not self._collecting:
            self._run_waiting()

    def drain(self) -> None:
        self._draining = True
        if self._other is not None:
            self._other.drain()
        elif self._input == _OPENING:
            if not self._partial:
                self._transport.close()
        elif not (self._ended or self.mid_message):
            if self._topic is not None:
                for event in self._topic.unsubscribe(self, self._worker.inbox()):
                    self.deliver(event)
            self._end(CloseCode.GOING_AWAY)
            self._leave_if_done()

    def abort(self) -> None:
        self._transport.abort()

    # Subscription

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        if self._ended:
            return True
        if self._collecting:
            self._send(event.encoded("websocket", _encode_event))
        else:
            self._transport.write(event.encoded("websocket", _encode_event))
        return not self._blocked  # it may be called at once

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._ended = True
        self._transport.abort()

    # Messages

    def _take(self, kind: int, body: bytes) -> None:
        """A message is complete: run it, or keep it until it can be."""
        if self._ended:
            return
        self._counts[REQUESTS] += 1
        if self._draining:
            self._end(CloseCode.GOING_AWAY)
        if self._running or self._blocked:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append((kind, body))
        else:
            assert self._route is not None
            self._running = True
            self._run(self, kind, self._route, body)

    def _refuse(self, refusal: Refused) -> None:
        """Publish nothing more: there is no other way to refuse a message."""
        self._input = _NOTHING
        if self._waiting:
            self._waiting.clear()
        self._end(CloseCode.TOO_BIG if refusal.status == 413 else CloseCode.TRY_AGAIN_LATER, refusal.decode())

    def _run_waiting(self) -> None:
        waiting, route = self._waiting, self._route
        if waiting and route is not None:
            self._collecting = True  # an answer made at once must not come back here
            while waiting and not (self._running or self._blocked):
                self._running = True
                self._run(self, waiting[0][0], route, waiting.popleft()[1])
            self._collecting = False
        if self._out:
            self._write()
        if self._ended:
            self._leave_if_done()
        if not (waiting or self._blocked or self._closed):
            self._transport.resume_reading()

    def _send_framed(self, kind: int, route: Route, answer: bytes) -> None:
        """The answers that are not plain: of another kind than the request, compressed, or in pieces."""
        first = BINARY if route.opcode in _BINARY_ONLY else kind
        pieces: Sequence[bytes] = (answer,)
        if self._deflate is not None:
            first |= RSV1
            pieces = (self._deflate.compress(answer),)
        elif route.in_pieces:
            pieces = route.pieces(answer) or pieces
        for piece in pieces[:-1]:
            self._send(encode_frame(first, piece))
            first = CONTINUATION
        self._send(encode_frame(FIN | first, pieces[-1]))

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > MAX_UNSENT_BYTES:
            self._write()

    def _write(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    # Closing

    def _end(self, code: int, reason: str = "") -> None:
        """Take no further message, and close with that code after the last answer."""
        self._ended = True
        self._farewell = encode_close(code, reason)

    def _leave_if_done(self) -> None:
        """Take leave after the last answer, and close once the client has as well."""
        if self._running or self._waiting or self._closed:
            return
        if self._farewell:
            self._transport.write(self._farewell)
            self._farewell = b""
            if not self.peer_closed:
                if self._input == _NOTHING and self._transport.can_write_eof():
                    self._transport.write_eof()
                self._worker.later(LINGER_S, self._transport.abort)
        if self.peer_closed:
            self._transport.close()


def _encode_event(event: Event) -> bytes:
    """An event as a message: a text, but for what another protocol has published that is none."""
    try:
        event.data.decode()
    except UnicodeDecodeError:
        return encode_frame(FIN | BINARY, event.data)
    return encode_frame(FIN | TEXT, event.data)
