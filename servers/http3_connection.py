"""One client's connection to the lean HTTP/3 server (RFC 9114)."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

from bench.contract import MAX_BODY_BYTES
from bench.wire.http3 import ALPN, BlockReader, ErrorCode, Frame, MessageReader, encode_frame, frame_head
from bench.wire.quic_session import Http3Session
from bench.wire.quic_socket import DatagramSocket
from bench.wire.quic_tickets import ServerTickets
from bench.wire.quic_varint import read_varint
from servers.counters import ACCEPTS, REQUESTS
from servers.http2_messages import REFUSED_EARLY, TOO_LARGE, Refusal, Request
from servers.http3_events import EventStreams
from servers.http3_messages import CONTINUE, AnswerHeads, refusal_head
from servers.service import Collect, Refused, Route, Upload
from servers.worker import Lives, TransportKind, Worker

MAX_STREAMS = 256
"""Requests of one connection that may be under way at the same time."""

MAX_RUNNING = 2 * MAX_STREAMS
"""Requests that may run, those included whose stream the client has reset (as in CVE-2023-44487)."""

MAX_WHOLE_BYTES = 16_000
"""The longest answer that is given to QUIC in one piece with its head."""

BURST_BYTES = 256 * 1024
"""How much of a longer answer QUIC is given ahead of what the client has acknowledged."""

PIECE_BYTES = 64 * 1024


class Endpoint(Protocol):
    """What a connection needs of the endpoint that it is one of."""

    configuration: QuicConfiguration
    worker: Worker
    blocks: BlockReader[Request]
    heads: AnswerHeads
    datagrams: DatagramSocket
    tickets: ServerTickets

    def add(self, cid: bytes, connection: "Http3Connection") -> None:
        """Datagrams with this connection ID are the connection's."""

    def remove(self, cid: bytes, connection: "Http3Connection") -> None:
        """They are so no more."""

    def forget(self, connection: "Http3Connection") -> None:
        """A connection has ended."""

    def touch(self, connection: "Http3Connection") -> None:
        """A connection may have something to send: at the end of this turn."""


class _Stream:
    """A request that did not come in one piece, until it is complete."""

    __slots__ = ("outcome", "reader", "receiver", "request")

    def __init__(self) -> None:
        self.reader = MessageReader(is_answer=False)
        self.request: Request | None = None
        self.outcome: Route | Refusal | None = None
        """What the request will get when it is complete; None if it has got it before."""
        self.receiver: Collect | Upload | None = None


class _Body:
    """An answer that is sent bit by bit. It is cut into DATA frames if it comes in pieces."""

    __slots__ = ("_frames", "is_sent")

    def __init__(self, answer: bytes, pieces: Sequence[bytes] | None) -> None:
        if pieces is None:
            self._frames = iter([answer[at : at + PIECE_BYTES] for at in range(0, len(answer), PIECE_BYTES)])
        else:
            self._frames = (encode_frame(Frame.DATA, piece) for piece in pieces)
        self.is_sent = False

    def next(self) -> bytes:
        """The next bytes of the stream: about PIECE_BYTES, or the last."""
        parts, size = [], 0
        for frame in self._frames:
            parts.append(frame)
            size += len(frame)
            if size >= PIECE_BYTES:
                return b"".join(parts)
        self.is_sent = True
        return b"".join(parts)


