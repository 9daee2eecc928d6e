"""The lean gRPC server: calls as streams of HTTP/2, messages with their length, the outcome in trailers
(PROTOCOL-HTTP2.md in grpc/grpc)."""

import time
from collections import deque

from bench.wire.grpc_messages import PREFIX_BYTES, REFUSALS, MessageReader, Status, StatusError, frame_message, pack
from bench.wire.header_blocks import Fields
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME_BYTES,
    ErrorCode,
    encode_frame,
    pack_id,
)
from servers.counters import REQUESTS
from servers.deadlines import Deadlines
from servers.grpc_heads import AnswerHeads, CallHead
from servers.grpc_methods import Subscription
from servers.http2_serving import BURST_BYTES, Http2Server, ServedStream
from servers.service import Route, Upload
from servers.service_error import ServiceError
from servers.worker import Worker

MAX_BACKLOG_BYTES = 1 << 20
"""How much may wait for a client to take it, on one call, before the server takes nothing more from that client on that
call."""

MAX_BACKLOG_MESSAGES = 64
"""How many messages of a call may wait to be run before the server takes no more of them."""

_AROUND_BYTES = 16
"""More than what stands before a payload in its DATA frame."""

_MAX_PLAIN_BYTES = MAX_FRAME_BYTES - _AROUND_BYTES

_TOO_LATE = StatusError(Status.DEADLINE_EXCEEDED, "the call took longer than its grpc-timeout")
_STOPPING = StatusError(Status.UNAVAILABLE, "the server is stopping")


class Call(ServedStream):
    """One call, until the last byte of its trailers is sent."""

    __slots__ = (
        "deadline_ns",
        "finishing",
        "head",
        "head_sent",
        "message",
        "queue",
        "reader",
        "received_bytes",
        "state",
    )

    def __init__(self, stream_id: int, send_window: int, head: CallHead) -> None:
        super().__init__(stream_id, send_window)
        self.end_flags = 0
        self.head = head
        self.received_bytes = 0
        """Counted only where the client has said how many there will be."""
        self.reader: MessageReader | None = None
        self.message: bytes | None = None
        """The message of a call that has only one, until it is known that there is no other."""
        self.state: Upload | Subscription | None = None
        """What the method keeps."""
        self.queue: deque[tuple[Route, bytes]] | None = None
        """What waits to be run: for the message before it, or for the socket to take more."""
        self.deadline_ns: int | None = None
        self.head_sent = False
        self.finishing = False
        """The call has gone well, and ends when what waits has been sent."""


