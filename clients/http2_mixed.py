"""The lean HTTP/2 client of mixes (RFC 9113): several requests on a connection, each with checks of its own."""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.mix import Checks, Wrong, unfinished
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_STREAM_ID,
    MAX_WINDOW_BYTES,
    ErrorCode,
    encode_frame,
    encode_goaway,
)
from bench.wire.http2_sending import Stream
from clients.http2 import FIRST_IN_FLIGHT, MAX_ABANDONED, MAX_IN_FLIGHT
from clients.http2_answers import AnswerHead
from clients.http2_end import Http2ClientEnd

_MAX_BLOCKS = 1024
"""Header blocks that are kept, while the encoder's table stays as it is."""


class Form(NamedTuple):
    """A request, but for its stream. Fields that vary stay out of the encoder's table, which they would wash out."""

    fields: tuple[tuple[bytes, bytes, bool], ...]
    body: bytes


class Asks(Iterator[tuple[int, Form]], Protocol):
    """What is to be sent next (see `bench.load.mixing.Asks`)."""

    checks: Sequence[Checks]


class MixedHead(AnswerHead):
    """A header block of the server's, with its fields."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.fields = tuple(fields)


class MixedAnswer(Stream):
    """An exchange in flight."""

    __slots__ = ("body_bytes", "exchange_id", "head", "pieces")

    def __init__(self, stream_id: int, exchange_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.exchange_id = exchange_id
        self.head: MixedHead | None = None
        self.pieces: list[bytes] = []
        self.body_bytes = 0


class Http2MixedClient(Http2ClientEnd[MixedAnswer]):
    """One connection. An exchange's id is its stream's, times the number of requests in the mix, plus its request's."""

    def __init__(self, asks: Asks, authority: str) -> None:
        super().__init__()
        self.max_in_flight = FIRST_IN_FLIGHT
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.complaints: dict[Hashable, str] = {}
        self._asks = asks
        self._checks = asks.checks
        self._names = len(asks.checks)
        self._heads = HeaderReader(self._read_head)
        self._done: list[int] = []
        self._abandoned: dict[int, None] = {}
        # The header blocks of requests, good for one version of the encoder's table.
        self._blocks: dict[int, bytes] = {}
        self._blocks_version = 0

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> Form:
        fields = [
            (b":method", exchange.method.encode("ascii"), False),
            (b":scheme", exchange.scheme.encode("ascii"), False),
            (b":authority", authority.encode("ascii"), False),
            (b":path", exchange.path.encode("ascii"), varies),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            fields.append((b"content-length", b"%d" % len(exchange.body), varies))
        fields += [(name.encode("ascii"), value.encode("latin-1"), varies) for name, value in exchange.fields]
        return Form(tuple(fields), exchange.body)

    def _read_head(self, fields: Fields) -> MixedHead:
        return MixedHead(fields)

    def _wrong(self, stream: MixedAnswer, head: MixedHead, _end: MixedHead) -> Wrong | None:
        """What is wrong with a complete answer, whose last header block is `_end`."""
        checks = self._checks[stream.exchange_id % self._names]
        body = b"".join(stream.pieces) if checks.need_body else b""
        return checks.wrong(head.status, head.fields, stream.body_bytes, body)

    # Client

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = []
        for _ in range(count):
            number, form = next(self._asks)
            stream_id = self._next_id
            self._next_id += 2
            exchange_id = stream_id * self._names + number
            ids.append(exchange_id)
            stream = self.streams[stream_id] = MixedAnswer(stream_id, exchange_id, self.peer_stream_window)
            flags = END_HEADERS if form.body else END_HEADERS | END_STREAM
            self.outgoing.append(encode_frame(HEADERS, flags, stream_id, self._head_block(form)))
            if form.body:
                self.send_body(stream, form.body)
        if self.is_sending:
            self.send_bodies(MAX_WINDOW_BYTES)
        self.closing = self.closing or self._next_id > MAX_STREAM_ID - 2 * MAX_IN_FLIGHT
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return ids, to_send

    def _head_block(self, form: Form) -> bytes:
        blocks, writer = self._blocks, self.writer
        if self._blocks_version != writer.version:
            blocks.clear()
            self._blocks_version = writer.version
        block = blocks.get(id(form))
        if block is None:
            block = writer.encode(form.fields)
            if self._blocks_version == writer.version and len(blocks) < _MAX_BLOCKS:
                blocks[id(form)] = block
        return block

    def feed(self, data: bytes) -> Sequence[Hashable]:
        self._done = []
        try:
            self.receive(data)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, error.code))
            raise
        if self.is_sending:
            self.send_bodies(MAX_WINDOW_BYTES)
        return self._done

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, int)
        stream_id = exchange_id // self._names
        stream = self.streams.get(stream_id)
        if stream is not None and stream.head is not None:
            self.complaints[exchange_id] = unfinished(stream.body_bytes)
        self.reset(stream_id, ErrorCode.CANCEL)
        self._leave(stream_id)
        return True

    def _leave(self, stream_id: int) -> None:
        """An exchange is over for us; the server may not know yet."""
        self._abandoned[stream_id] = None
        if len(self._abandoned) > MAX_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    # Http2Peer

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        stream = self.streams.get(stream_id) or self.unlisted(stream_id)
        if stream is None:
            return
        is_trailers = stream.head is not None
        interim = 0 < head.status < 200
        if head.malformed or is_trailers == bool(head.status) or (end_stream if interim else is_trailers > end_stream):
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if not (is_trailers or interim):
            stream.head = head
        if end_stream:
            self._complete(stream, head)

    def body_received(self, stream: MixedAnswer, data: bytes, end_stream: bool) -> None:
        if stream.head is None:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)
            return
        stream.body_bytes += len(data)
        stream.pieces.append(data)
        if end_stream:
            self._complete(stream, stream.head)

    def _complete(self, stream: MixedAnswer, end: MixedHead) -> None:
        assert stream.head is not None
        if stream.sent_bytes < len(stream.body):
            self.reset(stream.id, ErrorCode.CANCEL)  # the server has answered before it had all of the request
        else:
            del self.streams[stream.id]
        wrong = self._wrong(stream, stream.head, end)
        if wrong is None:
            self._done.append(stream.exchange_id)
        else:
            self.failures.append((stream.exchange_id, wrong.kind))
            self.complaints[stream.exchange_id] = wrong.why

    def unlisted(self, stream_id: int) -> MixedAnswer | None:
        if stream_id not in self._abandoned:
            code = ErrorCode.PROTOCOL_ERROR if self.is_idle(stream_id) else ErrorCode.STREAM_CLOSED
            raise ProtocolError("an answer to nothing that was asked", code)
        return None

    def stream_ended(self, stream_id: int, stream: MixedAnswer | None) -> None:
        if stream is not None:
            self.failures.append((stream.exchange_id, "reset"))

    def fail_stream(self, stream_id: int, code: ErrorCode) -> None:
        stream = self.streams.get(stream_id)
        super().fail_stream(stream_id, code)
        self._leave(stream_id)
        if stream is not None:
            self.failures.append((stream.exchange_id, "protocol"))

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_IN_FLIGHT)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True
        kind = self.kind_beyond(last_id, code)
        for stream_id in sorted(stream_id for stream_id in self.streams if stream_id > last_id):
            self.failures.append((self.streams[stream_id].exchange_id, kind))
            self.drop(stream_id)
            self._leave(stream_id)
