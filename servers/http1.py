"""The lean HTTP/1.1 server (RFC 9112): keep-alive, pipelining, chunked bodies both ways, HTTP/1.0, Expect."""

import asyncio
from collections import deque
from typing import ClassVar, cast

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.http1 import CONTINUE, LAST_CHUNK, REASONS, RequestReader, encode_chunk
from servers.counters import ACCEPTS, REQUESTS
from servers.httpdate import http_date
from servers.service import Collect, Route, ServiceError, Upload
from servers.worker import Worker

MAX_PIPELINED = 64
"""Requests of one connection that may wait behind the one that is being run; past it, the connection is not read."""

MAX_UNSENT_BYTES = 256 * 1024
"""Answers that may wait to be sent before the connection's next request has to."""

LINGER_S = 1.0
"""How long a refused client may go on sending before the connection is cut. Closing at once would reset the connection,
and the client would lose the answer that says why (RFC 9112, section 9.6)."""

# A request's token: what its answer must know of it.
_HEAD_ONLY, _HTTP_1_0, _LAST = 1, 2, 4

_TYPE = b"content-type: application/octet-stream\r\n"


class _AnswerHeads:
    """Heads of plain 200 answers, by length of body; made anew each second, when the date changes."""

    def __init__(self) -> None:
        self._date = b""
        self._heads: dict[int, bytes] = {}

    def __call__(self, length: int) -> bytes:
        date = http_date()
        if date is not self._date:
            self._date, self._heads = date, {}
        head = self._heads.get(length)
        if head is None:
            head = b"HTTP/1.1 200 OK\r\ndate: %b\r\n%bcontent-length: %d\r\n\r\n" % (date, _TYPE, length)
            if len(self._heads) < 1024:
                self._heads[length] = head
        return head


_answer_head = _AnswerHeads()


def _refusal(status: int, message: str, fields: bytes = b"") -> bytes:
    body = message.encode() + b"\n"
    return b"HTTP/1.1 %d %b\r\ndate: %b\r\ncontent-type: text/plain\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        REASONS[status],
        http_date(),
        fields,
        len(body),
        body,
    )


