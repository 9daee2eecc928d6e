"""The lean HTTP/1.1 client of mixes (RFC 9112): several requests on a connection, each with checks of its own.

As in `clients.http1`, an answer that was parsed and found right is the template of its request: bytes that are the same
need no second parse.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar, Literal, Protocol

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.mix import Checks, unfinished
from bench.wire.http1 import ResponseReader, encode_request


class Asks(Iterator[tuple[int, bytes]], Protocol):
    """What is to be sent next (see `bench.load.mixing.Asks`)."""

    checks: Sequence[Checks]
    bodiless: Sequence[bool]


class Http1MixedClient(ResponseReader):
    """One connection. Answers come in the order of their requests."""

    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    transport_kind: ClassVar[Literal["stream", "datagram"]] = "stream"

    def __init__(self, asks: Asks, authority: str) -> None:
        super().__init__(self._ends_with_head if any(asks.bodiless) else None)
        self.max_in_flight = 1 << 16
        self.closing = False
        self.outgoing: list[bytes] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.complaints: dict[Hashable, str] = {}
        self._asks = asks
        self._checks = asks.checks
        self._names = len(asks.checks)
        self._asked = 0
        self._due: deque[int] = deque()
        self._completed: list[int] = []
        self._templates = [b""] * self._names
        # The answer that is arriving.
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._body_bytes = 0

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in exchange.fields)
        return encode_request(exchange.method, exchange.path, authority, exchange.body, fields.encode("latin-1"))

    # Client

    def open(self) -> None:
        """HTTP/1.1 has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids, pieces = [], []
        for _ in range(count):
            number, request = next(self._asks)
            ids.append(self._asked * self._names + number)
            pieces.append(request)
            self._asked += 1
        self._due.extend(ids)
        return ids, pieces

    def feed(self, data: bytes) -> Sequence[Hashable]:
        if self.mid_answer or not self._due:
            return self._parse_answers(data)
        first = self._due[0]
        number = first % self._names
        if data == self._templates[number]:
            self._due.popleft()
            return (first,)
        completed = self._parse_answers(data)
        if len(completed) == 1 and not (self.mid_answer or self.closing or self.failures):
            self._templates[number] = data
        return completed

    def feed_eof(self) -> Sequence[Hashable]:
        self._completed = []
        self.parse_eof()
        return self._completed

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        if self.mid_answer and exchange_id == self._due[0]:
            self.complaints[exchange_id] = unfinished(self._body_bytes)
        return False

    def _parse_answers(self, data: bytes) -> Sequence[int]:
        self._completed = []
        try:
            self.parse(data)
        except ProtocolError:
            if not (self._completed or self.failures):
                raise
            # What was over before the error stays so; what is still due has failed.
            self.closing = True
            self.failures.extend((exchange_id, "protocol") for exchange_id in self._due)
            self._due.clear()
        return self._completed

    def _ends_with_head(self) -> bool:
        return bool(self._due) and self._asks.bodiless[self._due[0] % self._names]

    # ResponseReader

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._fields.append((name.lower(), value))

    def body_received(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._pieces.append(data)

    def response_received(self, status: int) -> None:
        if not self._due:
            raise ProtocolError("an answer that nothing asked for")
        exchange_id = self._due.popleft()
        checks = self._checks[exchange_id % self._names]
        body = b"".join(self._pieces) if checks.need_body else b""
        wrong = checks.wrong(status, self._fields, self._body_bytes, body)
        if wrong is None:
            self._completed.append(exchange_id)
        else:
            self.failures.append((exchange_id, wrong.kind))
            self.complaints[exchange_id] = wrong.why
        self._fields.clear()
        self._pieces.clear()
        self._body_bytes = 0
        if not self.keep_alive:  # what is behind it will not be processed (section 9.6)
            self.closing = True
            self.failures.extend((waiting, "unprocessed") for waiting in self._due)
            self._due.clear()
