"""HTTP/1.1 and HTTP/1.0 messages (RFC 9112), without I/O. The parser is llhttp, through httptools.

Both ends are bases to inherit from: bytes go in through `feed`, and messages come out as calls of the hooks that the
subclass defines. A call costs less than an event object, and this is the hot path.

Limits: a head (request line and fields) of MAX_HEAD_BYTES is taken and one of twice that is not; a target of
MAX_TARGET_BYTES. What breaks a rule raises ProtocolError with the HTTP status that names it (RFC 9110, section 15.5).
"""

from collections.abc import Callable

import httptools

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.http1_bodiless import BodilessParser

MAX_HEAD_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024
_PIECE_BYTES = 8 * 1024
"""Input is parsed in pieces of this size where a head may begin: no head escapes its bound in one large read."""

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    422: b"Unprocessable Content",
    425: b"Too Early",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_request(method: str, target: str, authority: str, body: bytes, fields: bytes = b"") -> bytes:
    """A whole request. `fields` are further header lines, each ended by CRLF."""
    length = b"content-length: %d\r\n" % len(body) if body or method in ("POST", "PUT") else b""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n%b" % (
        method.encode("ascii"),
        target.encode("ascii"),
        authority.encode("ascii"),
        length,
        fields,
        body,
    )


_SLASH = ord("/")
# Field names that mean something here. Names come in any case; the spellings that were met are remembered.
_OTHER, _HOST, _CONTENT_LENGTH, _TRANSFER_ENCODING = b"", b"host", b"content-length", b"transfer-encoding"
_CONNECTION, _EXPECT, _LAST_EVENT_ID, _EARLY_DATA = b"connection", b"expect", b"last-event-id", b"early-data"
_KNOWN = {
    name: name
    for name in (
        _HOST,
        _CONTENT_LENGTH,
        _TRANSFER_ENCODING,
        _CONNECTION,
        _EXPECT,
        _LAST_EVENT_ID,
        _EARLY_DATA,
    )
}
_FIELDS = dict(_KNOWN)


def _recognise(name: bytes) -> bytes:
    field = _KNOWN.get(name.lower(), _OTHER)
    if len(_FIELDS) < 1024 and len(name) < 64:
        _FIELDS[name] = field
    return field


