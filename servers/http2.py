"""The lean HTTP/2 server (RFC 9113), for clients that know beforehand that it speaks HTTP/2 (h2c, section 3.3)."""

import asyncio
import time
from collections import deque
from functools import partial
from typing import ClassVar, cast

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_frame,
    encode_goaway,
    encode_settings,
    encode_window_update,
    pack_id,
)
from bench.wire.http2_sending import Stream
from servers.counters import ACCEPTS, REQUESTS
from servers.http2_messages import MAX_HEADER_LIST_BYTES, TOO_LARGE, AnswerHeads, Refusal, Request
from servers.service import Collect, Route, Upload
from servers.worker import Worker

MAX_STREAMS = 256
"""Requests of one connection that may be under way at the same time, those included whose stream was reset."""

STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 1 << 20, 16 << 20
"""How much of a request's body may be on its way, and of all together."""

BURST_BYTES = 256 * 1024
"""How much of the answers is put together for one write."""

LINGER_S = 1.0
"""How long a client that broke the protocol, or whose request was answered early, may go on sending before the
connection, or the stream, is cut. Cut at once, it could lose what says why: a connection that is closed with something
unread is reset, and some clients forget an answer when its stream is reset, even with NO_ERROR (section 8.1)."""

STRAIN_BURST, STRAIN_PER_S = 1000, 100
"""How much a client may ask for that does nobody any good, at once and then each second: PING, SETTINGS, empty DATA,
requests that it resets (CVE-2023-44487) or makes us reset."""

MAX_REMEMBERED = 256
"""Streams that ended last, of which it is known how: to tell late frames from wrong ones."""

_OPENING = encode_settings(
    {
        Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
    }
) + encode_window_update(0, CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)

_CONTINUE = b"\x08\x03100"  # a literal :status (RFC 7541, section 6.2.2), for `Expect: 100-continue`


class _Stream(Stream):
    """A request, until the last byte of its answer is sent."""

    __slots__ = ("answered", "complete", "outcome", "received_bytes", "receiver", "request", "running")

    def __init__(self, stream_id: int, send_window: int, request: Request) -> None:
        super().__init__(stream_id, send_window, STREAM_WINDOW_BYTES)
        self.request = request
        self.outcome: Route | Refusal | None = request.outcome
        """What the request will get when it is complete; None if it has got it before."""
        self.receiver: Collect | Upload | None = None
        self.received_bytes = 0
        self.complete = False
        """The client has sent all of the request."""
        self.running = False
        self.answered = False
        """The client has been sent all of the answer."""


