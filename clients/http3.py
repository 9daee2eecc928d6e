"""The lean HTTP/3 client (RFC 9114), on aioquic's QUIC made shorter (see `bench.wire.quic_connection`)."""

from collections.abc import Hashable, Sequence
from typing import ClassVar

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind
from bench.wire.header_blocks import Fields, Head, MalformedError
from bench.wire.http3 import BlockReader, ErrorCode, Frame, MessageReader, encode_block, encode_frame
from clients.http3_connection import ClientConnection
from clients.quic_tickets import tickets

MAX_IN_FLIGHT = 1 << 16

_LAST_STREAM_ID = (1 << 62) - 4 * MAX_IN_FLIGHT


class AnswerHead:
    """What a header block of the server says; the same for all answers whose blocks are equal."""

    __slots__ = ("content_length", "malformed", "status")

    def __init__(self, fields: Fields) -> None:
        self.status = 0
        """0 in trailers, which have none."""
        self.content_length: int | None = None
        self.malformed = False
        try:
            head = Head(fields)
        except MalformedError:
            self.malformed = True
            return
        self.content_length = head.content_length
        status = head.pseudo.pop(b"status", b"")
        if len(status) == 3 and status.isdigit():
            self.status = int(status)
        # Section 4.5: there is no 101.
        self.malformed = bool(status) != bool(self.status) or bool(head.pseudo) or self.status == 101


class _Answer:
    """An answer that does not equal, or does not yet equal, the one known to be right."""

    __slots__ = ("alike_bytes", "error", "head", "reader", "right", "stream")

    def __init__(self, right: bytes) -> None:
        self.right = right
        """The answer that was known to be right when this one began."""
        self.alike_bytes = 0
        """How many of the stream's first bytes are those of that one. `reader` has had none of them."""
        self.reader: MessageReader | None = None
        self.stream = bytearray()
        """The stream as it came, as long as it is worth learning."""
        self.head: AnswerHead | None = None
        self.error: ErrorKind | None = None


MAX_LEARNT_BYTES = 1 << 20
"""The longest answer that others are compared with as a whole."""


