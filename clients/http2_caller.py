"""The lean HTTP/2 caller (RFC 9113): calls of any kind, each a stream of its own (see `bench.load.calls.Caller`)."""

from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

from bench.contract import Exchange
from bench.conversation import Reply
from bench.errors import ProtocolError
from bench.wire.header_blocks import Fields, Head, HeaderReader, MalformedError
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_frame,
    encode_settings,
    encode_window_update,
)
from bench.wire.http2_sending import Stream
from bench.wire.priorities import DEFAULT_URGENCY, write_urgency

_MAX_CALLS = 1 << 16


def _status(fields: Fields) -> int:
    """The status of an answer's head; 0 in trailers, which have none. Raises ProtocolError."""
    try:
        said = Head(fields).pseudo.get(b"status", b"")
    except MalformedError as error:
        raise ProtocolError(f"a malformed answer: {error}", ErrorCode.PROTOCOL_ERROR) from None
    return int(said) if len(said) == 3 and said.isdigit() else 0


class _Call(Stream):
    """A call, until its answer is complete."""

    __slots__ = ("pieces", "status")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.status = 0
        self.pieces: list[bytes] = []


class Http2Caller(Http2Peer[_Call]):
    """One connection. A call's id is its stream's."""

    alpn: ClassVar[tuple[str, ...]] = ("h2",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"
    stream_window_bytes = MAX_WINDOW_BYTES
    connection_window_bytes = MAX_WINDOW_BYTES
    peer_may_push = False

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = 0
        self.closing = False
        self._common = [(b":scheme", scheme.encode("ascii")), (b":authority", authority.encode("ascii"))]
        self._heads = HeaderReader(_status)
        self._next_id = 1
        self._replies: list[tuple[int, Reply]] = []

    def open(self) -> None:
        settings = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES}
        update = encode_window_update(0, MAX_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
        self.outgoing.append(PREFACE + encode_settings(settings) + update)

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        call = self.streams[self._next_id] = _Call(self._next_id, self.peer_stream_window)
        self._next_id += 2
        length = [(b"content-length", b"%d" % len(exchange.body))] if exchange.body else []
        urgent = exchange.urgency != DEFAULT_URGENCY
        wanted = [(b"priority", write_urgency(exchange.urgency))] if urgent else []
        named = [(b":method", exchange.method.encode("ascii")), (b":path", exchange.path.encode("ascii"))]
        flags = END_HEADERS if exchange.body else END_HEADERS | END_STREAM
        block = self.writer.encode([*named, *self._common, *length, *wanted])
        self.outgoing.append(encode_frame(HEADERS, flags, call.id, block))
        if exchange.body:
            self.send_body(call, exchange.body)
            self.send_bodies(MAX_WINDOW_BYTES)
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return call.id, to_send

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self._replies = []
        self.receive(data)
        if self.is_sending:
            self.send_bodies(MAX_WINDOW_BYTES)
        return self._replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        return ()

    # Http2Peer

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, _MAX_CALLS)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        status = self._heads.read(block)
        call = self.streams.get(stream_id)
        if call is None or bool(call.status) == bool(status):
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.PROTOCOL_ERROR)
        if status >= 200:
            call.status = status
        if end_stream:
            self._end(call)

    def body_received(self, stream: _Call, data: bytes, end_stream: bool) -> None:
        if not stream.status:
            raise ProtocolError("a body without a head", ErrorCode.PROTOCOL_ERROR)
        stream.pieces.append(data)
        if end_stream:
            self._end(stream)

    def unlisted(self, stream_id: int) -> _Call | None:
        raise ProtocolError("an answer to nothing that was asked", ErrorCode.STREAM_CLOSED)

    def stream_ended(self, stream_id: int, stream: _Call | None) -> None:
        raise ProtocolError("the server has given a call up", ErrorCode.CANCEL)

    def is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_id or stream_id % 2 == 0

    def _end(self, call: _Call) -> None:
        self.drop(call.id)
        self._replies.append((call.id, Reply(call.status, b"".join(call.pieces))))