class Http3Connection(Http3Session[Request]):
    """One client. Its requests are run as they come, and answered as they are done."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = (ALPN,)

    def __init__(self, endpoint: Endpoint, original_destination_id: bytes) -> None:
        super().__init__(endpoint.configuration, endpoint.blocks, original_destination_id, endpoint.tickets)
        self.quic.allow_streams(MAX_STREAMS)
        self.cids = {original_destination_id, self.quic.host_cid}
        self._endpoint = endpoint
        self._datagram_socket = endpoint.datagrams
        self._worker = endpoint.worker
        self._run = endpoint.worker.run
        self._heads = endpoint.heads
        self._streams: dict[int, _Stream] = {}
        self._bodies: dict[int, _Body] = {}
        self._events = EventStreams(self.quic, endpoint.worker, partial(endpoint.touch, self))
        self._running = 0
        self._is_open = False
        """The handshake is over; what is asked for before that has come as early data, and may be a replay."""
        self._goaway_id: int | None = None

    # servers.worker.Connection

    def answer(self, token: tuple[int, Request], route: Route, answer: bytes) -> None:
        self._running -= 1
        if self.ended:
            return
        stream_id, request = token
        size = len(answer)
        if route.is_plain and 0 < size <= MAX_WHOLE_BYTES and not request.head_only:
            self.quic.finish_with(stream_id, self._heads.before(size) + answer)
        elif isinstance(answer, Refused):
            self._send_refusal(stream_id, request, Refusal(answer.status, answer.decode()))
        elif route.topic is not None and not request.head_only:
            self._events.start(stream_id, route, self._heads.head(None, route.content_type))
        else:
            head = self._heads.head(None if route.in_pieces else size, route.content_type)
            if not size or request.head_only:
                self.quic.finish_with(stream_id, head)
            else:
                if not route.in_pieces:
                    head += frame_head(Frame.DATA, size)
                self.quic.write(stream_id, head, False)
                self._bodies[stream_id] = _Body(answer, route.pieces(answer) if route.in_pieces else None)
        self._endpoint.touch(self)

    def drain(self) -> None:
        if not self._is_open:
            self.abort()
        elif self._goaway_id is None and not self.quic.is_closing:
            self._goaway_id = self.quic.next_peer_stream_id
            self.control.send_goaway(self._goaway_id)
            self._events.end_all()
            self._endpoint.touch(self)

    def abort(self) -> None:
        self.quic.close(error_code=ErrorCode.NO_ERROR)
        self._endpoint.touch(self)

    # Http3Session

    def flush(self, now: float) -> None:
        if self._bodies:
            self._send_bodies()
        self._events.go_on()
        if self._goaway_id is not None and not self._running and not self.quic.has_messages:
            self.quic.close(error_code=ErrorCode.NO_ERROR)
        super().flush(now)

    def message_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._goaway_id is not None and stream_id >= self._goaway_id:
                self.quic.cancel(stream_id, ErrorCode.REQUEST_REJECTED)
                return
            if is_end:
                whole = self._read_whole(data)
                if whole is not None:
                    self._whole_received(stream_id, *whole)
                    return
            stream = self._streams[stream_id] = _Stream()
        stream.reader.feed(data)
        self._read(stream_id, stream, is_end)

    def message_reset(self, stream_id: int, event: StreamReset | StopSendingReceived) -> None:
        self._streams.pop(stream_id, None)
        self._bodies.pop(stream_id, None)
        self._events.stop(stream_id)
        self._worker.deferrals.hasten(self, lambda token: token[0] == stream_id)
        # The answer is of no use any more (RFC 9114, section 4.1.1).
        self.quic.cancel(stream_id, ErrorCode.REQUEST_CANCELLED)

    def event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self._worker.counts[ACCEPTS] += 1
            self._worker.connections.add(self)
            self._is_open = True
            self.control.open()
            if self._worker.draining:
                self.drain()
        elif isinstance(event, ConnectionIdIssued):
            self._endpoint.add(event.connection_id, self)
        elif isinstance(event, ConnectionIdRetired):
            self._endpoint.remove(event.connection_id, self)

    def control_received(self) -> None:
        """A client's GOAWAY is about pushes, of which there are none."""

    def connection_ended(self, event: ConnectionTerminated) -> None:
        self._streams.clear()
        self._bodies.clear()
        self._events.stop_all()
        self._endpoint.forget(self)

    # Requests

    def _read_whole(self, data: bytes) -> tuple[Request, bytes] | None:
        """A request of one HEADERS and at most one DATA frame, with its body; None if it is not like that."""
        try:
            kind, at = read_varint(data, 0)
            size, at = read_varint(data, at)
            end = at + size
            if kind != Frame.HEADERS or end > len(data):
                return None
            block = data[at:end]
            if end == len(data):
                return self.blocks.read(block), b""
            kind, at = read_varint(data, end)
            size, at = read_varint(data, at)
        except IndexError:
            return None
        if kind != Frame.DATA or at + size != len(data):
            return None
        return self.blocks.read(block), data[at:]

    def _whole_received(self, stream_id: int, request: Request, body: bytes) -> None:
        outcome, length = request.outcome, request.content_length
        self.quic.prioritise(stream_id, request.urgency)
        if request.malformed or request.is_trailers:
            self.quic.cancel(stream_id, ErrorCode.MESSAGE_ERROR)
        elif outcome is not TOO_LARGE and length is not None and length != len(body):
            self.quic.cancel(stream_id, ErrorCode.MESSAGE_ERROR)  # section 4.1.2
        elif isinstance(outcome, Refusal):
            self._refuse(stream_id, request, outcome)
        else:
            if outcome.receiver is not Collect:
                receiver = outcome.receiver()
                receiver.feed(body)
                body = receiver.finish()
            self._start(stream_id, request, outcome, body)

    def _read(self, stream_id: int, stream: _Stream, is_end: bool) -> None:
        reader = stream.reader
        while (part := reader.next()) is not None:
            is_head, data = part
            if not is_head:
                self._body_received(stream_id, stream, data)
            elif not self._head_received(stream_id, stream, self.blocks.read(data)):
                return
        if is_end:
            reader.end()
            del self._streams[stream_id]
            self._complete(stream_id, stream)

    def _head_received(self, stream_id: int, stream: _Stream, request: Request) -> bool:
        """False if there is no more to be read."""
        is_trailers = stream.request is not None
        if request.is_trailers != is_trailers or (request.malformed and not is_trailers):
            del self._streams[stream_id]
            self.quic.cancel(stream_id, ErrorCode.MESSAGE_ERROR)
            return False
        if is_trailers:
            return True
        stream.request, stream.outcome = request, request.outcome
        self.quic.prioritise(stream_id, request.urgency)
        if stream.outcome is TOO_LARGE:
            self._refuse_early(stream_id, stream, TOO_LARGE)
        elif isinstance(stream.outcome, Route):
            stream.receiver = stream.outcome.receiver()
            if request.expects_continue:
                self.quic.write(stream_id, CONTINUE, False)
        return True

    def _body_received(self, stream_id: int, stream: _Stream, data: bytes) -> None:
        if stream.receiver is not None:
            if stream.reader.received_bytes > MAX_BODY_BYTES:
                stream.receiver = None
                self._refuse_early(stream_id, stream, TOO_LARGE)
            else:
                stream.receiver.feed(data)

    def _complete(self, stream_id: int, stream: _Stream) -> None:
        """The client has sent all of a request."""
        request, outcome = stream.request, stream.outcome
        if request is None:
            self.quic.cancel(stream_id, ErrorCode.REQUEST_INCOMPLETE)
        elif outcome is None:
            return
        elif request.content_length not in (None, stream.reader.received_bytes):
            self.quic.cancel(stream_id, ErrorCode.MESSAGE_ERROR)  # section 4.1.2
        elif isinstance(outcome, Refusal):
            self._refuse(stream_id, request, outcome)
        else:
            assert stream.receiver is not None
            self._start(stream_id, request, outcome, stream.receiver.finish())

    def _start(self, stream_id: int, request: Request, route: Route, body: bytes) -> None:
        if self._running >= MAX_RUNNING:
            self.quic.cancel(stream_id, ErrorCode.REQUEST_REJECTED)
            return
        if not (self._is_open or request.is_safe):
            self._refuse(stream_id, request, REFUSED_EARLY)
            return
        self._running += 1
        self._worker.counts[REQUESTS] += 1
        self._run(self, (stream_id, request), route, body)

    # Answers

    def _refuse(self, stream_id: int, request: Request, refusal: Refusal) -> None:
        self._worker.counts[REQUESTS] += 1
        self._send_refusal(stream_id, request, refusal)

    def _send_refusal(self, stream_id: int, request: Request, refusal: Refusal) -> None:
        answer = refusal_head(refusal)
        if not request.head_only:
            answer += frame_head(Frame.DATA, len(refusal.body)) + refusal.body
        self.quic.write(stream_id, answer, True)

    def _refuse_early(self, stream_id: int, stream: _Stream, refusal: Refusal) -> None:
        """Answer before the request is complete: the rest of it is not wanted (section 4.1)."""
        assert stream.request is not None
        stream.outcome = None
        self._refuse(stream_id, stream.request, refusal)
        self.quic.stop(stream_id, ErrorCode.NO_ERROR)

    def _send_bodies(self) -> None:
        for stream_id, body in list(self._bodies.items()):
            while self.quic.unsent_bytes(stream_id) < BURST_BYTES:
                data = body.next()
                self.quic.write(stream_id, data, body.is_sent)
                if body.is_sent:
                    del self._bodies[stream_id]
                    break
