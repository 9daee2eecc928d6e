"""Messages of HTTP/1.1 as an intermediary reads them: every field is kept, and bodies are handed on piece by piece.

The parser is llhttp in its strict mode, so that what is passed on means to the next server what it meant here: a
message whose length is told in two ways, or in a way that others might read otherwise, is refused (RFC 9112, sections
6.1, 6.3 and 11.2).
"""

import httptools

from bench.errors import ProtocolError
from bench.wire.http1 import MAX_HEAD_BYTES, MAX_TARGET_BYTES
from servers.proxies.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    DROPPED,
    EXPECT,
    HOST,
    OTHER,
    TRANSFER_ENCODING,
    UPGRADE,
    Fields,
    meaning,
    met,
    tokens,
    without,
)

_PIECE_BYTES = 8 * 1024
"""Input is parsed in pieces of this size where a head may begin: no head escapes its bound in one large read."""
_PLAIN = (b"keep-alive", b"close", b"upgrade", b"te", b"")
"""What a `connection` field may hold that takes no further fields with it that were not dropped already."""


class _Reader:
    """What both directions share: the fields of the head that is arriving, and what they say of the message."""

    __slots__ = ("_fields", "_head_bytes", "_in_body", "_nominated", "_parser", "_upgrade", "chunked", "length")

    def __init__(self) -> None:
        self._fields: Fields = []
        self._head_bytes = 0
        self._in_body = False
        self._nominated: list[bytes] | None = None
        self._upgrade: bytes | None = None
        self.length: int | None = None
        """The length that the head announces."""
        self.chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        what = met.get(name)
        if what is None:
            what = meaning(name)
        if self._in_body:
            return  # a trailer
        if what is OTHER:
            self._fields.append((name, value))
        elif what is CONTENT_LENGTH:
            self.length = int(value)
            self._fields.append((name, value))
        elif what is CONNECTION:
            self._nominated = [*(self._nominated or ()), *tokens(value)]
        elif what is TRANSFER_ENCODING:
            if value.lower() != b"chunked":
                raise ProtocolError("the only transfer coding known is chunked", 501)
            self.chunked = True
        elif what is UPGRADE:
            self._upgrade = value
        elif what is not DROPPED:
            self._noted(what, value)
            self._fields.append((name, value))

    def _noted(self, what: int, value: bytes) -> None:
        """A field that only one of both directions looks at."""

    def _take_fields(self) -> Fields:
        """The fields that go on, of a head that is complete."""
        fields, self._fields = self._fields, []
        nominated = self._nominated
        if nominated is not None:
            if b"upgrade" not in nominated:
                self._upgrade = None  # RFC 9110, section 7.8: a sender of Upgrade must nominate it
            others = [name for name in nominated if name not in _PLAIN]
            if others:
                fields = without(fields, others)
        else:
            self._upgrade = None
        return fields

    def _reset(self) -> None:
        self._head_bytes = 0
        self._in_body = self.chunked = False
        self._nominated = self._upgrade = self.length = None


