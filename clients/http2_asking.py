"""The client's end of an HTTP/2 connection whose requests are its own to make (RFC 9113), each a stream of its own.
Whatever is not as it should be ends the connection."""

from bench.errors import ProtocolError
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_WINDOW_BYTES,
    ErrorCode,
    encode_frame,
    encode_goaway,
)
from bench.wire.http2_sending import Stream
from clients.http2_answers import AnswerHead
from clients.http2_end import Http2ClientEnd


class AskedHead(AnswerHead):
    """What a header block of the server says, with what its body is."""

    __slots__ = ("content_type",)

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.content_type = dict(fields).get(b"content-type", b"").decode("latin-1")


class Asked(Stream):
    """A request, until its answer is complete."""

    __slots__ = ("pieces", "status")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.status = 0
        self.pieces: list[bytes] = []
        """What has come of the body."""


class AskingPeer(Http2ClientEnd[Asked]):
    """One connection."""

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__()
        self.max_in_flight = 0
        self._common = [(b":scheme", scheme.encode("ascii")), (b":authority", authority.encode("ascii"))]
        self._heads = HeaderReader(AskedHead)

    def request(self, method: str, path: str, fields: Fields, body: bytes) -> Asked:
        """Ask for something, by what goes to `outgoing`."""
        asked = self.streams[self._next_id] = Asked(self._next_id, self.peer_stream_window)
        self._next_id += 2
        named = [(b":method", method.encode("ascii")), (b":path", path.encode("ascii"))]
        length = [(b"content-length", b"%d" % len(body))] if body else []
        block = self.writer.encode([*named, *self._common, *fields, *length])
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        self.outgoing.append(encode_frame(HEADERS, flags, asked.id, block))
        if body:
            self.send_body(asked, body)
            self.send_bodies(MAX_WINDOW_BYTES)
        return asked

    def take(self, data: bytes) -> None:
        """Take bytes of the stream. Raises ProtocolError."""
        try:
            self.receive(data)
            if self.is_sending:
                self.send_bodies(MAX_WINDOW_BYTES)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, ErrorCode.PROTOCOL_ERROR))
            raise error

    # Hooks

    def begun(self, asked: Asked, head: AskedHead) -> None:
        """The head of an answer has come."""

    def piece_received(self, asked: Asked, data: bytes) -> None:
        """A piece of its body has come."""
        asked.pieces.append(data)

    def answered(self, asked: Asked) -> None:
        """An answer is complete."""

    # Http2ClientEnd

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        asked = self.streams.get(stream_id)
        if head.malformed:
            raise ProtocolError("a malformed answer", ErrorCode.PROTOCOL_ERROR)
        if asked is None or bool(asked.status) == bool(head.status):
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.PROTOCOL_ERROR)
        if head.status >= 200:
            asked.status = head.status
            self.begun(asked, head)
        if end_stream:
            self._end(asked)

    def body_received(self, stream: Asked, data: bytes, end_stream: bool) -> None:
        if not stream.status:
            raise ProtocolError("a body without a head", ErrorCode.PROTOCOL_ERROR)
        self.piece_received(stream, data)
        if end_stream:
            self._end(stream)

    def unlisted(self, stream_id: int) -> Asked | None:
        raise ProtocolError("an answer to nothing that was asked", ErrorCode.STREAM_CLOSED)

    def stream_ended(self, stream_id: int, stream: Asked | None) -> None:
        raise ProtocolError("the server has given the request up", ErrorCode.CANCEL)

    def _end(self, asked: Asked) -> None:
        self.drop(asked.id)
        self.answered(asked)