class Http3Client:
    """One connection. Ids are stream ids.

    Once an answer was read frame by frame and found right, others that are the same bytes are taken for what they are;
    that holds until the server says something else, as it does when the date changes.
    """

    transport_kind: ClassVar = "session"
    tickets = staticmethod(tickets)

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        self.max_in_flight = 0
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._exchange = exchange
        self._check_content = check_content
        fields = [
            (b":method", exchange.method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", authority.encode("ascii")),
            (b":path", exchange.path.encode("ascii")),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            fields.append((b"content-length", b"%d" % len(exchange.body)))
        self._request = encode_frame(Frame.HEADERS, encode_block(fields))
        if exchange.body:
            self._request += encode_frame(Frame.DATA, exchange.body)
        self._connection: ClientConnection[AnswerHead] | None = None
        self._link: SessionLink
        self._in_flight: set[int] = set()
        self._answers: dict[int, _Answer] = {}
        self._done: list[int] = []
        self._right = b""

    # bench.load.client.Session

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        self._link = link
        self._connection = ClientConnection(self, host, port, security, BlockReader(AnswerHead))
        try:
            await self._connection.connect()
        except BaseException:
            self._connection.close()
            raise
        self._set_room()

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        connection = self._connection
        assert connection is not None
        open_with, request = connection.quic.open_with, self._request
        ids = [open_with(request) for _ in range(count)]
        self._in_flight.update(ids)
        self.closing = self.closing or ids[-1] > _LAST_STREAM_ID
        connection.flush_after_reading()
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, int)
        assert self._connection is not None
        self._forget(exchange_id)
        self._connection.quic.cancel(exchange_id, ErrorCode.REQUEST_CANCELLED)
        self._connection.flush_after_reading()
        return True

    def close(self) -> None:
        self.closing = True
        if self._connection is not None:
            self._connection.close()

    @property
    def shortfall(self) -> ErrorKind | None:
        assert self._connection is not None
        return self._connection.shortfall

    # clients.http3_connection.Owner

    @property
    def is_waiting(self) -> bool:
        return bool(self._in_flight)

    def answer_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """What arrives on a stream. Raises ProtocolError."""
        if stream_id not in self._in_flight:
            return  # given up
        if is_end and data and data == self._right and stream_id not in self._answers:
            self._in_flight.remove(stream_id)
            self._done.append(stream_id)
            return
        answer = self._answers.get(stream_id)
        if answer is None:
            answer = self._answers[stream_id] = _Answer(self._right)
        if answer.reader is None:
            right, at = answer.right, answer.alike_bytes
            if right and right.startswith(data, at) and is_end == (at + len(data) == len(right)):
                answer.alike_bytes = at + len(data)
                if is_end:
                    self._forget(stream_id)
                    self._done.append(stream_id)
                return
            answer.reader = MessageReader(is_answer=True)
            data = right[:at] + data
        self._read(stream_id, answer, answer.reader, data, is_end)

    def failed(self, stream_id: int, kind: ErrorKind) -> None:
        """An exchange has failed."""
        if stream_id in self._in_flight:
            self._forget(stream_id)
            self.failures.append((stream_id, kind))

    def goaway_received(self, first_id: int) -> None:
        """The server answers nothing from this stream on."""
        self.closing = True
        for stream_id in sorted(self._in_flight):
            if stream_id >= first_id:
                self.failed(stream_id, "unprocessed" if first_id else "closed")  # if it never takes any

    def tell(self) -> None:
        """Tell the engine what is done, once for all that was read."""
        self._set_room()
        if self._done or self.failures:
            done, self._done = self._done, []
            self._link.answered(done)

    def lost(self, error: Exception) -> None:
        """The connection has ended; what it brought before counts."""
        self.closing = True
        self.tell()
        self._link.lost(error)

    # Answers

    def _read(self, stream_id: int, answer: _Answer, reader: MessageReader, data: bytes, is_end: bool) -> None:
        reader.feed(data)
        if len(answer.stream) + len(data) <= MAX_LEARNT_BYTES:
            answer.stream += data
        expected = self._exchange.answer
        before = reader.received_bytes
        assert self._connection is not None
        while (part := reader.next()) is not None:
            is_head, data = part
            if is_head:
                if not self._head_received(stream_id, answer, reader, self._connection.blocks.read(data)):
                    return
                continue
            if self._check_content and not expected.startswith(data, before):
                answer.error = answer.error or "content"
            before += len(data)
        if is_end:
            reader.end()
            self._complete(stream_id, answer, reader.received_bytes)

    def _head_received(self, stream_id: int, answer: _Answer, reader: MessageReader, head: AnswerHead) -> bool:
        """False if there is no more to be read."""
        if head.malformed or reader.has_trailers == bool(head.status):
            self._fail(stream_id)
            return False
        if not reader.has_trailers:
            if head.status < 200:
                reader.head_again()
            else:
                answer.head = head
                answer.error = None if head.status < 300 else "status"
        return True

    def _complete(self, stream_id: int, answer: _Answer, size: int) -> None:
        head, error = answer.head, answer.error
        if head is None:
            self._fail(stream_id)
            return
        if error is None and head.content_length not in (None, size) and self._exchange.method != "HEAD":
            error = "protocol"  # the answer is malformed (section 4.1.2)
        elif error is None and self._check_content and size != len(self._exchange.answer):
            error = "content"
        if error is not None:
            self.failed(stream_id, error)
            return
        self._forget(stream_id)
        self._done.append(stream_id)
        if len(answer.stream) >= size:
            self._right = bytes(answer.stream)

    def _fail(self, stream_id: int) -> None:
        """The server broke the rules for messages."""
        assert self._connection is not None
        self._connection.quic.cancel(stream_id, ErrorCode.MESSAGE_ERROR)
        self.failed(stream_id, "protocol")

    def _forget(self, stream_id: int) -> None:
        self._in_flight.discard(stream_id)
        self._answers.pop(stream_id, None)

    def _set_room(self) -> None:
        """What is in flight, and as many more as the server allows to be opened."""
        assert self._connection is not None
        self.max_in_flight = min(len(self._in_flight) + max(self._connection.quic.free_streams, 0), MAX_IN_FLIGHT)
