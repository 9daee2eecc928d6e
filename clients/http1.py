"""The lean HTTP/1.1 client (RFC 9112): keep-alive and pipelining.

An answer that was parsed, checked in full and lets the connection live becomes the template: bytes that are the same
need no second parse, for a parser at rest would find the same in them. Whatever differs by one byte (the Date field
does, every second) is parsed and checked, and becomes the next template.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import ClassVar, Literal

from bench.contract import Exchange
from bench.conversation import Reply
from bench.errors import ErrorKind, ProtocolError
from bench.wire.http1 import ResponseReader, encode_request

_JOINED_BYTES = 64 * 1024
"""Requests up to this size together leave as one piece; larger ones are not copied."""


@lru_cache(maxsize=8)
def _encode(exchange: Exchange, authority: str) -> bytes:
    """The request, made once for all connections: it may be 64 MiB."""
    return encode_request(exchange.method, exchange.path, authority, exchange.body)


class Http1Client(ResponseReader):
    """One connection. Answers come in the order of their requests, so an exchange's id is its number."""

    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    transport_kind: ClassVar[Literal["stream", "datagram"]] = "stream"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__((lambda: True) if exchange.method == "HEAD" else None)
        self.max_in_flight = 1 << 16
        self.closing = False
        self.outgoing: list[bytes] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._request = _encode(exchange, authority)
        self._requests = [self._request]
        self._asked = 0
        self._answered = 0
        # The answer that is arriving: how much of its body has come, and whether that is as it should be.
        self._expected = exchange.answer if check_content else None
        self._statuses = range(200, 201) if check_content else range(200, 400)
        self._body_bytes = 0
        self._body_good = True
        self._completed: list[int] = []
        # `_template` is what `_learned` is, but empty (like no data) while the parser is inside an answer.
        self._learned = b""
        self._template = b""

    # Client

    def open(self) -> None:
        """HTTP/1.1 has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        first = self._asked
        self._asked = first + count
        if count == 1:
            return (first,), self._requests
        if len(self._request) * count <= _JOINED_BYTES:
            return range(first, first + count), [self._request * count]
        return range(first, first + count), self._requests * count

    def feed(self, data: bytes) -> Sequence[Hashable]:
        first = self._answered
        if data == self._template:
            if first < self._asked:
                self._answered = first + 1
                return (first,)
        elif self._template:
            count, rest = divmod(len(data), len(self._template))
            if not rest and first + count <= self._asked and data == self._template * count:
                self._answered = first + count
                return range(first, first + count)
        return self._parse_answers(data)

    def feed_eof(self) -> Sequence[Hashable]:
        self._completed = []
        self.parse_eof()
        return self._completed

    def again(self) -> tuple[bytes, Callable[[], bytes]] | None:
        if self._template and self._asked - self._answered == 1:
            return self._template, repeat(self._request).__next__
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        return False

    # Answers that are not the template

    def _parse_answers(self, data: bytes) -> Sequence[Hashable]:
        self._completed = []
        try:
            if self.mid_answer:
                self.parse(data)
            else:
                self._learn(data)
        except ProtocolError:
            if not (self._completed or self.failures):
                raise
            # What was over before the error stays so; what is still due has failed.
            self.closing = True
            self.failures.extend((number, "protocol") for number in range(self._answered, self._asked))
            self._answered = self._asked
        self._template = b"" if self.mid_answer else self._learned
        return self._completed

    def _learn(self, data: bytes) -> None:
        """Parse. If the data begins with one whole good answer, that is the next template."""
        # In pieces, so that it is known where the first answer ends.
        view = memoryview(data)
        first = self._answered
        end = data.find(b"\r\n\r\n") + 4
        self.parse(view[:end])
        if self.mid_answer and self.content_length:
            body, end = end, end + self.content_length
            self.parse(view[body:end])
        if self.mid_answer:  # its length is not known before its end (chunks), or it is not all here
            self.parse(view[end:])
            end = len(data)
        if len(self._completed) == self._answered - first == 1 and not (self.mid_answer or self.closing):
            self._learned = data[:end]
        if end < len(data):
            self.parse(view[end:])

    # ResponseReader

    def body_received(self, data: bytes) -> None:
        if self._expected is not None and self._body_good:
            self._body_good = self._expected.startswith(data, self._body_bytes)
            self._body_bytes += len(data)

    def response_received(self, status: int) -> None:
        number = self._answered
        if number == self._asked:
            raise ProtocolError("an answer that nothing asked for")
        self._answered = number + 1
        if status not in self._statuses:
            self.failures.append((number, "status"))
        elif self._expected is not None and not (self._body_good and self._body_bytes == len(self._expected)):
            self.failures.append((number, "content"))
        else:
            self._completed.append(number)
        self._body_bytes = 0
        self._body_good = True
        if not self.keep_alive:  # what is behind it will not be processed (section 9.6)
            self.closing = True
            self.failures.extend((number, "unprocessed") for number in range(self._answered, self._asked))
            self._answered = self._asked


class Http1Caller(ResponseReader):
    """A connection that carries one call after the other (see `bench.load.calls.Caller`)."""

    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = 1
        self.closing = False
        self.outgoing: list[bytes] = []
        self._authority = authority
        self._asked = 0
        self._answered = 0
        self._pieces: list[bytes] = []
        self._replies: list[tuple[int, Reply]] = []

    def open(self) -> None:
        """HTTP/1.1 has no greeting."""

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        self._asked += 1
        return self._asked, [encode_request(exchange.method, exchange.path, self._authority, exchange.body)]

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self._replies = []
        self.parse(data)
        return self._replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        self._replies = []
        self.parse_eof()
        return self._replies

    # ResponseReader

    def body_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def response_received(self, status: int) -> None:
        if self._answered == self._asked:
            raise ProtocolError("an answer that nothing asked for")
        self._answered += 1
        self._replies.append((self._answered, Reply(status, b"".join(self._pieces))))
        self._pieces.clear()
        if not self.keep_alive:
            self.closing = True
