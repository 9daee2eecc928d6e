"""The lean HTTP/2 client (RFC 9113), for servers that are known to speak it (h2c, section 3.3)."""

from collections.abc import Hashable, Sequence

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW_BYTES,
    ErrorCode,
    FrameShape,
    GroupShape,
    encode_frame,
    encode_goaway,
    pack_id,
)
from clients.http2_answers import Answer, AnswerHead
from clients.http2_end import Http2ClientEnd

MAX_IN_FLIGHT = 1 << 16
FIRST_IN_FLIGHT = 100
"""What may be in flight at most, and before the server has said what it takes (section 6.5.2 asks for 100 or more)."""

MAX_WHOLE_BYTES = 64 * 1024
"""The longest body that requests are made with many at a time."""

MAX_ABANDONED = 4096
"""Exchanges given up last, whose late answers are ignored; a late answer to an older one is an error."""


class Http2Client(Http2ClientEnd[Answer]):
    """One connection. Ids are stream ids as they stand in frames: 4 bytes, big-endian.

    Once an answer of one HEADERS and one DATA frame was read frame by frame and found right, rows of frames that differ
    from these in nothing but the stream are recognised as a whole. That holds until the server changes the decoder's
    table, as it does when the date changes.
    """

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__()
        self.max_in_flight = FIRST_IN_FLIGHT
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._exchange = exchange
        self._check_content = check_content
        self._fields = self._request_fields(authority)
        self._heads = HeaderReader(self._read_head)
        # Exchanges whose request is sent in full: those whose answer has not begun, and those whose answer has begun
        # with the frame that `_alike` holds. All others are in `streams`.
        self._waiting: set[bytes] = set()
        self._begun: set[bytes] = set()
        self._abandoned: dict[bytes, None] = {}
        self._done: list[bytes] = []
        # The frames of a whole request, good for one version of the encoder's table.
        self._requests: list[FrameShape] = []
        self._requests_version = -1
        # The HEADERS and DATA frame of a right answer, good until the decoder's table changes, and what the first says.
        self._alike: tuple[FrameShape, FrameShape, GroupShape] | None = None
        self._alike_head: AnswerHead | None = None
        self._table_changes = 0

    # Client

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
            # Until the encoder's table has settled, the next request's block is another one.
            settled = self._requests_version == self.writer.version
            frames, upto = (self._requests, whole) if settled else (self._shape_requests(), sent + 1)
            self.outgoing += [frame.encode(ids[sent:upto]) for frame in frames]
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

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, bytes)
        self.reset(int.from_bytes(exchange_id, "big"), ErrorCode.CANCEL)
        self._forget(exchange_id)
        return True

    # Requests

    def _request_fields(self, authority: str) -> list[tuple[bytes, bytes]]:
        exchange = self._exchange
        fields = [
            (b":method", exchange.method.encode("ascii")),
            (b":scheme", exchange.scheme.encode("ascii")),
            (b":authority", authority.encode("ascii")),
            (b":path", exchange.path.encode("ascii")),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            fields.append((b"content-length", b"%d" % len(exchange.body)))
        return fields

    def _shape_requests(self) -> list[FrameShape]:
        version, body = self.writer.version, self._exchange.body
        block = self.writer.encode(self._fields)
        frames = [FrameShape(HEADERS, END_HEADERS if body else END_HEADERS | END_STREAM, block)]
        for start in range(0, len(body), MAX_FRAME_BYTES):
            end = start + MAX_FRAME_BYTES
            frames.append(FrameShape(DATA, END_STREAM if end >= len(body) else 0, body[start:end]))
        # If the block has raised the version, this is of no use for the next request.
        self._requests, self._requests_version = frames, version
        return frames

    def _request_in_pieces(self, stream_ids: range) -> None:
        for stream_id in stream_ids:
            block = self.writer.encode(self._fields)
            self.outgoing.append(encode_frame(HEADERS, END_HEADERS, stream_id, block))
            stream = self.streams[stream_id] = Answer(stream_id, self.peer_stream_window)
            self.send_body(stream, self._exchange.body)
        self.send_bodies(MAX_WINDOW_BYTES)

    # Answers

    def _read_head(self, fields: Fields) -> AnswerHead:
        return AnswerHead(fields)

    def _match(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The ids of the answers that are completed by the rows of frames at the beginning of `data`; and what follows
        them, to be read frame by frame."""
        done: list[bytes] = []
        if self._alike is None or self.mid_block:
            return done, data
        heads, bodies, pairs = self._alike
        at, try_pairs = 0, True
        while at < len(data):
            is_head = data.startswith(heads.head, at)
            if is_head:
                ids, end = pairs.match(data, at) if try_pairs else ([], at)
                is_end = bool(ids)
                if not ids:
                    ids, end = heads.match(data, at, bodies.head)
                try_pairs = False
            elif data.startswith(bodies.head, at):
                ids, end = bodies.match(data, at, heads.head)
                is_end = True
            else:
                break
            came_from, distinct = self._waiting if is_head else self._begun, set(ids)
            if not ids or len(distinct) < len(ids) or not distinct <= came_from:
                break
            came_from -= distinct
            if is_end:
                done += ids
                self.take_in(len(ids) * len(bodies.payload))
            else:
                self._begun |= distinct
            at = end
        return done, data[at:]

    def _learn(self, stream: Answer, block: bytes) -> None:
        """A right answer, whose head is `block`: from now on, others are compared with it."""
        body = stream.last
        if not body or len(body) != stream.received_bytes or stream.end_block is not None:
            return
        if self._alike is None or block != self._alike[0].payload or body != self._alike[1].payload:
            self._unlearn()
            heads, bodies = FrameShape(HEADERS, END_HEADERS, block), FrameShape(DATA, END_STREAM, body)
            self._alike, self._alike_head = (heads, bodies, GroupShape(heads, bodies)), stream.head

    def _unlearn(self) -> None:
        for packed_id in self._begun:
            self._list(packed_id)
        self._begun.clear()
        self._alike = None

    def _list(self, packed_id: bytes) -> Answer:
        """The rest of an answer that began with the frame learnt will be read frame by frame."""
        assert self._alike is not None
        stream_id = int.from_bytes(packed_id, "big")
        stream = self.streams[stream_id] = Answer(stream_id, 0)
        stream.head, stream.block = self._alike_head, self._alike[0].payload
        stream.table_changes = self._table_changes
        return stream

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        if not self._heads.stable:
            self._unlearn()
            self._table_changes += 1
        stream, packed_id = self.streams.get(stream_id), pack_id(stream_id)
        if stream is None and packed_id in self._waiting:
            self._waiting.remove(packed_id)
            if self._alike is not None and block == self._alike[0].payload and not end_stream:
                self._begun.add(packed_id)
                return
            stream = self.streams[stream_id] = Answer(stream_id, 0)
        elif stream is None:
            stream = self.unlisted(stream_id)
            if stream is None:
                return
        is_trailers = stream.head is not None
        if head.malformed or is_trailers == bool(head.status) or (is_trailers and not end_stream):
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if is_trailers:
            stream.end_block = block
        elif head.status >= 200:
            stream.head = head
            stream.error = None if head.status < 300 else "status"
            stream.block = block if self._heads.stable else None
            stream.table_changes = self._table_changes
        elif end_stream:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)  # an interim answer is not the answer
            return
        if end_stream:
            self._complete(stream, head)

    def body_received(self, stream: Answer, data: bytes, end_stream: bool) -> None:
        if stream.head is None:
            self.fail_stream(stream.id, ErrorCode.PROTOCOL_ERROR)
            return
        if self._check_content and not self._exchange.answer.startswith(data, stream.received_bytes):
            stream.error = stream.error or "content"
        stream.received_bytes += len(data)
        stream.last = data
        if end_stream:
            self._complete(stream, stream.head)

    def _wrong(self, stream: Answer, head: AnswerHead, _end: AnswerHead) -> ErrorKind | None:
        """What is wrong with a complete answer, whose last header block is `_end`."""
        size = stream.received_bytes
        if stream.error is not None:
            return stream.error
        if head.content_length not in (None, size) and self._exchange.method != "HEAD":
            return "protocol"  # the answer is malformed (section 8.1.1)
        return "content" if self._check_content and size != len(self._exchange.answer) else None

    def _complete(self, stream: Answer, end: AnswerHead) -> None:
        """An answer is complete; `end` is what its last header block says."""
        assert stream.head is not None
        error = self._wrong(stream, stream.head, end)
        packed_id = pack_id(stream.id)
        if stream.sent_bytes < len(stream.body):
            self.reset(stream.id, ErrorCode.CANCEL)  # the server has answered before it had all of the request
        else:
            del self.streams[stream.id]
        if error is not None:
            self.failures.append((packed_id, error))
            return
        self._done.append(packed_id)
        if stream.block is not None and stream.table_changes == self._table_changes:
            self._learn(stream, stream.block)

    # Http2Peer

    def unlisted(self, stream_id: int) -> Answer | None:
        packed_id = pack_id(stream_id)
        if packed_id in self._begun:
            self._begun.remove(packed_id)
            return self._list(packed_id)
        if packed_id in self._waiting:
            self.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)  # a body without a head
        elif packed_id not in self._abandoned:
            code = ErrorCode.PROTOCOL_ERROR if self.is_idle(stream_id) else ErrorCode.STREAM_CLOSED
            raise ProtocolError("an answer to nothing that was asked", code)
        return None

    def stream_ended(self, stream_id: int, stream: Answer | None) -> None:
        packed_id = pack_id(stream_id)
        if stream is not None or packed_id in self._waiting or packed_id in self._begun:
            self._waiting.discard(packed_id)
            self._begun.discard(packed_id)
            self.failures.append((packed_id, "reset"))

    def fail_stream(self, stream_id: int, code: ErrorCode) -> None:
        super().fail_stream(stream_id, code)
        self._forget(pack_id(stream_id))
        self.failures.append((pack_id(stream_id), "protocol"))

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_IN_FLIGHT)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True
        kind = self.kind_beyond(last_id, code)
        last = pack_id(last_id)
        for packed_id in sorted([*self._waiting, *self._begun, *map(pack_id, self.streams)]):
            if packed_id > last:
                self.drop(int.from_bytes(packed_id, "big"))
                self._forget(packed_id)
                self.failures.append((packed_id, kind))

    def _forget(self, packed_id: bytes) -> None:
        """An exchange is over for us; the server may not know yet."""
        self._waiting.discard(packed_id)
        self._begun.discard(packed_id)
        self._abandoned[packed_id] = None
        if len(self._abandoned) > MAX_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]