class GrpcConnection(Http2Server[Call, CallHead]):
    """One client. Its calls are run as their messages come, and answered as they are done."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._heads = AnswerHeads(self.writer)
        # Calls with something in their queue because the socket takes no more.
        self._waiting: dict[Call, None] = {}
        self._advancing: Call | None = None
        self._deadlines = Deadlines(worker.later, self._is_waiting, self._late)
        self._unsent_bytes = 0

    # Connection

    def answer(self, token: Call, route: Route, answer: bytes) -> None:
        if self.closed:
            return
        if self.is_current(token) and not token.answered:
            size = len(answer)
            if token.deadline_ns is not None and time.monotonic_ns() >= token.deadline_ns:
                self.finish(token, _TOO_LATE)
            elif (
                token.head.plain_answer
                and size <= _MAX_PLAIN_BYTES
                and size < token.send_window - _AROUND_BYTES
                and size < self.send_window - _AROUND_BYTES
            ):
                before, head, prefix, before_end, end = self._heads.frames(size)
                packed_id = pack_id(token.id)
                self.outgoing += (before, packed_id, head, packed_id, prefix, answer, before_end, packed_id, end)
                self.send_window -= len(prefix) + size
                self.end(token)
                self._unsent_bytes += size
                if self._unsent_bytes > BURST_BYTES:
                    self.write()
            else:
                token.head.method.answered(self, token, route, answer)
                self._settle(token)
        if not self.batching:
            self.flush()

    def drain(self) -> None:
        super().drain()
        for call in list(self.streams.values()):
            if call.head.error is None and call.head.method.endless:
                self.finish(call, _STOPPING)
            else:
                self._settle(call)
        self.flush()

    # Http2Server

    def read_request(self, fields: Fields) -> CallHead:
        return CallHead(fields)

    def opened(self, stream_id: int, request: CallHead, end_stream: bool) -> None:
        if request.malformed or request.is_trailers:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        call = self.streams[stream_id] = Call(stream_id, self.peer_stream_window, request)
        if request.error is not None:
            call.complete = end_stream
            self.count()
            self.finish(call, request.error)
            return
        if request.timeout_ns is not None:
            call.deadline_ns = time.monotonic_ns() + request.timeout_ns
            self._deadlines.add(stream_id, call.deadline_ns)
        if end_stream:
            self._complete(call)

    def trailers_received(self, stream: Call, request: CallHead, end_stream: bool) -> None:
        if stream.complete:
            self.fail_stream(stream.id, ErrorCode.STREAM_CLOSED)
        elif request.is_trailers and end_stream:
            self._complete(stream)
        else:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)

    def body_received(self, stream: Call, data: bytes, end_stream: bool) -> None:
        if stream.complete:
            self.fail_stream(stream.id, ErrorCode.STREAM_CLOSED)
            return
        if (
            end_stream
            and stream.head.plain
            and stream.reader is None
            and data[:1] == b"\0"
            and int.from_bytes(data[1:PREFIX_BYTES], "big") == len(data) - PREFIX_BYTES
            and not stream.answered
        ):
            stream.complete = True
            self._take(stream, data[PREFIX_BYTES:])
            self._settle(stream)
            return
        stream.received_bytes += len(data)
        if not stream.answered:
            self._read(stream, data)
        if end_stream:
            self._complete(stream)

    def body_sent(self, stream: Call) -> None:
        if stream.finishing:
            self.finish(stream)
        elif isinstance(stream.state, Subscription):
            was_batching, self.batching = self.batching, True
            stream.state.drained()
            self.batching = was_batching
        else:
            self._settle(stream)

    def unblocked(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            if self.streams.get(call.id) is call:
                self._advance(call)

    def gone(self, stream: Call) -> None:
        if isinstance(stream.state, Subscription):
            stream.state.end()
        elif stream.running:
            self.worker.deferrals.hasten(self, lambda token: token is stream)

    def write(self) -> None:
        super().write()
        self._unsent_bytes = 0

    # What methods need

    def count(self) -> None:
        """The connection does by itself what is asked for."""
        self.worker.counts[REQUESTS] += 1

    def submit(self, call: Call, route: Route, body: bytes) -> None:
        """Have an operation run, after those that the call has asked for before."""
        self.worker.counts[REQUESTS] += 1
        if call.running or call.queue or self.blocked:
            if call.queue is None:
                call.queue = deque()
            call.queue.append((route, body))
            if self.blocked:
                self._waiting[call] = None
        else:
            call.running = True
            self.worker.run(self, call, route, body)

    def send_head(self, call: Call) -> None:
        """Send what stands before the messages, if it has not been sent."""
        if not call.head_sent:
            call.head_sent = True
            block = self._heads.head(call.head.gzip_out)
            self.outgoing.append(encode_frame(HEADERS, END_HEADERS, call.id, block))

    def send(self, call: Call, message: bytes) -> None:
        """Send a message, as soon as its turn comes. Nothing if the call has ended."""
        if call.answered:
            return
        self.send_head(call)
        framed = frame_message(pack(message), compressed=True) if call.head.gzip_out else frame_message(message)
        size = len(framed)
        if call.body or self.blocked or size > min(MAX_FRAME_BYTES, call.send_window, self.send_window):
            self.add_body(call, framed)
        else:
            self.outgoing.append(encode_frame(DATA, 0, call.id, framed))
            call.send_window -= size
            self.send_window -= size

    def push(self, call: Call, message: bytes) -> None:
        """Send a message that nobody has asked for just now."""
        self.send(call, message)
        if not self.batching:
            self.flush()

    def cut_off(self, call: Call) -> None:
        """End a call whose client takes too slowly what it asked for."""
        self.finish(call, StatusError(Status.RESOURCE_EXHAUSTED, "the client is too slow for what it asked for"))
        if not self.batching:
            self.flush()

    def refuse(self, call: Call, error: ServiceError) -> None:
        """End a call with what the service says against it."""
        self.finish(call, StatusError(REFUSALS.get(error.status, Status.RESOURCE_EXHAUSTED), error.message))

    def finish(self, call: Call, error: StatusError | None = None) -> None:
        """End a call: at once with an error, or well, when what waits has been sent. Nothing if it has ended."""
        if call.answered:
            return
        if error is not None:
            self.forget_body(call)
            block = self._heads.failure(error, not call.head_sent, call.head.http_status)
        elif call.body:
            call.finishing = True
            return
        else:
            block = self._heads.end() if call.head_sent else self._heads.nothing()
        call.queue = None
        self.gone(call)
        self.outgoing.append(encode_frame(HEADERS, END_HEADERS | END_STREAM, call.id, block))
        self.end(call)

    # Calls

    def _read(self, call: Call, data: bytes) -> None:
        """Take what the body brings of messages."""
        if call.reader is None:
            call.reader = MessageReader(call.head.gzip_in)
        try:
            messages = call.reader.feed(data)
        except StatusError as error:
            self.finish(call, error)
            return
        if not call.head.method.client_streaming:
            if len(messages) + (call.message is not None) > 1:
                self.finish(call, StatusError(Status.UNIMPLEMENTED, "more than the one message that is due"))
            elif messages:
                (call.message,) = messages
            return
        for message in messages:
            self._take(call, message)
            if call.answered:
                return
        self._settle(call)
        waiting = len(call.queue) if call.queue else 0
        if waiting > MAX_BACKLOG_MESSAGES or len(call.body) - call.sent_bytes > MAX_BACKLOG_BYTES:
            call.held = True

    def _complete(self, call: Call) -> None:
        """The client has sent all of a call."""
        call.complete = True
        length, method = call.head.content_length, call.head.method if call.head.error is None else None
        if length is not None and length != call.received_bytes:
            self.fail_stream(call.id, ErrorCode.PROTOCOL_ERROR)  # RFC 9113, section 8.1.1
        elif call.answered or method is None:
            self.end(call)
        elif call.reader is not None and call.reader.mid_message:
            self.finish(call, StatusError(Status.INTERNAL, "the call ends inside a message"))
        elif method.client_streaming:
            method.last(self, call)
            self._settle(call)
        elif call.message is None:
            self.finish(call, StatusError(Status.UNIMPLEMENTED, "not the one message that is due"))
        else:
            self._take(call, call.message)
            self._settle(call)

    def _take(self, call: Call, message: bytes) -> None:
        try:
            call.head.method.take(self, call, message)
        except StatusError as error:
            self.finish(call, error)
        except ServiceError as error:
            self.refuse(call, error)

    def _settle(self, call: Call) -> None:
        """Go on with a call, as far as it can go now."""
        if call.answered or call.running or call is self._advancing:
            return
        if call.queue:
            self._advance(call)
            return
        if call.held and not call.body:
            self.release(call)
        method = call.head.method
        if call.complete:
            if not method.endless:
                self.finish(call)
        elif self.draining and method.client_streaming and method.server_streaming:
            self.finish(call, _STOPPING)

    def _advance(self, call: Call) -> None:
        """Run what waits, as far as the socket takes answers; a worker may give them at once, or later."""
        queue = call.queue
        self._advancing = call
        while queue and not (call.running or call.answered or self.blocked):
            call.running = True
            self.worker.run(self, call, *queue.popleft())
        self._advancing = None
        if not queue:
            self._settle(call)
        elif self.blocked:
            self._waiting[call] = None

    # Deadlines

    def _is_waiting(self, stream_id: int) -> bool:
        call = self.streams.get(stream_id)
        return call is not None and not call.answered

    def _late(self, stream_id: int) -> None:
        self.finish(self.streams[stream_id], _TOO_LATE)
        self.flush()