class Http2Connection(Http2Peer[_Stream], asyncio.Protocol):
    """One client. Its requests are run as they come, and answered as they are done."""

    transport_kind: ClassVar = "stream"
    stream_window_bytes = STREAM_WINDOW_BYTES
    connection_window_bytes = CONNECTION_WINDOW_BYTES
    peer_may_push = True

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._transport: asyncio.Transport
        self._requests = HeaderReader(self._read_request)
        self._heads = AnswerHeads(self.writer)
        self._preface = PREFACE
        self._last_id = 0
        self._reset_ids: deque[int] = deque(maxlen=MAX_REMEMBERED)
        self._ended_ids: deque[int] = deque(maxlen=MAX_REMEMBERED)
        # Requests that run although their stream was reset.
        self._orphans = 0
        # Requests that wait until the socket takes more.
        self._waiting: deque[tuple[_Stream, Route, bytes]] = deque()
        self._blocked = False
        # Answers made in one go leave together, up to BURST_BYTES.
        self._batching = False
        self._unsent_bytes = 0
        self._draining = False
        self._closed = False
        self._strain_left = float(STRAIN_BURST)
        self._strained_at = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._worker.counts[ACCEPTS] += 1
        self._worker.connections.add(self)
        self._transport.write(_OPENING)
        if self._worker.draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self.streams.clear()
        self._worker.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._batching = True
        try:
            self.receive(self._without_preface(data) if self._preface else data)
        except ProtocolError as error:
            self._fail(error)
        self._batching = False
        self._flush()
        if self._blocked and not self._closed:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._batching = True
        while self._waiting and not self._blocked:
            stream, route, body = self._waiting.popleft()
            if self.streams.get(stream.id) is stream:
                self._run(stream, route, body)
        self._batching = False
        self._flush()
        if not self._blocked and not self._closed:
            self._transport.resume_reading()

    # Connection

    def answer(self, token: _Stream, route: Route, answer: bytes) -> None:
        if self._closed:
            return
        stream_id, size = token.id, len(answer)
        token.running = False
        if self.streams.get(stream_id) is not token:
            self._orphans -= 1
        elif (
            0 < size <= MAX_FRAME_BYTES
            and size <= token.send_window
            and size <= self.send_window
            and not route.chunk_bytes
            and not token.request.head_only
        ):
            head, between = self._heads.frames(size)
            packed_id = pack_id(stream_id)
            self.outgoing += (head, packed_id, between, packed_id, answer)
            self.send_window -= size
            self._end(token)
            self._unsent_bytes += size
            if self._unsent_bytes > BURST_BYTES:
                self._write()
        else:
            token.frame_bytes = min(route.chunk_bytes or MAX_FRAME_BYTES, MAX_FRAME_BYTES)
            self._send(token, self._heads.block(None if route.chunk_bytes else size), answer)
        if not self._batching:
            self._flush()

    def drain(self) -> None:
        # One GOAWAY only: what the client has sent on later streams meanwhile, it may safely send again elsewhere.
        if not (self._draining or self._closed):
            self._draining = True
            self.outgoing.append(encode_goaway(self._last_id, ErrorCode.NO_ERROR))
            self._flush()

    def abort(self) -> None:
        self._transport.abort()

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        request = self._requests.read(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._trailers_received(stream, request, end_stream)
        elif stream_id % 2 == 0:
            raise ProtocolError("a client's streams have odd ids", ErrorCode.PROTOCOL_ERROR)
        elif stream_id <= self._last_id:
            if stream_id not in self._reset_ids and not self._draining:
                ended = stream_id in self._ended_ids
                code = ErrorCode.STREAM_CLOSED if ended else ErrorCode.PROTOCOL_ERROR
                raise ProtocolError("HEADERS on a stream that is closed", code)
        elif not self._draining:
            self._last_id = stream_id
            if len(self.streams) + self._orphans >= MAX_STREAMS:
                self.fail_stream(stream_id, ErrorCode.REFUSED_STREAM)
            elif request.malformed or request.is_trailers:
                self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            else:
                stream = _Stream(stream_id, self.peer_stream_window, request)
                self.streams[stream_id] = stream
                if end_stream:
                    self._complete(stream)
                elif stream.outcome is TOO_LARGE:
                    self._refuse(stream, TOO_LARGE)
                elif isinstance(stream.outcome, Route):
                    stream.receiver = stream.outcome.receiver()
                    if request.expects_continue:
                        self.outgoing.append(encode_frame(HEADERS, END_HEADERS, stream_id, _CONTINUE))

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

    def unlisted(self, stream_id: int) -> None:
        if stream_id not in self._reset_ids and not self._draining:
            raise ProtocolError("DATA on a stream that is closed", ErrorCode.STREAM_CLOSED)

    def body_sent(self, stream: _Stream) -> None:
        self._end(stream)

    def stream_ended(self, stream_id: int, stream: _Stream | None) -> None:
        self._ended_ids.append(stream_id)
        if stream is not None:
            self._orphans += stream.running

    def reset(self, stream_id: int, code: ErrorCode) -> _Stream | None:
        self._reset_ids.append(stream_id)
        stream = super().reset(stream_id, code)
        if stream is not None:
            self._orphans += stream.running
        return stream

    def is_idle(self, stream_id: int) -> bool:
        # Streams that were opened after our GOAWAY are not known to `_last_id`.
        return stream_id % 2 == 0 or (stream_id > self._last_id and not self._draining)

    def strain(self) -> None:
        now = time.monotonic()
        left = self._strain_left + (now - self._strained_at) * STRAIN_PER_S
        self._strain_left = min(left, STRAIN_BURST) - 1
        self._strained_at = now
        if self._strain_left < 0:
            raise ProtocolError("too much work for nothing", ErrorCode.ENHANCE_YOUR_CALM)

    # Requests

    def _read_request(self, fields: Fields) -> Request:
        return Request(self._worker.service, fields)

    def _trailers_received(self, stream: _Stream, request: Request, end_stream: bool) -> None:
        if stream.complete:
            self.fail_stream(stream.id, ErrorCode.STREAM_CLOSED)
        elif request.is_trailers and end_stream:
            self._complete(stream)
        else:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)

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
            self._worker.counts[REQUESTS] += 1
            if self._blocked:
                self._waiting.append((stream, outcome, body))
            else:
                self._run(stream, outcome, body)
        elif stream.answered:
            self._end(stream)

    def _run(self, stream: _Stream, route: Route, body: bytes) -> None:
        stream.running = True
        self._worker.run(self, stream, route, body)

    # Answers

    def _refuse(self, stream: _Stream, refusal: Refusal) -> None:
        stream.outcome = None
        self._worker.counts[REQUESTS] += 1
        self._send(stream, self._heads.refusal(refusal), refusal.body)

    def _send(self, stream: _Stream, block: bytes, body: bytes) -> None:
        body_follows = body and not stream.request.head_only
        flags = END_HEADERS if body_follows else END_HEADERS | END_STREAM
        self.outgoing.append(encode_frame(HEADERS, flags, stream.id, block))
        if body_follows:
            self.send_body(stream, body)
        else:
            self._end(stream)

    def _end(self, stream: _Stream) -> None:
        """A stream's answer is sent."""
        if stream.complete:
            del self.streams[stream.id]
            self._ended_ids.append(stream.id)
        else:
            stream.answered = True
            self._worker.later(LINGER_S, partial(self._cut, stream))

    def _cut(self, stream: _Stream) -> None:
        """The rest of a request that was answered early is not wanted (section 8.1)."""
        if not self._closed and self.streams.get(stream.id) is stream:
            self.reset(stream.id, ErrorCode.NO_ERROR)
            self._flush()

    # The connection

    def _without_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            self._preface = b""
            raise ProtocolError("this is HTTP/2, and the client speaks something else", ErrorCode.PROTOCOL_ERROR)
        self._preface = self._preface[size:]
        return data[size:]

    def _flush(self) -> None:
        """Send what there is to send, and close after the last answer."""
        if self._closed:
            return
        more = True
        while more:
            more = not self._blocked and self.send_bodies(BURST_BYTES)
            if self.outgoing:
                self._write()
        if self._draining and not self.streams:
            self._closed = True
            self._transport.close()

    def _write(self) -> None:
        self._transport.write(b"".join(self.outgoing))  # calls pause_writing at once if the socket takes no more
        self.outgoing.clear()
        self._unsent_bytes = 0

    def _fail(self, error: ProtocolError) -> None:
        """The client broke the protocol: say so, and be done with it (section 5.4.1)."""
        self._closed = True
        self.streams.clear()
        self.outgoing.append(encode_goaway(self._last_id, error.code, str(error)))
        self._write()
        self._transport.write_eof()
        self._worker.later(LINGER_S, self._transport.abort)
