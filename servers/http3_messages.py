"""The heads of answers over HTTP/3. With no dynamic table in use, they are the same for all connections."""

from bench.wire.http3 import Frame, encode_block, encode_frame, frame_head
from servers.http2_messages import Refusal
from servers.httpdate import http_date
from servers.service import BINARY

_OK = (b":status", b"200")

CONTINUE = encode_frame(Frame.HEADERS, encode_block([(b":status", b"100")]))
"""The interim answer to `Expect: 100-continue`."""


class AnswerHeads:
    """The heads of one endpoint's answers."""

    def __init__(self) -> None:
        # By length of body; good for one date.
        self._before: dict[int, bytes] = {}
        self._date = b""

    def before(self, length: int) -> bytes:
        """What stands before the body of a plain answer of `length` bytes: HEADERS, and the head of one DATA frame."""
        date = http_date()
        if date is not self._date:
            self._before.clear()
            self._date = date
        before = self._before.get(length)
        if before is None:
            before = self.head(length, BINARY) + frame_head(Frame.DATA, length)
            if len(self._before) < 1024:
                self._before[length] = before
        return before

    def head(self, length: int | None, content_type: bytes) -> bytes:
        """The HEADERS of an answer of `length` bytes; None if it comes in pieces."""
        fields = [_OK, (b"date", http_date()), (b"content-type", content_type)]
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        return encode_frame(Frame.HEADERS, encode_block(fields))


def refusal_head(refusal: Refusal) -> bytes:
    """The HEADERS of a refusal."""
    fields = [
        (b":status", b"%d" % refusal.status),
        (b"date", http_date()),
        (b"content-type", b"text/plain"),
        *refusal.fields,
        (b"content-length", b"%d" % len(refusal.body)),
    ]
    return encode_frame(Frame.HEADERS, encode_block(fields))
