"""The lean HTTP/1.1 server (RFC 9112): keep-alive, pipelining, chunked bodies both ways, HTTP/1.0, Expect; and streams
of server-sent events, an answer in chunks that lasts until the client or the server ends it."""

import asyncio
from collections import deque
from time import time
from typing import ClassVar, NamedTuple, cast

from bench.errors import ProtocolError
from bench.wire.http1 import CONTINUE, LAST_CHUNK, REASONS, RequestReader, encode_chunk
from bench.wire.prompt_writing import prompt_writer
from servers.counters import ACCEPTS, REQUESTS
from servers.early_data import SAFE_METHODS, TOO_EARLY
from servers.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, OPENING, encoded
from servers.httpdate import http_date
from servers.service import BINARY, Collect, Refused, Route, Upload, event_id
from servers.service_error import ServiceError
from servers.topics import Event, Topic
from servers.worker import Lives, TransportKind, Worker

MAX_PIPELINED = 64
"""Requests of one connection that may wait behind the one that is being run; past it, the connection is not read."""

MAX_UNSENT_BYTES = 256 * 1024
"""Answers that may wait to be sent before the connection's next request has to."""

LINGER_S = 1.0
"""How long a refused client may go on sending before the connection is cut. Closing at once would reset the connection,
and the client would lose the answer that says why (RFC 9112, section 9.6)."""

# A request's token: what its answer must know of it.
_HEAD_ONLY, _HTTP_1_0, _LAST = 1, 2, 4

_HEAD_BYTES = 128
"""What the head of a plain answer takes, roughly: enough to bound what waits to be sent."""


_heads: dict[int | tuple[bytes, int], bytes] = {}
_heads_expire = 0.0


def _answer_head(content_type: bytes, length: int) -> bytes:
    """The head of a plain 200 answer with a body of that length. Heads are made anew each second: they hold the
    date."""
    global _heads, _heads_expire
    now = time()
    if now >= _heads_expire:
        _heads, _heads_expire = {}, int(now) + 1.0
    key = length if content_type is BINARY else (content_type, length)
    head = _heads.get(key)
    if head is None:
        head = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (
            http_date(),
            content_type,
            length,
        )
        if len(_heads) < 1024:
            _heads[key] = head
    return head


def _event_chunk(event: Event) -> bytes:
    return encode_chunk(encoded(event))


class Refusal(NamedTuple):
    """What a request gets instead of an answer. `fields` are further header lines, each ended by CRLF."""

    status: int
    message: str
    fields: bytes = b""

    def encode(self, flags: int) -> bytes:
        """The refusal as bytes, for a request with those flags."""
        body = self.message.encode() + b"\n"
        return b"HTTP/1.1 %d %b\r\ndate: %b\r\ncontent-type: text/plain\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            self.status,
            REASONS[self.status],
            http_date(),
            self.fields,
            b"connection: close\r\n" if flags & _LAST else b"",
            len(body),
            b"" if flags & _HEAD_ONLY else body,
        )


_TOO_EARLY = Refusal(*TOO_EARLY)


