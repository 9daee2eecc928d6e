"""Calls and answers as header blocks (PROTOCOL-HTTP2.md in grpc/grpc): what a client calls, and how it ended."""

from bench.wire.grpc_messages import (
    CONTENT_TYPE,
    Status,
    StatusError,
    decode_timeout,
    message_prefix,
    payload_prefix,
    percent_encode,
)
from bench.wire.header_blocks import Fields, Head, HeaderWriter, MalformedError
from bench.wire.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame_head
from servers.grpc_methods import METHODS, SERVICES, Method
from servers.http2_messages import MAX_HEADER_LIST_BYTES

_PSEUDO = {b"method", b"scheme", b"authority", b"path"}
_TYPES = (CONTENT_TYPE, CONTENT_TYPE + b"+proto")


class CallHead:
    """What a header block calls; the same for all calls whose blocks are equal."""

    __slots__ = (
        "content_length",
        "error",
        "gzip_in",
        "gzip_out",
        "http_status",
        "is_trailers",
        "malformed",
        "method",
        "plain",
        "plain_answer",
        "timeout_ns",
    )

    def __init__(self, fields: Fields) -> None:
        self.malformed = self.is_trailers = self.gzip_in = self.gzip_out = False
        self.content_length: int | None = None
        self.http_status = 200
        self.timeout_ns: int | None = None
        self.error: StatusError | None = None
        """Why the call cannot be taken."""
        self.method: Method
        """There is none if the call cannot be taken."""
        self.plain = self.plain_answer = False
        """Whether the call brings one message, whether it gets one with a payload, and nothing is special about it."""
        if sum(len(name) + len(value) + 32 for name, value in fields) > MAX_HEADER_LIST_BYTES:
            self.error = StatusError(
                Status.RESOURCE_EXHAUSTED, f"the metadata is longer than {MAX_HEADER_LIST_BYTES} bytes"
            )
            return
        try:
            self._read(Head(fields))
        except StatusError as error:
            self.error = error
        except MalformedError:
            self.malformed = True

    def _read(self, head: Head) -> None:
        """Raises MalformedError (RFC 9113, section 8.3.1) and StatusError."""
        self.is_trailers = not head.pseudo
        if self.is_trailers:
            return
        pseudo, fields = head.pseudo, dict(head.fields)
        method, path = pseudo.get(b"method", b""), pseudo.get(b"path", b"")
        if not (method and path and b"scheme" in pseudo and pseudo.keys() <= _PSEUDO):
            raise MalformedError("pseudo-header fields")
        if method != b"POST":
            self.http_status = 405
            raise StatusError(Status.INTERNAL, "a call is a POST")
        if fields.get(b"content-type", b"").partition(b";")[0].strip() not in _TYPES:
            self.http_status = 415
            raise StatusError(Status.INTERNAL, "the content-type must be application/grpc")
        if fields.get(b"te") != b"trailers":
            raise StatusError(Status.INTERNAL, "te: trailers is missing; does a proxy in between take it away?")
        encoding = fields.get(b"grpc-encoding", b"identity")
        if encoding not in (b"identity", b"gzip"):
            raise StatusError(Status.UNIMPLEMENTED, f"the grpc-encoding {encoding[:50].decode('latin-1')} is unknown")
        self.content_length = head.content_length
        self.gzip_in = encoding == b"gzip"
        accepted = fields.get(b"grpc-accept-encoding", b"").split(b",")
        self.gzip_out = self.gzip_in and b"gzip" in (name.strip() for name in accepted)
        if b"grpc-timeout" in fields:
            self.timeout_ns = decode_timeout(fields[b"grpc-timeout"])
        if path not in METHODS:
            service = path[1:].rpartition(b"/")[0].decode("latin-1")
            what = "method" if service in SERVICES else "service"
            raise StatusError(Status.UNIMPLEMENTED, f"unknown {what}: {path[:200].decode('latin-1')}")
        self.method = METHODS[path]
        self.plain = not (self.method.client_streaming or self.gzip_in) and self.content_length is None
        self.plain_answer = self.plain and self.method.gives_payload


_OK = (b":status", b"200")
_TYPE = (b"content-type", CONTENT_TYPE)
_ACCEPT = (b"grpc-accept-encoding", b"identity,gzip")
_GZIP = (b"grpc-encoding", b"gzip")
_STATUS_OK = (b"grpc-status", b"0")

Frames = tuple[bytes, bytes, bytes, bytes, bytes]


class AnswerHeads:
    """The header blocks of one connection's answers. A block must be sent before the next one is made."""

    __slots__ = ("_frames", "_version", "_writer")

    def __init__(self, writer: HeaderWriter) -> None:
        self._writer = writer
        # Frames around plain answers, by length of payload; good for one state of the encoder.
        self._frames: dict[int, Frames] = {}
        self._version = 0

    def frames(self, size_bytes: int) -> Frames:
        """A whole answer of one message with that much payload, in HEADERS, DATA and HEADERS. The stream's id goes
        after the first, second and fourth piece, and the payload after the third; the fifth ends it."""
        writer = self._writer
        if writer.version != self._version:
            self._frames.clear()
        frames = self._frames.get(size_bytes)
        if frames is None:
            version = writer.version
            head, end = self.head(gzip=False), self.end()
            prefix = payload_prefix(size_bytes)
            message = message_prefix(len(prefix) + size_bytes) + prefix
            frames = (
                frame_head(len(head), HEADERS, END_HEADERS),
                head + frame_head(len(message) + size_bytes, DATA, 0),
                message,
                frame_head(len(end), HEADERS, END_HEADERS | END_STREAM),
                end,
            )
            if len(self._frames) < 1024:
                self._frames[size_bytes] = frames
            # If the blocks have raised the version, this is of no use for the next answer.
            self._version = version
        return frames

    def head(self, gzip: bool) -> bytes:
        """What stands before the messages."""
        return self._writer.encode((_OK, _TYPE, _ACCEPT, _GZIP) if gzip else (_OK, _TYPE, _ACCEPT))

    def end(self) -> bytes:
        """What stands after the messages of a call that went well."""
        return self._writer.encode((_STATUS_OK,))

    def failure(self, error: StatusError, alone: bool, http_status: int = 200) -> bytes:
        """What ends a call that failed; `alone` if no message, and nothing else, was sent before. It is kept out of the
        encoder's table, which is for what comes often."""
        fields = [(b"grpc-status", b"%d" % error.status, True), (b"grpc-message", percent_encode(error.message), True)]
        if alone:
            fields[:0] = [(b":status", b"%d" % http_status, True), (*_TYPE, True)]
            if error.status == Status.UNIMPLEMENTED:
                fields.append((*_ACCEPT, True))  # it may be the encoding that is not known
        return self._writer.encode(fields)

    def nothing(self) -> bytes:
        """What ends a call that went well and had no message to send."""
        return self._writer.encode((_OK, _TYPE, _STATUS_OK))
