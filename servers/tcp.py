"""The lean server of raw TCP: binary frames (see `bench.wire.frames`), many requests of one connection at a time."""

import asyncio
from collections import deque
from typing import ClassVar, cast

from bench.errors import ProtocolError
from bench.wire.frames import (
    FATAL,
    HEADER_BYTES,
    MORE,
    NAMED,
    NO_ID,
    OK,
    FrameReader,
    encode_frame,
    encode_head,
    is_status,
    split_named,
)
from bench.wire.prompt_writing import prompt_writer
from servers.counters import ACCEPTS, REQUESTS
from servers.frame_events import FrameSubscription
from servers.service import Collect, Refused, Route, Upload
from servers.service_error import ServiceError
from servers.topics import Topic
from servers.worker import Lives, TransportKind, Worker

MAX_IN_FLIGHT = 256
"""Requests of one connection that run at a time; past it, the connection is not read."""

MAX_UNSENT_BYTES = 256 * 1024
"""Answers that may wait to be sent before the connection's next request has to."""

LINGER_S = 1.0
"""How long a client that broke the protocol may go on sending before the connection is cut. Closing at once would reset
the connection, and the client would lose the frame that says why."""


class TcpConnection(FrameReader, asyncio.Protocol):
    """One client. Its requests run as they come, and are answered as they are done."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ()

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._run = worker.run
        self._counts = worker.counts
        self._transport: asyncio.Transport
        # The request that is arriving in pieces, with its refusal if it has no route.
        self._id = NO_ID
        self._route: Route | ServiceError
        self._receiver: Collect | Upload | None = None
        self._name_bytes = 0  # that its payload begins with, if it names its operation
        self._subscriptions: list[FrameSubscription] = []
        # Requests that have arrived and may not start yet.
        self._waiting: deque[tuple[Route | ServiceError, bytes, bytes]] = deque()
        self._in_flight = 0
        # Answers made in one go leave together.
        self._collecting = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._blocked = False
        self._paused = False
        # No further request is taken; once those taken are answered, the connection closes.
        self._ended = False
        self._farewell = b""
        self._closed = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write_promptly = prompt_writer(self._transport)
        self._counts[ACCEPTS] += 1
        self._worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._waiting.clear()
        self._unsubscribe()
        self._worker.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._collecting = True
        try:
            self.parse(data)
        except ProtocolError as error:
            self._ended = True
            self._farewell = encode_frame(error.code, NO_ID, str(error).encode(), flags=FATAL)
        self._collecting = False
        self._flush()
        if self._waiting or self._blocked:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        # The client has sent all it will, and may still wait for answers, or it has left: it looks no different.
        self._ended = True
        self._worker.deferrals.hasten(self)
        self._flush()
        return not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        for subscription in list(self._subscriptions):
            subscription.drained(self._worker.inbox())
        self._run_waiting()

    # FrameReader

    def whole_frame(self, flags: int, code: int, a: int, b: int, frame_id: bytes, payload: bytes) -> None:
        if code == NAMED and not flags:
            self._accept_named(a, frame_id, payload)
            return
        route = self._find(flags, code, a, b)
        if isinstance(route, Route) and route.receiver is not Collect:
            receiver = route.receiver()
            receiver.feed(payload)
            payload = receiver.finish()
        self._accept(route, frame_id, payload)

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        self._id = frame_id
        self._name_bytes = a if code == NAMED and not flags else 0
        if self._name_bytes:
            self._receiver = Collect()
            return
        self._route = route = self._find(flags, code, a, b)
        self._receiver = route.receiver() if isinstance(route, Route) else None

    def payload_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.feed(data)

    def frame_received(self) -> None:
        body = self._receiver.finish() if self._receiver is not None else b""
        self._receiver = None
        if self._name_bytes:
            self._accept_named(self._name_bytes, self._id, body)
        else:
            self._accept(self._route, self._id, body)

    # Connection

    def answer(self, token: bytes, route: Route, answer: bytes) -> None:
        if self._closed:
            return
        self._in_flight -= 1
        if route.is_plain:
            self._send(OK, token, answer)
        else:
            self._send_special(token, route, answer)
        if not self._collecting:
            self._run_waiting()

    def drain(self) -> None:
        for subscription in self._subscriptions:
            for event in subscription.end(self._worker.inbox()):
                subscription.deliver(event)
            self._send(OK, subscription.frame_id, b"")
        self._subscriptions = []
        if not self.mid_frame:
            self._ended = True
        self._flush()

    def abort(self) -> None:
        self._transport.abort()

    # Requests

    def _find(self, flags: int, code: int, a: int, b: int) -> Route | ServiceError:
        """The operation that a header asks for, or why it is refused."""
        if flags or is_status(code):
            raise ProtocolError("not a request", 400)
        try:
            return self._worker.service.operation(code, a, b)
        except ServiceError as error:
            return error

    def _accept_named(self, name_bytes: int, frame_id: bytes, payload: bytes) -> None:
        method, path, body = split_named(name_bytes, payload)
        route: Route | ServiceError
        try:
            route, body = self._worker.service.asked(method, path, body)
        except ServiceError as error:
            route = error
        self._accept(route, frame_id, body)

    def _accept(self, route: Route | ServiceError, frame_id: bytes, body: bytes) -> None:
        if self._ended:
            return
        self._ended = self._worker.draining
        self._counts[REQUESTS] += 1
        if self._blocked or self._in_flight >= MAX_IN_FLIGHT:
            self._waiting.append((route, frame_id, body))
        else:
            self._start(route, frame_id, body)

    def _start(self, route: Route | ServiceError, frame_id: bytes, body: bytes) -> None:
        if isinstance(route, Route):
            self._in_flight += 1
            self._run(self, frame_id, route, body)
        else:
            self._send(route.status, frame_id, route.message.encode())

    def _run_waiting(self) -> None:
        self._collecting = True
        while self._waiting and self._in_flight < MAX_IN_FLIGHT and not self._blocked:
            self._start(*self._waiting.popleft())
        self._collecting = False
        self._flush()
        if self._paused and not (self._waiting or self._blocked):
            self._paused = False
            self._transport.resume_reading()

    # Subscriptions

    def _subscribe(self, frame_id: bytes, topic: Topic, after_id: int | None) -> None:
        self._send(OK, frame_id, b"", MORE)
        self._write()  # events do not wait for other answers, so nothing may wait before them
        subscription = FrameSubscription(frame_id, topic, self._push, self._transport.abort)
        self._subscriptions.append(subscription)
        topic.subscribe(subscription, self._worker.inbox(), after_id)

    def _push(self, frame: bytes) -> bool:
        """Send an event. Gives whether the next may follow at once."""
        if self._out:
            self._out.append(frame)  # in the order of the answers
            self._out_bytes += len(frame)
        else:
            self._write_promptly(frame)
        return not self._blocked  # it may be called at once

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            subscription.end(self._worker.inbox())
        self._subscriptions = []

    # Answers

    def _send_special(self, frame_id: bytes, route: Route, answer: bytes) -> None:
        """Send an answer that may be refused, is sent in pieces, or does not end."""
        if isinstance(answer, Refused):
            self._send(answer.status, frame_id, answer)
            return
        if route.topic is not None:
            self._subscribe(frame_id, route.topic, route.after_id)
            return
        *pieces, last = (route.in_pieces and route.pieces(answer)) or [answer]
        for piece in pieces:
            self._send(OK, frame_id, piece, MORE)
        self._send(OK, frame_id, last)

    def _send(self, status: int, frame_id: bytes, payload: bytes, flags: int = 0) -> None:
        size = len(payload)
        self._out += (encode_head(status, size, 0, 0, flags), frame_id, payload)
        self._out_bytes += size + HEADER_BYTES
        if self._out_bytes > MAX_UNSENT_BYTES:
            self._write()  # which calls pause_writing at once if the socket takes no more

    def _write(self) -> None:
        self._write_promptly(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def _flush(self) -> None:
        """Send what there is to send; after the last answer, take leave."""
        if self._closed:
            return
        if self._out:
            self._write()
        if self._ended and not (self._in_flight or self._waiting):
            if self._farewell:
                self._transport.write(self._farewell)
                self._transport.write_eof()
                self._farewell = b""
                self._worker.later(LINGER_S, self._transport.abort)
            else:
                self._transport.close()