class Http1Connection(RequestReader, asyncio.Protocol):
    """One client. Its requests are run one after the other, in the order they came (RFC 9112, section 9.3.2)."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    __slots__ = (
        "_blocked",
        "_body",
        "_chunked_events",
        "_closed",
        "_collecting",
        "_counts",
        "_draining",
        "_ended",
        "_flags",
        "_known",
        "_lingering",
        "_out",
        "_out_bytes",
        "_receiver",
        "_refusal",
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
        self._known = worker.service.known
        self._transport: asyncio.Transport
        # The request that is arriving.
        self._route: Route | None = None
        self._refusal = Refusal(404, "")  # without a route
        self._flags = 0
        self._body = b""  # a body that is one piece
        self._receiver: Collect | Upload | None = None
        # Requests behind the one that is being run.
        self._waiting: deque[tuple[Route | Refusal, int, bytes]] = deque()
        self._running = False
        # The answer that is being sent is a topic's events, if this is not None.
        self._topic: Topic | None = None
        self._chunked_events = True
        # Answers made while input is parsed, or waiting requests are run, leave together.
        self._collecting = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._blocked = False
        # No further request is taken; once those taken are answered, the connection closes.
        self._ended = False
        # No answer may begin that does not end by itself, and the next request is the last.
        self._draining = False
        self._lingering = False
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
        self._waiting.clear()
        self._unsubscribe()
        self._worker.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._collecting = True
        try:
            self.feed(data)
        except ProtocolError as error:
            if not self._ended:  # what follows a last request is nobody's
                self._ended = self._lingering = True
                self._waiting.append((Refusal(error.code, str(error)), _LAST, b""))
            self._run_waiting()
        self._collecting = False
        if self._out:
            self._write_promptly(b"".join(self._out))
            self._out.clear()
            self._out_bytes = 0
        if self._ended:
            self._close_if_done()
        if self._blocked or len(self._waiting) > MAX_PIPELINED:
            self._transport.pause_reading()

    def early_data_received(self, data: bytes) -> None:
        """As `data_received`, for what came before the TLS handshake was over, and may be a replay."""
        self.begin_early_data()
        self.data_received(data)
        self.end_early_data()

    def eof_received(self) -> bool:
        # The client has sent all it will, and may still wait for answers. One of events ends here all the same, and one
        # that is held back is given: a client that has gone altogether looks no different.
        self._ended = self._draining = True
        self._worker.deferrals.hasten(self)
        self._end_events()
        self._close_if_done()
        return not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._topic is not None:
            self._topic.drained(self, self._worker.inbox())
        self._run_waiting()

    # RequestReader

    def head_received(self, method: bytes, target: bytes) -> None:
        self._flags = _HEAD_ONLY if method == b"HEAD" else 0
        self._route = None
        route = self._known.get(target)
        if route is None:
            try:
                route = self._worker.service.route(target)
            except ServiceError as error:
                self._refuse(Refusal(error.status, error.message))
                return
        if method not in route.methods:
            other = route.other
            if other is None or method not in other.methods:
                allowed = b", ".join(route.methods + (other.methods if other is not None else ()))
                self._refuse(Refusal(405, f"allowed here: {allowed.decode()}", b"allow: %b\r\n" % allowed))
                return
            route = other
        self._route = route
        if not self.is_plain:
            self._look_at_fields(method, route)

    def body_received(self, data: bytes) -> None:
        route = self._route
        if route is None:
            return
        if len(data) == self.content_length and route.receiver is Collect:
            self._body = data
            return
        if self._receiver is None:
            self._receiver = route.receiver()
        self._receiver.feed(data)

    def request_received(self) -> None:
        if self._ended:
            return
        route, flags, body = self._route, self._flags, self._body
        if body:
            self._body = b""
        elif route is not None and (self._receiver is not None or route.receiver is not Collect):
            body = (self._receiver or route.receiver()).finish()
            self._receiver = None
        if self.http_1_0:
            flags |= _HTTP_1_0
            if route is not None and route.in_pieces:
                flags |= _LAST  # without chunks, only the end of the connection ends a body in pieces
        if not self.keep_alive or self._draining or flags & _LAST:
            flags |= _LAST
            self._ended = True
        self._counts[REQUESTS] += 1
        if self._running or self._blocked:
            self._waiting.append((route or self._refusal, flags, body))
        elif route is not None:
            self._running = True
            self._run(self, flags, route, body)
        else:
            self._send(self._refusal.encode(flags))

    # Connection

    def answer(self, token: int, route: Route, answer: bytes) -> None:
        if self._closed:
            return
        self._running = False
        if not token and route.is_plain:
            self._out.append(_answer_head(route.content_type, len(answer)))
            self._out.append(answer)
            self._out_bytes += _HEAD_BYTES + len(answer)
            if self._out_bytes > MAX_UNSENT_BYTES:
                self._write()  # which calls pause_writing at once if the socket takes no more
        else:
            self._send_framed(token, route, answer)
        if not self._collecting:
            self._run_waiting()

    def drain(self) -> None:
        self._draining = True
        self._end_events()
        if not self.mid_request:
            self._ended = True
            self._close_if_done()

    def abort(self) -> None:
        self._transport.abort()

    def _look_at_fields(self, method: bytes, route: Route) -> None:
        """The fields of a request that is not as most are."""
        if self.is_early and method not in SAFE_METHODS:
            self._route = None
            self._refuse(_TOO_EARLY)
            return
        if self.last_event_id is not None and route.topic is not None:
            try:
                self._route = route.resumed(event_id(self.last_event_id.decode("latin-1")))
            except ServiceError as error:
                self._route = None
                self._refuse(Refusal(error.status, error.message))
                return
        if self.expects_continue:
            self._continue()

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the request whose head has come. Its body is read and forgotten, but not waited for if the client
        holds it back: the refusal is then the last answer (RFC 9110, section 10.1.1)."""
        self._refusal = refusal
        if self.expects_continue:
            raise ProtocolError(refusal.message, refusal.status)

    def _continue(self) -> None:
        """Ask for the body that the client holds back, unless an answer is due before, or the body comes already."""
        if not (self._running or self._waiting or self.body_begun):
            self._send(CONTINUE)

    def _run_waiting(self) -> None:
        self._collecting = True  # also, an answer made at once must not come back here
        while self._waiting and not (self._running or self._blocked):
            route, flags, body = self._waiting.popleft()
            if isinstance(route, Refusal):
                self._send(route.encode(flags))
            else:
                self._running = True
                self._run(self, flags, route, body)
        if self.expects_continue and not self._ended:
            self._continue()
        self._collecting = False
        if self._out:
            self._write()
        self._close_if_done()
        if not (self._waiting or self._blocked or self._closed):
            self._transport.resume_reading()

    # Answers

    def _send_framed(self, flags: int, route: Route, answer: bytes) -> None:
        """The answers that are not plain: refused, to HEAD, to HTTP/1.0, in pieces, or the last one of the
        connection."""
        if isinstance(answer, Refused):
            self._send(Refusal(answer.status, answer.decode()).encode(flags))
            return
        chunked = route.in_pieces and not flags & _HTTP_1_0
        fields = [b"HTTP/1.1 200 OK\r\ndate: ", http_date(), b"\r\ncontent-type: ", route.content_type, b"\r\n"]
        if route.topic is not None:
            fields.append(b"cache-control: no-cache\r\n")
        if chunked:
            fields.append(b"transfer-encoding: chunked\r\n")
        elif not route.in_pieces:
            fields.append(b"content-length: %d\r\n" % len(answer))
        if flags & _LAST:
            fields.append(b"connection: close\r\n")
        elif flags & _HTTP_1_0:
            fields.append(b"connection: keep-alive\r\n")
        head = b"".join([*fields, b"\r\n"])
        if route.topic is not None and not flags & _HEAD_ONLY:
            self._send_events(head, chunked, route.topic, route.after_id)
            return
        self._send(head)
        if flags & _HEAD_ONLY:
            return
        if not chunked:
            self._send(answer)
        else:
            for piece in route.pieces(answer):
                self._send(encode_chunk(piece))
            self._send(LAST_CHUNK)

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > MAX_UNSENT_BYTES:
            self._write()

    def _write(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    # Events

    def _send_events(self, head: bytes, chunked: bool, topic: Topic, after_id: int | None) -> None:
        """Begin an answer that is a topic's events. Until it ends, the request is still being answered."""
        self._running = True
        self._topic = topic
        self._chunked_events = chunked
        missed = topic.join(self, self._worker.inbox(), after_id)
        self._send(head + (encode_chunk(OPENING) if chunked else OPENING))
        self._write()  # events do not wait for other answers, so nothing may wait before them
        for event in missed:
            self.deliver(event)
        if self._draining:
            self._end_events()
        else:
            self._worker.later(KEEP_ALIVE_S, self._keep_alive)

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        if self._chunked_events:
            self._transport.write(event.encoded("sse-http1", _event_chunk))
        else:
            self._transport.write(encoded(event))
        return not self._blocked  # it may be called at once

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._topic = None
        self._transport.abort()

    def _keep_alive(self) -> None:
        if self._topic is not None:
            self._transport.write(encode_chunk(KEEP_ALIVE) if self._chunked_events else KEEP_ALIVE)
            self._worker.later(KEEP_ALIVE_S, self._keep_alive)

    def _end_events(self) -> None:
        """End the answer that is a topic's events, if there is one."""
        if self._topic is not None:
            for event in self._unsubscribe():
                self.deliver(event)
            self._running = False
            if self._chunked_events:
                self._send(LAST_CHUNK)
            if not self._collecting:
                self._run_waiting()

    def _unsubscribe(self) -> list[Event]:
        """Want no more events. Gives those that still wait."""
        topic, self._topic = self._topic, None
        return [] if topic is None else topic.unsubscribe(self, self._worker.inbox())

    def _close_if_done(self) -> None:
        """Close after the last answer."""
        if self._ended and not (self._running or self._waiting or self._closed):
            if self._lingering:
                self._transport.write_eof()
                self._worker.later(LINGER_S, self._transport.abort)
            else:
                self._transport.close()
