"""Requests and answers as header blocks (RFC 9113, section 8.3): what a client asks for, and what it is told."""

from bench.contract import MAX_BODY_BYTES
from bench.wire.header_blocks import CONTENT_LENGTH_INDEX, Fields, Head, HeaderWriter, MalformedError, literal
from bench.wire.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame_head
from bench.wire.priorities import DEFAULT_URGENCY, read_urgency
from servers.early_data import SAFE_METHODS, TOO_EARLY
from servers.httpdate import http_date
from servers.service import BINARY, TEXT, Route, Service, event_id
from servers.service_error import ServiceError

MAX_HEADER_LIST_BYTES = 32 * 1024
"""The longest list of fields, each counted with 32 bytes beside its own (SETTINGS_MAX_HEADER_LIST_SIZE)."""

_PSEUDO = {b"method", b"scheme", b"authority", b"path"}


class Refusal:
    """An answer that says why a request cannot be run."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, message: str, fields: Fields = ()) -> None:
        self.status = status
        self.body = message.encode() + b"\n"
        self.fields = fields


TOO_LARGE = Refusal(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
REFUSED_EARLY = Refusal(*TOO_EARLY)
_BAD_FIELDS = Refusal(431, f"the fields of the request are longer than {MAX_HEADER_LIST_BYTES} bytes")


class Request:
    """What a header block asks for; the same for all requests whose blocks are equal."""

    __slots__ = (
        "content_length",
        "expects_continue",
        "head_only",
        "is_safe",
        "is_trailers",
        "malformed",
        "outcome",
        "urgency",
    )

    def __init__(self, service: Service, fields: Fields) -> None:
        self.outcome: Route | Refusal = _BAD_FIELDS
        self.malformed = self.is_trailers = self.head_only = self.expects_continue = False
        self.is_safe = False
        """Running it twice does no harm, so that it may come as early data."""
        self.content_length: int | None = None
        self.urgency = DEFAULT_URGENCY
        if sum(len(name) + len(value) + 32 for name, value in fields) > MAX_HEADER_LIST_BYTES:
            return
        try:
            head = Head(fields)
            self.content_length = head.content_length
            self.is_trailers = not head.pseudo
            self.outcome = self._route(service, head)
        except ServiceError as error:
            self.outcome = Refusal(error.status, error.message)
        except MalformedError:
            self.malformed = True

    def _route(self, service: Service, head: Head) -> Route | Refusal:
        """Raises MalformedError (section 8.3.1) and ServiceError."""
        pseudo = head.pseudo
        method, path = pseudo.get(b"method", b""), pseudo.get(b"path", b"")
        if method == b"CONNECT":
            return Refusal(501, "this server is no proxy")
        if not (method and path and b"scheme" in pseudo and pseudo.keys() <= _PSEUDO):
            raise MalformedError("pseudo-header fields")
        self.head_only = method == b"HEAD"
        self.is_safe = method in SAFE_METHODS
        last_event_id = None
        for name, value in head.fields:
            if name == b"last-event-id":
                last_event_id = value
            if name == b"priority":
                self.urgency = read_urgency(value)
            if name == b"host" and value != pseudo.get(b"authority", value):
                raise MalformedError("two hosts")
            if name == b"expect":
                if value.lower() != b"100-continue":
                    return Refusal(417, "the only expectation known is 100-continue")
                self.expects_continue = True
            if name == b"early-data" and not self.is_safe:
                return REFUSED_EARLY  # an intermediary says so, and whatever it says (RFC 8470, section 5.1)
        if head.content_length is not None and head.content_length > MAX_BODY_BYTES:
            return TOO_LARGE
        route = service.route(path)
        if method not in route.methods:
            other = route.other
            if other is None or method not in other.methods:
                allowed = b", ".join(route.methods + (other.methods if other is not None else ()))
                return Refusal(405, f"allowed here: {allowed.decode()}", [(b"allow", allowed)])
            route = other
        if last_event_id is not None and route.topic is not None:
            return route.resumed(event_id(last_event_id.decode("latin-1")))
        return route


_OK = (b":status", b"200")
_NO_CACHE = (b"cache-control", b"no-cache")


class AnswerHeads:
    """The header blocks of one connection's answers."""

    __slots__ = ("_date", "_fields", "_frames", "_version", "_writer")

    def __init__(self, writer: HeaderWriter, fields: Fields = ()) -> None:
        """`fields` are in all of them."""
        self._writer = writer
        self._fields = tuple(fields)
        # Frames around plain answers, by type and length of body; good for one date and one state of the encoder.
        self._frames: dict[int | tuple[bytes, int], tuple[bytes, bytes]] = {}
        self._date = b""
        self._version = 0

    def frames(self, content_type: bytes, length: int) -> tuple[bytes, bytes]:
        """An answer of a HEADERS frame and a DATA frame with `length` bytes: what stands before the first place for the
        stream's id, and what between the first and the second."""
        date, writer = http_date(), self._writer
        if date is not self._date or writer.version != self._version:
            self._frames.clear()
        key = length if content_type is BINARY else (content_type, length)
        frames = self._frames.get(key)
        if frames is None:
            version = writer.version
            block = self.block(content_type, length)
            frames = frame_head(len(block), HEADERS, END_HEADERS), block + frame_head(length, DATA, END_STREAM)
            if len(self._frames) < 1024:
                self._frames[key] = frames
            # If the block has raised the version, this is of no use for the next answer.
            self._date, self._version = date, version
        return frames

    def block(self, content_type: bytes, length: int | None) -> bytes:
        """The head of an answer of `length` bytes; None if it comes in pieces."""
        block = self._writer.encode((_OK, (b"date", http_date()), (b"content-type", content_type), *self._fields))
        return block if length is None else block + literal(CONTENT_LENGTH_INDEX, b"%d" % length)

    def events(self, content_type: bytes) -> bytes:
        """The head of an answer that is a stream of events."""
        fields = (_OK, (b"date", http_date()), (b"content-type", content_type), _NO_CACHE, *self._fields)
        return self._writer.encode(fields)

    def refusal(self, refusal: Refusal) -> bytes:
        """The head of a refusal. It is kept out of the encoder's table, which is for what comes often."""
        fields = [
            (b":status", b"%d" % refusal.status, True),
            (b"date", http_date(), True),
            (b"content-type", TEXT, True),
            *((name, value, True) for name, value in (*refusal.fields, *self._fields)),
        ]
        return self._writer.encode(fields) + literal(CONTENT_LENGTH_INDEX, b"%d" % len(refusal.body))
