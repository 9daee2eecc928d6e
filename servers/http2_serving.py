"""What servers over HTTP/2 have in common (RFC 9113), whatever their requests mean: a client's streams from the first
frame to the last, what it may ask for, and how bytes get out."""

import asyncio
from abc import abstractmethod
from collections import deque
from functools import partial
from typing import ClassVar, Generic, TypeVar, cast

from bench.errors import ProtocolError
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    INITIAL_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_goaway,
    encode_settings,
    encode_window_update,
)
from bench.wire.http2_sending import Stream
from bench.wire.prompt_writing import prompt_writer
from servers.counters import ACCEPTS
from servers.http2_messages import MAX_HEADER_LIST_BYTES
from servers.service import Route
from servers.strain import Strain
from servers.worker import Lives, TransportKind, Worker

MAX_STREAMS = 256
"""Requests of one connection that may be under way at the same time, those included whose stream was reset."""

STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 1 << 20, 16 << 20
"""How much of a request's body may be on its way, and of all together."""

BURST_BYTES = 256 * 1024
"""How much of the answers is put together for one write."""

MAX_UNSENT_BYTES = 4 * BURST_BYTES
"""How much may wait for the socket before nothing more is read, whatever it is."""

LINGER_S = 1.0
"""How long a client that broke the protocol, or whose request was answered early, may go on sending before the
connection, or the stream, is cut. Cut at once, it could lose what says why: a connection that is closed with something
unread is reset, and some clients forget an answer when its stream is reset, even with NO_ERROR (section 8.1)."""

MAX_REMEMBERED = 256
"""Streams that ended last, of which it is known how: to tell late frames from wrong ones."""

_OPENING = encode_settings(
    {
        Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
    }
) + encode_window_update(0, CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)


class ServedStream(Stream):
    """A request, until the last byte of its answer is sent."""

    __slots__ = ("answered", "complete", "running")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, STREAM_WINDOW_BYTES)
        self.complete = False
        """The client has sent all of the request."""
        self.running = False
        """A worker has it, and will give an answer."""
        self.answered = False
        """The client has been sent all of the answer."""


P = TypeVar("P", bound=ServedStream)
R = TypeVar("R")


