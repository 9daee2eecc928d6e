"""Answers over HTTP/2, from their first frame to their last."""

from bench.errors import ErrorKind
from bench.wire.header_blocks import Fields, Head, MalformedError
from bench.wire.http2_frames import MAX_WINDOW_BYTES
from bench.wire.http2_sending import Stream


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
        self.malformed = bool(status) != bool(self.status) or bool(head.pseudo)


class Answer(Stream):
    """An exchange whose request is not sent in full, or whose answer has begun."""

    __slots__ = ("block", "end_block", "error", "head", "last", "received_bytes", "table_changes")

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window, MAX_WINDOW_BYTES)
        self.head: AnswerHead | None = None
        self.received_bytes = 0
        self.error: ErrorKind | None = None
        self.block: bytes | None = None
        """The header block, if it left the decoder's table as it was; `table_changes` tells whether something has
        changed it since."""
        self.table_changes = 0
        self.last = b""
        """What the last DATA frame brought of the body."""
        self.end_block: bytes | None = None
        """The trailers, if there are any."""