class RequestReader:
    """The server's half. A subclass defines `head_received`, `body_received` and `request_received`; pipelined requests
    come out in order, as fast as they are fed. What the fields say holds until `request_received` has returned."""

    __slots__ = (
        "_body_bytes",
        "_chunked",
        "_fed_bytes",
        "_has_host",
        "_in_body",
        "_in_early_data",
        "_parser",
        "_target",
        "content_length",
        "expects_continue",
        "http_1_0",
        "is_early",
        "is_plain",
        "keep_alive",
        "last_event_id",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fed_bytes = -1
        self._body_bytes = 0
        self._in_body = False
        self._has_host = False
        self._chunked = False
        self._in_early_data = False
        self.is_plain = True
        """Whether nothing in the head needs a closer look: most requests are so, and this path is hot."""
        self.content_length = 0
        """The length that the head announces; 0 also where it announces none (a chunked body, or no body)."""
        self.expects_continue = False
        self.keep_alive = True
        """Whether the client lets the connection live after this request (RFC 9112, section 9.3)."""
        self.http_1_0 = False
        """Whether the client speaks HTTP/1.0, which knows no chunks and no interim answers."""
        self.last_event_id: bytes | None = None
        """The last event that a subscriber has had (WHATWG HTML, section 9.2.4); None if it does not say."""
        self.is_early = False
        """Whether the request may be a replay (RFC 8470): it begins in early data, or an intermediary says so."""

    # Hooks

    def head_received(self, method: bytes, target: bytes) -> None:
        """The head of a request is complete. `target` is in origin form where the request has a path at all."""

    def body_received(self, data: bytes) -> None:
        """A piece of the request's body."""

    def request_received(self) -> None:
        """The request is complete."""

    # State and input

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self._target != b""

    @property
    def body_begun(self) -> bool:
        """Whether something of the body has arrived."""
        return self._body_bytes > 0

    def begin_early_data(self) -> None:
        """What is fed now came before the TLS handshake was over."""
        self._in_early_data = self.is_early = True
        self.is_plain = False

    def end_early_data(self) -> None:
        """What is fed now is the client's own."""
        self._in_early_data = False
        if not self.mid_request:
            self.is_early = False
            self.is_plain = True

    def feed(self, data: bytes) -> None:
        """Take bytes from the client. Raises ProtocolError; the connection is then of no further use."""
        if len(data) > _PIECE_BYTES and not self._in_body:
            for start in range(0, len(data), _PIECE_BYTES):
                self.feed(data[start : start + _PIECE_BYTES])
            return
        rest = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ProtocolError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserInvalidMethodError:
            raise ProtocolError("unknown method", 501) from None
        except httptools.HttpParserError as error:
            status = 505 if "version" in str(error).lower() else 400
            raise ProtocolError(f"malformed request: {error}", status) from None
        if rest:
            self.feed(rest)
        elif self._target:
            self._bound(len(data))

    def _ignore_upgrade(self) -> None:
        """Go on in HTTP/1.1, as a server may that is offered another protocol (RFC 9110, section 7.8).

        The parser has stopped behind the head. A new one is told what it needs to read the body, if there is one.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._in_body:
            target = self._target
            framing = b"transfer-encoding: chunked" if self._chunked else b"content-length: %d" % self.content_length
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._target = target

    def _bound(self, fed_bytes: int) -> None:
        """Bound what is neither body nor complete: a head, and the framing and trailers of a chunked body."""
        if self._fed_bytes < 0:
            self._fed_bytes = 0  # how much of the piece that a request begins in belongs to it is not known
        elif not self._in_body:
            self._fed_bytes += fed_bytes
            if self._fed_bytes >= MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the request is longer than {MAX_HEAD_BYTES} bytes", 431)
        elif self._chunked:
            self._fed_bytes += fed_bytes
            # The smallest chunks, of one byte, take six.
            if self._fed_bytes - 6 * self._body_bytes >= 2 * MAX_HEAD_BYTES:
                raise ProtocolError("the chunk extensions or trailers of the request are too long", 431)

    # llhttp's callbacks

    def on_url(self, url: bytes) -> None:
        self._target = target = self._target + url if self._target else url
        if len(target) > MAX_TARGET_BYTES:
            raise ProtocolError(f"the request target is longer than {MAX_TARGET_BYTES} bytes", 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        field = _FIELDS.get(name)
        if field is None:
            field = _recognise(name)
        if field is _OTHER or self._in_body:
            return  # trailers mean nothing here (RFC 9110, section 6.5.1)
        if field is _HOST:
            if self._has_host:
                raise ProtocolError("more than one host field", 400)
            self._has_host = True
        elif field is _CONTENT_LENGTH:
            self.content_length = int(value)
            if self.content_length > MAX_BODY_BYTES:
                raise ProtocolError(f"the body is longer than {MAX_BODY_BYTES} bytes", 413)
        else:
            self.is_plain = False
            if field is _TRANSFER_ENCODING:
                if value.lower() != b"chunked":
                    raise ProtocolError("the only transfer coding known is chunked", 501)
                self._chunked = True
            elif field is _EXPECT:
                if value.lower() != b"100-continue":
                    raise ProtocolError("the only expectation known is 100-continue", 417)
                self.expects_continue = True
            elif field is _LAST_EVENT_ID:
                self.last_event_id = value
            elif field is _EARLY_DATA:
                self.is_early = True  # whatever it says (RFC 8470, section 5.1)

    def on_headers_complete(self) -> None:
        if self._in_body:
            return  # see _ignore_upgrade
        self._in_body = True
        self.keep_alive = self._parser.should_keep_alive()
        if not (self.is_plain and self._has_host and self.keep_alive and self._target[0] == _SLASH):
            self._look_closer()
        self.head_received(self._parser.get_method(), self._target)

    def _look_closer(self) -> None:
        """What a plain request of HTTP/1.1 need not be asked."""
        self.is_plain = False
        version = self._parser.get_http_version()
        self.http_1_0 = version == "1.0"
        if not self.http_1_0:
            if version != "1.1":
                raise ProtocolError("the versions known are HTTP/1.1 and HTTP/1.0", 505)
            if not self._has_host:
                raise ProtocolError("a request of HTTP/1.1 must name its host", 400)
        else:
            self.expects_continue = False  # RFC 9110, section 10.1.1
        if self._target[:7].lower() == b"http://":
            self._target = b"/" + self._target[7:].partition(b"/")[2]

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > MAX_BODY_BYTES:
            raise ProtocolError(f"the body is longer than {MAX_BODY_BYTES} bytes", 413)
        self.body_received(data)

    def on_message_complete(self) -> None:
        if not self.is_plain and self._parser.should_upgrade() and (self.content_length or self._chunked):
            return  # the body is still to come: see _ignore_upgrade
        self.request_received()
        self._target = b""
        self._fed_bytes = -1
        self._body_bytes = self.content_length = 0
        self._in_body = self._has_host = False
        if not self.is_plain:
            self.is_early = self._in_early_data
            self.is_plain = not self.is_early
            self.expects_continue = self.http_1_0 = self._chunked = False
            self.last_event_id = None


class ResponseReader:
    """The client's half. Hooks: `body_received` for each piece of body, `response_received` at the end of each answer.

    `bodiless` says whether the answer whose head is complete ends with it, as one to HEAD does; None where there are no
    such answers. An answer without a length ends with the connection: call `parse_eof`.
    """

    def __init__(self, bodiless: Callable[[], bool] | None = None) -> None:
        self._parser = httptools.HttpResponseParser(self) if bodiless is None else BodilessParser(self, bodiless)
        self.mid_answer = False
        """Whether an answer has begun to arrive and is not complete."""
        self.content_length: int | None = None
        """The length that the latest head announced; None where it announced none."""
        self._head_bytes = 0
        self._head_done = False
        self._framed = False

    # Hooks

    def body_received(self, data: bytes) -> None:
        """A piece of the answer's body."""

    def response_received(self, status: int) -> None:
        """The answer is complete; `keep_alive` speaks of it."""

    # Input

    @property
    def keep_alive(self) -> bool:
        """Whether the server lets the connection live after this answer."""
        return self._parser.should_keep_alive()

    def parse(self, data: bytes | memoryview) -> None:
        """Take bytes from the server. Raises ProtocolError if they are no HTTP answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise ProtocolError("the server changed to a protocol that was not asked for") from None
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ProtocolError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise ProtocolError(f"malformed answer: {error}") from None
        if self.mid_answer and not self._head_done:
            # No field is reported until it is complete, so count what was fed.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")

    def parse_eof(self) -> bool:
        """The server closed. True if that was the proper end of an answer whose length nothing else told (RFC 9112,
        section 6.3)."""
        if not self.mid_answer or not self._head_done or self._framed:
            return False
        self.on_message_complete()
        return True

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        self.mid_answer = True
        self.content_length = None
        self._head_bytes = 0
        self._head_done = False
        self._framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 14 and name.lower() == b"content-length":
            self.content_length = int(value)
            self._framed = True
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            self._framed = value.rstrip().lower().endswith(b"chunked")

    def on_headers_complete(self) -> None:
        self._head_done = True
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            raise ProtocolError("an answer of another version of HTTP")

    def on_body(self, data: bytes) -> None:
        self.body_received(data)

    def on_message_complete(self) -> None:
        self.mid_answer = False
        status = self._parser.get_status_code()
        if status >= 200:  # an interim answer (RFC 9110, section 15.2) is not the answer
            self.response_received(status)
