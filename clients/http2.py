"""The lean HTTP/2 client (RFC 9113), for servers that are known to speak it (h2c, section 3.3)."""

from collections.abc import Hashable, Sequence
from typing import ClassVar

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.wire.header_blocks import Fields, Head, HeaderReader, MalformedError
from bench.wire.http2 import Http2Peer, Stream
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    StreamShape,
    encode_frame,
    encode_goaway,
    encode_settings,
    encode_window_update,
    first_stream_end,
    pack_id,
)

MAX_IN_FLIGHT = 1 << 16
FIRST_IN_FLIGHT = 100
"""What may be in flight at most, and before the server has said what it takes (section 6.5.2 asks for 100 or more)."""

MAX_WHOLE_BYTES = 64 * 1024
"""The longest body that requests are made with many at a time."""

MAX_ALIKE_BYTES, MAX_ALIKE_FRAMES = 32 * 1024, 16
"""The longest answer that others are compared with as a whole; frames of longer ones are rarely in a row."""

MAX_ABANDONED = 4096
"""Exchanges given up last, whose late answers are ignored; a late answer to an older one is an error."""

_OPENING = (
    PREFACE
    + encode_settings({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES})
    + encode_window_update(0, MAX_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
)


class _Head:
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
        self.malformed = bool(status) != bool(self.status) or bool(head.pseudo)


class _Answer(Stream):
    """An exchange whose request is not sent in full, or whose answer has begun."""

    __slots__ = ("error", "frames", "head", "received_bytes", "table_changes")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.head: _Head | None = None
        self.received_bytes = 0
        self.error: ErrorKind | None = None
        self.frames: list[tuple[int, int, bytes]] | None = None
        """The answer so far, as long as others may be compared with it."""
        self.table_changes = 0


class Http2Client(Http2Peer[_Answer]):
    """One connection. Ids are stream ids as they stand in frames: 4 bytes, big-endian.

    Once an answer was read frame by frame and found right, a chunk that consists of the same frames on other streams is
    compared with it as a whole. That holds until the server changes the decoder's table, as it does with a new date.
    """

    transport_kind: ClassVar = "stream"
    stream_window_bytes = MAX_WINDOW_BYTES
    connection_window_bytes = MAX_WINDOW_BYTES
    peer_may_push = False

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__()
        self.max_in_flight = FIRST_IN_FLIGHT
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._exchange = exchange
        self._check_content = check_content
        self._fields = [
            (b":method", exchange.method.encode("ascii")),
            (b":scheme", b"http"),
            (b":authority", authority.encode("ascii")),
            (b":path", exchange.path.encode("ascii")),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            self._fields.append((b"content-length", b"%d" % len(exchange.body)))
        self._heads = HeaderReader(_Head)
        self._next_id = 1
        # Exchanges whose request is sent in full and whose answer has not begun.
        self._waiting: set[bytes] = set()
        self._abandoned: dict[bytes, None] = {}
        self._done: list[bytes] = []
        # Whole requests, good for one version of the encoder's table.
        self._requests: StreamShape | None = None
        self._requests_version = 0
        # Right answers, good until the decoder's table changes.
        self._answers: StreamShape | None = None
        self._answer_frames: list[tuple[int, int, bytes]] = []
        self._answer_body_bytes = 0
        self._table_changes = 0

    # Client

    def open(self) -> None:
        self.outgoing.append(_OPENING)

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        first, size = self._next_id, len(self._exchange.body)
        self._next_id += 2 * count
        self.closing = self.closing or self._next_id > MAX_STREAM_ID - 2 * MAX_IN_FLIGHT
        ids = list(map(pack_id, range(first, self._next_id, 2)))
        whole = count
        if size:
            fits = size <= MAX_WHOLE_BYTES and size <= self.peer_stream_window
            whole = min(count, max(self.send_window, 0) // size) if fits else 0
            self.send_window -= whole * size
        sent = 0
        while sent < whole:
            if self._requests is not None and self._requests_version == self.writer.version:
                requests, upto = self._requests, whole
            else:
                requests, upto = self._shape_requests(), sent + 1
            self.outgoing.append(requests.encode(ids[sent:upto]))
            sent = upto
        if whole < count:
            self._request_in_pieces(range(first + 2 * whole, self._next_id, 2))
            self._waiting.update(ids[:whole])
        else:
            self._waiting.update(ids)
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return ids, to_send

    def feed(self, data: bytes) -> Sequence[Hashable]:
        data = self.take_pending(data)
        try:
            ids, rest = self._match(data)
            if rest:
                self._done = ids
                if self.streams and self._answers is not None and (end := first_stream_end(rest)):
                    # Once the answer that an earlier chunk began is complete, the rest may be alike again.
                    self.receive(rest[:end])
                    ids, rest = self._match(rest[end:])
                    self._done += ids
                if rest:
                    self.receive(rest)
                ids, self._done = self._done, []
            if self.is_sending:
                self.send_bodies(MAX_WINDOW_BYTES)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, error.code))
            raise
        return ids

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, bytes)
        self.reset(int.from_bytes(exchange_id, "big"), ErrorCode.CANCEL)
        self._forget(exchange_id)
        return True

    # Requests

    def _shape_requests(self) -> StreamShape:
        version, body = self.writer.version, self._exchange.body
        frames = [(HEADERS, END_HEADERS if body else END_HEADERS | END_STREAM, self.writer.encode(self._fields))]
        for start in range(0, len(body), MAX_FRAME_BYTES):
            end = start + MAX_FRAME_BYTES
            frames.append((DATA, END_STREAM if end >= len(body) else 0, body[start:end]))
        requests = StreamShape(frames)
        if self.writer.version == version:
            self._requests, self._requests_version = requests, version
        return requests

    def _request_in_pieces(self, stream_ids: range) -> None:
        for stream_id in stream_ids:
            block = self.writer.encode(self._fields)
            self.outgoing.append(encode_frame(HEADERS, END_HEADERS, stream_id, block))
            stream = self.streams[stream_id] = _Answer(stream_id, self.peer_stream_window)
            self.send_body(stream, self._exchange.body)
        self.send_bodies(MAX_WINDOW_BYTES)

    # Answers

    def _match(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The ids of the answers that `data` begins with, if nothing but answers like the last one stand there; and
        what is left to be read frame by frame."""
        answers = self._answers
        if answers is None or self.mid_block:
            return [], data
        whole = len(data) - len(data) % answers.size
        ids: list[bytes] = []
        if whole:
            matched = answers.match(data if whole == len(data) else data[:whole])
            if matched is None:
                return [], data
            ids, arrived = matched, set(matched)
            if len(arrived) < len(ids) or not arrived <= self._waiting:
                return [], data
            self._waiting -= arrived
            self.take_in(len(ids) * self._answer_body_bytes)
        rest = data[whole:]
        if rest and answers.begins_like(rest):
            self.put_back(rest)
            rest = b""
        return ids, rest

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        if not self._heads.stable:
            self._table_changes += 1
            self._answers = None
        stream = self.streams.get(stream_id)
        if stream is None:
            packed_id = pack_id(stream_id)
            if packed_id not in self._waiting:
                self._late(stream_id)
                return
            self._waiting.remove(packed_id)
            stream = self.streams[stream_id] = _Answer(stream_id, 0)
        is_trailers = stream.head is not None
        if head.malformed or is_trailers == bool(head.status) or (is_trailers and not end_stream):
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if is_trailers:
            stream.frames = None  # too rare to compare others with
        elif head.status >= 200:
            stream.head = head
            stream.error = None if head.status < 300 else "status"
            if self._heads.stable and stream.error is None:
                stream.frames = [(HEADERS, END_HEADERS | END_STREAM if end_stream else END_HEADERS, block)]
                stream.table_changes = self._table_changes
        elif end_stream:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)  # an interim answer is not the answer
            return
        if end_stream:
            self._complete(stream)

    def body_received(self, stream: _Answer, data: bytes, end_stream: bool) -> None:
        if stream.head is None:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)
            return
        if self._check_content and not self._exchange.answer.startswith(data, stream.received_bytes):
            stream.error = stream.error or "content"
        stream.received_bytes += len(data)
        if stream.frames is not None:
            stream.frames.append((DATA, END_STREAM if end_stream else 0, data))
            if len(stream.frames) > MAX_ALIKE_FRAMES or stream.received_bytes > MAX_ALIKE_BYTES:
                stream.frames = None
        if end_stream:
            self._complete(stream)

    def _complete(self, stream: _Answer) -> None:
        assert stream.head is not None
        error, size = stream.error, stream.received_bytes
        if error is None and stream.head.content_length not in (None, size):
            error = "protocol"  # the answer is malformed (section 8.1.1)
        elif error is None and self._check_content and size != len(self._exchange.answer):
            error = "content"
        packed_id = pack_id(stream.id)
        if stream.sent_bytes < len(stream.body):
            self.reset(stream.id, ErrorCode.CANCEL)  # the server has answered before it had all of the request
        else:
            del self.streams[stream.id]
        if error is not None:
            self.failures.append((packed_id, error))
            return
        self._done.append(packed_id)
        frames = stream.frames
        if frames is None or stream.table_changes != self._table_changes:
            return
        if self._answers is None or frames != self._answer_frames:
            self._answers, self._answer_frames, self._answer_body_bytes = StreamShape(frames), frames, size

    # Http2Peer

    def stray_body(self, stream_id: int) -> None:
        if pack_id(stream_id) in self._waiting:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)  # a body without a head
        else:
            self._late(stream_id)

    def stream_ended(self, stream_id: int, stream: _Answer | None) -> None:
        packed_id = pack_id(stream_id)
        if stream is not None or packed_id in self._waiting:
            self._waiting.discard(packed_id)
            self.failures.append((packed_id, "reset"))

    def fail_stream(self, stream_id: int, code: ErrorCode) -> None:
        super().fail_stream(stream_id, code)
        self._forget(pack_id(stream_id))
        self.failures.append((pack_id(stream_id), "protocol"))

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_IN_FLIGHT)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True
        last = pack_id(last_id)
        for packed_id in [*self._waiting, *map(pack_id, self.streams)]:
            if packed_id > last:
                self.drop(int.from_bytes(packed_id, "big"))
                self._forget(packed_id)
                self.failures.append((packed_id, "closed"))

    def is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_id or stream_id % 2 == 0

    def _forget(self, packed_id: bytes) -> None:
        """An exchange is over for us; the server may not know yet."""
        self._waiting.discard(packed_id)
        self._abandoned[packed_id] = None
        if len(self._abandoned) > MAX_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _late(self, stream_id: int) -> None:
        """Something arrived on a stream that is not in flight."""
        if pack_id(stream_id) not in self._abandoned:
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.STREAM_CLOSED)
