"""The lean HTTP/3 client of mixes (RFC 9114): several requests on a connection, each with checks of its own."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from bench.contract import Exchange
from bench.errors import ErrorKind
from bench.mix import Checks, unfinished
from bench.wire.header_blocks import Fields
from bench.wire.http3 import ErrorCode, Frame, encode_block, encode_frame
from clients.http3 import AnswerHead
from clients.http3_caller import Http3Answer, Http3Peer


class Asks(Iterator[tuple[int, bytes]], Protocol):
    """What is to be sent next (see `bench.load.mixing.Asks`)."""

    checks: Sequence[Checks]


class MixedHead(AnswerHead):
    """A header block of the server's, with its fields."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.fields = tuple(fields)


class Http3MixedClient(Http3Peer):
    """One connection. An exchange's id is its stream's, times the number of requests in the mix, plus its request's."""

    head = MixedHead

    def __init__(self, asks: Asks, authority: str) -> None:
        super().__init__(authority)
        self.complaints: dict[Hashable, str] = {}
        self._asks = asks
        self._checks = asks.checks
        self._names = len(asks.checks)
        self._numbers: dict[int, int] = {}
        """Of each stream, the number of its request."""
        self._done: list[Hashable] = []

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> bytes:
        fields = [
            (b":method", exchange.method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", authority.encode("ascii")),
            (b":path", exchange.path.encode("ascii")),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            fields.append((b"content-length", b"%d" % len(exchange.body)))
        fields += [(name.encode("ascii"), value.encode("latin-1")) for name, value in exchange.fields]
        head = encode_frame(Frame.HEADERS, encode_block(fields))
        return head + encode_frame(Frame.DATA, exchange.body) if exchange.body else head

    # bench.load.client.Session

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = []
        for _ in range(count):
            number, request = next(self._asks)
            stream_id = self.send(request)
            self._numbers[stream_id] = number
            ids.append(stream_id * self._names + number)
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, int)
        assert self._connection is not None
        stream_id = exchange_id // self._names
        answer = self._answers.pop(stream_id, None)
        if answer is not None and answer.head is not None:
            self.complaints[exchange_id] = unfinished(sum(map(len, answer.pieces)))
        self._numbers.pop(stream_id, None)
        self._connection.quic.cancel(stream_id, ErrorCode.REQUEST_CANCELLED)
        self._connection.flush_after_reading()
        return True

    # Http3Peer

    def failed(self, stream_id: int, kind: ErrorKind) -> None:
        if self._answers.pop(stream_id, None) is not None:
            self.failures.append((stream_id * self._names + self._numbers.pop(stream_id), kind))

    def _ended(self, stream_id: int, answer: Http3Answer) -> None:
        number = self._numbers.pop(stream_id)
        exchange_id = stream_id * self._names + number
        if not isinstance(answer.head, MixedHead):
            self.failures.append((exchange_id, "protocol"))
            return
        body = b"".join(answer.pieces)
        wrong = self._checks[number].wrong(answer.head.status, answer.head.fields, len(body), body)
        if wrong is None:
            self._done.append(exchange_id)
        else:
            self.failures.append((exchange_id, wrong.kind))
            self.complaints[exchange_id] = wrong.why

    def _tell_link(self) -> None:
        if self._done or self.failures:
            done, self._done = self._done, []
            self._link.answered(done)