class RequestReader(_Reader):
    """The requests of a client. Hooks: `head_received`, `body_received`, `request_received`.

    Behind a request to change protocols the parser stops: what came with it is in `held` until `go_on` is called."""

    __slots__ = (
        "_authority",
        "_body_follows",
        "_is_told",
        "_target",
        "held",
        "http_1_0",
        "keep_alive",
    )

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._authority: bytes | None = None
        self._body_follows = False
        self._is_told = False
        self.held: bytes | None = None
        self.http_1_0 = False
        self.keep_alive = True

    # Hooks

    def head_received(
        self, method: bytes, target: bytes, authority: bytes, fields: Fields, upgrade: bytes | None
    ) -> None:
        """The head of a request is complete; `length` and `chunked` tell whether a body follows."""

    def body_received(self, data: bytes) -> None:
        """A piece of the body."""

    def request_received(self) -> None:
        """The request is complete."""

    # Input

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self._target != b""

    def feed(self, data: bytes) -> None:
        """Take bytes from the client. Raises ProtocolError, whose code is the status to answer."""
        if self.held is not None:
            self.held += data
            return
        if len(data) > _PIECE_BYTES and not self._in_body:
            for start in range(0, len(data), _PIECE_BYTES):
                self.feed(data[start : start + _PIECE_BYTES])
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if not self._body_follows:
                self.held = rest
            else:
                self._read_body()
                self.feed(rest)
            return
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ProtocolError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserInvalidMethodError:
            raise ProtocolError("unknown method", 501) from None
        except httptools.HttpParserError as error:
            status = 505 if "version" in str(error).lower() else 400
            raise ProtocolError(f"malformed request: {error}", status) from None
        if self._target and not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the request is longer than {MAX_HEAD_BYTES} bytes", 431)

    def go_on(self) -> None:
        """Go on in HTTP/1.1: the protocol did not change."""
        data, self.held = self.held, None
        self._parser = httptools.HttpRequestParser(self)
        if data:
            self.feed(data)

    def _read_body(self) -> None:
        """llhttp stops behind the head of a request to change protocols. A new one is told how the body is framed."""
        target, self._parser = self._target, httptools.HttpRequestParser(self)
        framing = b"transfer-encoding: chunked" if self.chunked else b"content-length: %d" % (self.length or 0)
        self._is_told = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._is_told = False
        self._target = target

    # llhttp's callbacks

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise ProtocolError(f"the request target is longer than {MAX_TARGET_BYTES} bytes", 414)

    def _noted(self, what: int, value: bytes) -> None:
        if what is HOST:
            if self._authority is not None:
                raise ProtocolError("more than one host field", 400)
            self._authority = value
        elif what is EXPECT and value.lower() != b"100-continue":
            raise ProtocolError("the only expectation known is 100-continue", 417)

    def on_headers_complete(self) -> None:
        if self._is_told:
            return
        self._in_body = True
        parser = self._parser
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise ProtocolError("the versions known are HTTP/1.1 and HTTP/1.0", 505)
            self.http_1_0 = True
            if self.chunked:
                raise ProtocolError("a transfer coding in HTTP/1.0", 400)  # RFC 9112, section 6.1
        elif self._authority is None:
            raise ProtocolError("a request of HTTP/1.1 must name its host", 400)
        self.keep_alive = parser.should_keep_alive() and not self.http_1_0
        fields = self._take_fields()
        upgrade = self._upgrade
        if self.length or self.chunked:
            self._body_follows = True
            upgrade = None  # a request with a body does not change the protocol here
        self.head_received(parser.get_method(), self._target, self._authority or b"", fields, upgrade)

    def on_body(self, data: bytes) -> None:
        self.body_received(data)

    def on_message_complete(self) -> None:
        if self._body_follows and self._parser.should_upgrade():
            return  # see _read_body
        self.request_received()
        self._target = b""
        self._authority = None
        self.http_1_0 = self._body_follows = False
        self._reset()


class AnswerReader(_Reader):
    """The answers of an upstream. Hooks: `head_received`, `body_received`, `answer_received`."""

    __slots__ = ("_has_no_body", "ends_with_connection", "keep_alive", "rest")

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)
        self._has_no_body = False
        self.ends_with_connection = False
        """Whether only the end of the connection ends the answer that is arriving (RFC 9112, section 6.3)."""
        self.keep_alive = True
        self.rest: bytes | None = None
        """What came behind the head by which the protocol changed."""

    # Hooks

    def head_received(self, status: int, fields: Fields, upgrade: bytes | None) -> None:
        """The head of an answer, final or interim, is complete."""

    def body_received(self, data: bytes) -> None:
        """A piece of the body."""

    def answer_received(self) -> None:
        """The answer is complete."""

    # Input

    def expect(self, method: bytes) -> None:
        """The next answer is to a request of that method."""
        self._has_no_body = method == b"HEAD"

    def feed(self, data: bytes) -> None:
        """Take bytes from the upstream. Raises ProtocolError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
            return
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ProtocolError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise ProtocolError(f"malformed answer: {error}") from None
        if not self._in_body and self._fields:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")

    # llhttp's callbacks

    def on_headers_complete(self) -> None:
        self._in_body = True
        parser = self._parser
        status = parser.get_status_code()
        fields = self._take_fields()
        framed = self.chunked or self.length is not None
        bodiless = self._has_no_body or status in (204, 304) or status < 200
        self.ends_with_connection = not (framed or bodiless)
        self.keep_alive = not self.ends_with_connection and parser.should_keep_alive()
        self.head_received(status, fields, self._upgrade)
        if self._has_no_body and status >= 200:
            # llhttp does not know that the answer to a HEAD ends here, whatever its fields say.
            self.keep_alive = parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)
            self._has_no_body = False
            self._end(status)

    def on_body(self, data: bytes) -> None:
        self.body_received(data)

    def on_message_complete(self) -> None:
        self._end(self._parser.get_status_code())

    def _end(self, status: int) -> None:
        self._reset()
        if status >= 200:
            self.answer_received()
