"""Clients of HTTP/3 that ask for whatever its server does: calls, publishers, and subscribers to server-sent events.
Each is a session (see `bench.load.client.Session`), and tells its line what has come."""

import time
from collections.abc import Hashable
from typing import Any, ClassVar

from bench import contract
from bench.contract import Exchange, Security, SessionLink
from bench.conversation import Reply
from bench.errors import ErrorKind, ProtocolError
from bench.wire.header_blocks import Fields
from bench.wire.http3 import BlockReader, ErrorCode, Frame, MessageReader, encode_block, encode_frame
from bench.wire.priorities import urgency_fields
from bench.wire.sse import EventReader
from clients.http3 import MAX_IN_FLIGHT, AnswerHead
from clients.http3_connection import ClientConnection
from clients.quic_tickets import tickets

_OK = 200


class Http3Answer:
    """An answer that is still coming."""

    __slots__ = ("head", "pieces", "reader")

    def __init__(self) -> None:
        self.reader = MessageReader(is_answer=True)
        self.head: AnswerHead | None = None
        self.pieces: list[bytes] = []

    @property
    def status(self) -> int:
        """0 as long as there is none."""
        return self.head.status if self.head is not None else 0


class Http3Peer:
    """A client's end of a connection, with all its streams."""

    transport_kind: ClassVar = "session"
    alpn: ClassVar[tuple[str, ...]] = ()
    tickets = staticmethod(tickets)
    head: ClassVar[type[AnswerHead]] = AnswerHead
    """What is made of the header blocks of answers."""

    def __init__(self, authority: str) -> None:
        self.max_in_flight = 0
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.outgoing: list[bytes] = []
        """Nothing: a session sends by itself."""
        self._authority = authority.encode("ascii")
        self._connection: ClientConnection[AnswerHead] | None = None
        self._link: SessionLink
        self._answers: dict[int, Http3Answer] = {}

    def open(self) -> None:
        """The connection is up."""

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        """See `bench.load.client.Session`."""
        self._link = link
        self._connection = ClientConnection(self, host, port, security, BlockReader(self.head))
        try:
            await self._connection.connect()
        except BaseException:
            self._connection.close()
            raise
        self._set_room()
        self.open()

    def close(self) -> None:
        self.closing = True
        if self._connection is not None:
            self._connection.close()

    def _send(self, method: str, path: str, fields: Fields, body: bytes) -> int:
        """Ask on a stream of its own. Gives the stream's id."""
        return self.send(self._encoded(method, path, fields, body))

    def send(self, request: bytes) -> int:
        """Send a whole request, as frames, on a stream of its own. Gives the stream's id."""
        assert self._connection is not None
        stream_id = self._connection.quic.open_with(request)
        self._answers[stream_id] = Http3Answer()
        self._connection.flush_after_reading()
        return stream_id

    def _encoded(self, method: str, path: str, fields: Fields, body: bytes) -> bytes:
        head = [
            (b":method", method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", self._authority),
            (b":path", path.encode("ascii")),
            *fields,
        ]
        if body or method in ("POST", "PUT"):
            head.append((b"content-length", b"%d" % len(body)))
        request = encode_frame(Frame.HEADERS, encode_block(head))
        return request + encode_frame(Frame.DATA, body) if body else request

    # clients.http3_connection.Owner

    @property
    def is_waiting(self) -> bool:
        return bool(self._answers)

    def answer_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """What arrives on a stream. Raises ProtocolError."""
        answer = self._answers.get(stream_id)
        if answer is None:
            return  # given up
        assert self._connection is not None
        answer.reader.feed(data)
        while (part := answer.reader.next()) is not None:
            is_head, piece = part
            if not is_head:
                self._body_received(answer, piece)
                continue
            head = self._connection.blocks.read(piece)
            if head.malformed:
                raise ProtocolError("a malformed answer", ErrorCode.MESSAGE_ERROR)
            if 0 < head.status < 200:
                answer.reader.head_again()
            elif head.status:
                answer.head = head
                self._begun(answer)
        if is_end:
            answer.reader.end()
            del self._answers[stream_id]
            self._ended(stream_id, answer)

    def failed(self, stream_id: int, kind: ErrorKind) -> None:
        """The server has given up a stream. Raises ProtocolError where the connection is of no use without it."""
        if self._answers.pop(stream_id, None) is not None:
            raise ProtocolError(f"the server gave up a stream: {kind}", ErrorCode.NO_ERROR)

    def goaway_received(self, first_id: int) -> None:
        """The server answers nothing from this stream on."""
        self.closing = True
        for stream_id in [stream_id for stream_id in self._answers if stream_id >= first_id]:
            self.failed(stream_id, "unprocessed" if first_id else "closed")  # if it never takes any

    def tell(self) -> None:
        """All that had arrived was read."""
        self._set_room()
        self._tell_link()

    def lost(self, error: Exception) -> None:
        """The connection has ended."""
        self.closing = True
        self.tell()
        self._link.lost(error)

    # What each kind does

    def _begun(self, answer: Http3Answer) -> None:
        """The head of an answer has come."""

    def _body_received(self, answer: Http3Answer, data: bytes) -> None:
        answer.pieces.append(data)

    def _ended(self, stream_id: int, answer: Http3Answer) -> None:
        """An answer is complete."""

    def _tell_link(self) -> None:
        """Tell the line what has come."""

    def _set_room(self) -> None:
        assert self._connection is not None
        self.max_in_flight = min(len(self._answers) + max(self._connection.quic.free_streams, 0), MAX_IN_FLIGHT)


class Http3Caller(Http3Peer):
    """Calls of any kind (see `bench.load.calls.Caller`)."""

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__(authority)
        self._replies: list[tuple[Hashable, Reply]] = []

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        return self._send(exchange.method, exchange.path, urgency_fields(exchange.urgency), exchange.body), []

    def begin(self, exchange: Exchange, share: float) -> int:
        """Send the first share of a request alone. Gives how many bytes that is."""
        assert self._connection is not None
        whole = self._encoded(exchange.method, exchange.path, [], exchange.body)
        part = whole[: int(len(whole) * share)]
        quic = self._connection.quic
        quic.send_stream_data(quic.get_next_available_stream_id(), part, end_stream=False)
        self._connection.flush(time.monotonic())  # now: what follows is the end of the connection
        return len(part)

    def failed(self, stream_id: int, kind: ErrorKind) -> None:
        if self._answers.pop(stream_id, None) is not None:
            self.failures.append((stream_id, kind))

    def _ended(self, stream_id: int, answer: Http3Answer) -> None:
        self._replies.append((stream_id, Reply(answer.status, b"".join(answer.pieces))))

    def _tell_link(self) -> None:
        if self._replies or self.failures:
            replies, self._replies = self._replies, []
            self._link.answered(replies)


class Http3Publisher(Http3Peer):
    """A request for each event."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(authority)
        self._topic = topic
        self._acknowledged: list[Hashable] = []

    def publish(self, data: bytes) -> list[bytes]:
        """Publish one event."""
        exchange = contract.publish(self._topic, data)
        self._send(exchange.method, exchange.path, [], exchange.body)
        return []

    def _ended(self, stream_id: int, answer: Http3Answer) -> None:
        if answer.status != _OK:
            what = b"".join(answer.pieces)[:200].decode(errors="replace")
            raise ProtocolError(f"status {answer.status}: {what}", answer.status)
        self._acknowledged.append(stream_id)

    def _tell_link(self) -> None:
        if self._acknowledged:
            acknowledged, self._acknowledged = self._acknowledged, []
            self._link.answered(acknowledged)


class SseHttp3Subscriber(Http3Peer):
    """One subscription to a topic, as server-sent events."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(authority)
        self._path = contract.publish(topic, b"").path
        self._reader = EventReader("")
        self._events: list[Any] = []

    def open(self) -> None:
        self._send("GET", self._path, [(b"accept", b"text/event-stream")], b"")

    def _begun(self, answer: Http3Answer) -> None:
        if answer.status != _OK:
            raise ProtocolError(f"status {answer.status}, and no event stream", answer.status)

    def _body_received(self, answer: Http3Answer, data: bytes) -> None:
        self._events += [event.data.encode() for event in self._reader.feed(data)]

    def _ended(self, stream_id: int, answer: Http3Answer) -> None:
        raise ProtocolError("the server ends the event stream")

    def _tell_link(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._link.answered(events)