class Http1Connection(RequestReader, asyncio.Protocol):
    """One client. Its requests are run one after the other, in the order they came (RFC 9112, section 9.3.2)."""

    transport_kind: ClassVar = "stream"

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._transport: asyncio.Transport
        # The request that is arriving.
        self._route: Route | bytes = b""
        self._receiver: Collect | Upload
        self._received_bytes = 0
        self._flags = 0
        # Requests behind the one that is being run: a route to run, or the bytes of a refusal.
        self._waiting: deque[tuple[Route | bytes, int, bytes]] = deque()
        self._running = False
        # Answers made while input is being parsed leave together.
        self._parsing = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._blocked = False
        # No further request is taken; once those taken are answered, the connection closes.
        self._ended = False
        self._lingering = False
        self._closed = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._worker.counts[ACCEPTS] += 1
        self._worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._waiting.clear()
        self._worker.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._parsing = True
        try:
            self.feed(data)
        except ProtocolError as error:
            self._lingering = True
            self._accept(_refusal(error.code, str(error), b"connection: close\r\n"), _LAST, b"")
        self._parsing = False
        self._flush()
        if self._blocked or len(self._waiting) > MAX_PIPELINED:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        # The client has sent all it will, and may still wait for answers.
        self._ended = True
        self._flush()
        return not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._run_waiting()

    # RequestReader

    def head_received(self, method: bytes, target: bytes) -> None:
        if self.content_length is not None and self.content_length > MAX_BODY_BYTES:
            raise ProtocolError(f"the body is longer than {MAX_BODY_BYTES} bytes", 413)
        self._flags = _HEAD_ONLY if method == b"HEAD" else 0
        self._received_bytes = 0
        try:
            route = self._worker.service.route(target)
        except ServiceError as error:
            self._refuse(error.status, error.message)
            return
        if method.decode("ascii") not in route.methods:
            allowed = ", ".join(route.methods)
            self._refuse(405, f"allowed here: {allowed}", b"allow: %b\r\n" % allowed.encode("ascii"))
            return
        self._route = route
        self._receiver = route.receiver()
        if self.expects_continue:
            self._send(CONTINUE)

    def body_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > MAX_BODY_BYTES:
            raise ProtocolError(f"the body is longer than {MAX_BODY_BYTES} bytes", 413)
        self._receiver.feed(data)

    def request_received(self) -> None:
        flags = self._flags
        route = self._route
        if self.http_1_0:
            flags |= _HTTP_1_0
            if isinstance(route, Route) and route.chunk_bytes:
                flags |= _LAST  # without chunks, only the end of the connection ends a body in pieces
        if not self.keep_alive or self._worker.draining:
            flags |= _LAST
        self._accept(route, flags, self._receiver.finish())

    # Connection

    def answer(self, token: int, route: Route, answer: bytes) -> None:
        if self._closed:
            return
        self._running = False
        if not token and not route.chunk_bytes:
            self._send(_answer_head(len(answer)))
            self._send(answer)
        else:
            self._send_framed(token, route, answer)
        if not self._parsing:
            self._run_waiting()

    def drain(self) -> None:
        if not self.mid_request:
            self._ended = True
            self._flush()

    def abort(self) -> None:
        self._transport.abort()

    # Requests

    def _refuse(self, status: int, message: str, fields: bytes = b"") -> None:
        """Refuse the request that is arriving, read what it brings, and let the connection live."""
        self._route = _refusal(status, message, fields)
        self._receiver = Collect()

    def _accept(self, route: Route | bytes, flags: int, body: bytes) -> None:
        if self._ended:
            return
        self._ended = bool(flags & _LAST)
        self._worker.counts[REQUESTS] += 1
        if self._running or self._blocked:
            self._waiting.append((route, flags, body))
        else:
            self._start(route, flags, body)

    def _start(self, route: Route | bytes, flags: int, body: bytes) -> None:
        if isinstance(route, bytes):
            self._send(route)
        else:
            self._running = True
            self._worker.run(self, flags, route, body)

    def _run_waiting(self) -> None:
        while self._waiting and not (self._running or self._blocked):
            self._start(*self._waiting.popleft())
        self._flush()
        if not self._waiting and not self._blocked:
            self._transport.resume_reading()

    # Answers

    def _send_framed(self, flags: int, route: Route, answer: bytes) -> None:
        """The answers that are not plain: to HEAD, to HTTP/1.0, in chunks, or the last one of the connection."""
        chunked = route.chunk_bytes and not flags & _HTTP_1_0
        fields = [b"HTTP/1.1 200 OK\r\ndate: ", http_date(), b"\r\n", _TYPE]
        if chunked:
            fields.append(b"transfer-encoding: chunked\r\n")
        elif not route.chunk_bytes:
            fields.append(b"content-length: %d\r\n" % len(answer))
        if flags & _LAST:
            fields.append(b"connection: close\r\n")
        elif flags & _HTTP_1_0:
            fields.append(b"connection: keep-alive\r\n")
        self._send(b"".join([*fields, b"\r\n"]))
        if flags & _HEAD_ONLY:
            return
        if chunked:
            for start in range(0, len(answer), route.chunk_bytes):
                self._send(encode_chunk(answer[start : start + route.chunk_bytes]))
            answer = LAST_CHUNK
        self._send(answer)

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > MAX_UNSENT_BYTES:
            self._write()  # which calls pause_writing at once if the socket takes no more

    def _write(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def _flush(self) -> None:
        """Send what there is to send, and close after the last answer."""
        if self._closed:
            return
        if self._out:
            self._write()
        if self._ended and not (self._running or self._waiting):
            if self._lingering:
                self._transport.write_eof()
                self._worker.later(LINGER_S, self._transport.abort)
            else:
                self._transport.close()