class Http2Server(Http2Peer[P], asyncio.Protocol, Generic[P, R]):
    """One client. P is what its streams are, and R what is made of a request's header block."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ("h2",)
    stream_window_bytes = STREAM_WINDOW_BYTES
    connection_window_bytes = CONNECTION_WINDOW_BYTES
    peer_may_push = True
    reads_while_blocked: ClassVar[bool] = False
    """Whether requests are read when the socket takes no answers: what is read then must wait."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker
        self.closed = False
        self.draining = False
        self.blocked = False
        """The socket takes no more for now."""
        # Answers made in one go leave together, up to BURST_BYTES.
        self.batching = False
        self._transport: asyncio.Transport
        self._requests = HeaderReader(self.read_request)
        self._preface = PREFACE
        self._last_id = 0
        self._reset_ids: deque[int] = deque(maxlen=MAX_REMEMBERED)
        self._ended_ids: deque[int] = deque(maxlen=MAX_REMEMBERED)
        # Requests that run although their stream was reset.
        self._orphans = 0
        self._strain = Strain()

    # Hooks

    @abstractmethod
    def read_request(self, fields: Fields) -> R:
        """What a header block means; the same for all that are equal."""

    @abstractmethod
    def opened(self, stream_id: int, request: R, end_stream: bool) -> None:
        """The client has opened a stream, and there is room for it. It is for the hook to put it among `streams`."""

    @abstractmethod
    def trailers_received(self, stream: P, request: R, end_stream: bool) -> None:
        """Another header block on a stream that is open."""

    def unblocked(self) -> None:
        """The socket takes more again."""

    def gone(self, stream: P) -> None:
        """The client, or we, have given a stream up before its answer was sent."""

    def begin_with_request(self, request: R) -> None:
        """Run the request that made the connection one of HTTP/2: it is stream 1, and complete (RFC 7540, section 3.2).
        The preface is still to come from the client, and the answer does not wait for it."""
        self.batching = True
        self._last_id = 1
        self.opened(1, request, end_stream=True)
        self.batching = False
        self.flush()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write_promptly = prompt_writer(self._transport)
        self.worker.counts[ACCEPTS] += 1
        self.worker.connections.add(self)
        self._transport.write(_OPENING)
        if self.worker.draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()
        self.worker.lost(self)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        self.batching = True
        try:
            self.receive(self._without_preface(data) if self._preface else data)
        except ProtocolError as error:
            self._fail(error)
        self.batching = False
        self.flush()
        if self.blocked and not self.closed and not self._may_read_on():
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self.batching = True
        self.unblocked()
        self.batching = False
        self.flush()
        if not self.blocked and not self.closed:
            self._transport.resume_reading()

    # Connection

    @abstractmethod
    def answer(self, token: P, route: Route, answer: bytes) -> None:
        """See `servers.worker.Connection`."""

    def drain(self) -> None:
        # One GOAWAY only: what the client has sent on later streams meanwhile, it may safely send again elsewhere.
        if not (self.draining or self.closed):
            self.draining = True
            self.outgoing.append(encode_goaway(self._last_id, ErrorCode.NO_ERROR))
            self.flush()

    def abort(self) -> None:
        self._transport.abort()

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        request = self._requests.read(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.trailers_received(stream, request, end_stream)
        elif stream_id % 2 == 0:
            raise ProtocolError("a client's streams have odd ids", ErrorCode.PROTOCOL_ERROR)
        elif stream_id <= self._last_id:
            if stream_id not in self._reset_ids and not self.draining:
                ended = stream_id in self._ended_ids
                code = ErrorCode.STREAM_CLOSED if ended else ErrorCode.PROTOCOL_ERROR
                raise ProtocolError("HEADERS on a stream that is closed", code)
        elif not self.draining:
            self._last_id = stream_id
            if len(self.streams) + self._orphans >= MAX_STREAMS:
                self.fail_stream(stream_id, ErrorCode.REFUSED_STREAM)
            else:
                self.opened(stream_id, request, end_stream)

    def unlisted(self, stream_id: int) -> None:
        if stream_id not in self._reset_ids and not self.draining:
            raise ProtocolError("DATA on a stream that is closed", ErrorCode.STREAM_CLOSED)

    def stream_ended(self, stream_id: int, stream: P | None) -> None:
        self._ended_ids.append(stream_id)
        if stream is not None:
            self._orphans += stream.running
            self.gone(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> P | None:
        self._reset_ids.append(stream_id)
        stream = super().reset(stream_id, code)
        if stream is not None:
            self._orphans += stream.running
            self.gone(stream)
        return stream

    def is_idle(self, stream_id: int) -> bool:
        # Streams that were opened after our GOAWAY are not known to `_last_id`.
        return stream_id % 2 == 0 or (stream_id > self._last_id and not self.draining)

    def strain(self) -> None:
        if self._strain.is_too_much():
            raise ProtocolError("too much work for nothing", ErrorCode.ENHANCE_YOUR_CALM)

    # What subclasses need

    def is_current(self, stream: P) -> bool:
        """An answer has come: whether its stream still wants it."""
        stream.running = False
        if self.streams.get(stream.id) is stream:
            return True
        if not self.closed:
            self._orphans -= 1
        return False

    def end(self, stream: P) -> None:
        """A stream's answer is sent."""
        stream.answered = True
        if not stream.complete:
            self.worker.later(LINGER_S, partial(self._cut, stream))
        else:
            del self.streams[stream.id]
            self._ended_ids.append(stream.id)
            self._orphans += stream.running

    def flush(self) -> None:
        """Send what there is to send, and close after the last answer."""
        if self.closed:
            return
        more = True
        while more:
            more = not self.blocked and self.send_bodies(BURST_BYTES)
            if self.outgoing:
                self.write()
        if self.draining and not self.streams:
            self._close()
            self._transport.close()

    def write(self) -> None:
        """Send what has gathered in `outgoing`."""
        data = b"".join(self.outgoing)
        self.outgoing.clear()
        self._write_promptly(data)  # calls pause_writing at once if the socket takes no more

    # The connection

    def _may_read_on(self) -> bool:
        """Whether more is read although the socket takes no more now. What is answered at once, like refusals without a
        body, gathers meanwhile."""
        return self.reads_while_blocked and self._transport.get_write_buffer_size() < MAX_UNSENT_BYTES

    def _cut(self, stream: P) -> None:
        """The rest of a request that was answered early is not wanted (section 8.1)."""
        if not self.closed and self.streams.get(stream.id) is stream:
            self.reset(stream.id, ErrorCode.NO_ERROR)
            self.flush()

    def _without_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            self._preface = b""
            raise ProtocolError("this is HTTP/2, and the client speaks something else", ErrorCode.PROTOCOL_ERROR)
        self._preface = self._preface[size:]
        return data[size:]

    def _fail(self, error: ProtocolError) -> None:
        """The client broke the protocol: say so, and be done with it (section 5.4.1)."""
        self._close()
        self.outgoing.append(encode_goaway(self._last_id, error.code, str(error)))
        self.write()
        self._transport.write_eof()
        self.worker.later(LINGER_S, self._transport.abort)

    def _close(self) -> None:
        self.closed = True
        for stream in self.streams.values():
            self.gone(stream)
        self.streams.clear()
