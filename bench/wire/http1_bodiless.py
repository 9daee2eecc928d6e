"""Answers of HTTP/1.1 that end with their head, whatever it says of a body: those to HEAD (RFC 9112, section 6.3)."""

from collections.abc import Callable
from typing import Any

import httptools


class BodilessParser:
    """In the place of httptools.HttpResponseParser, where some of the answers have no body: `bodiless` says at the end
    of a head whether this one has none.

    llhttp could be told so, but not through httptools. So no piece that is parsed goes on behind the end of a head or
    of an answer, which is where a line ends or a length that is known, and behind such a head another parser goes on.
    """

    def __init__(self, protocol: Any, bodiless: Callable[[], bool]) -> None:
        self._protocol = protocol
        self._bodiless = bodiless
        self.on_body = protocol.on_body
        self._parser = httptools.HttpResponseParser(self)
        self._left_bytes = 0
        """How much is still to come of a body whose length is known."""
        self._length_bytes: int | None = None
        self._is_over = False
        """Whether the answer has ended with its head, and llhttp does not know."""
        self._says_close = self._is_chunked = False

    # httptools.HttpResponseParser

    def feed_data(self, data: bytes | memoryview) -> None:
        whole, view, at = bytes(data), memoryview(data), 0
        while at < len(whole):
            left = self._left_bytes
            piece = view[at : at + left if left else whole.find(b"\n", at) + 1 or len(whole)]
            at += len(piece)
            self._parser.feed_data(piece)
            if left:
                self._left_bytes = left - len(piece)
            if self._is_over:
                self._protocol.on_message_complete()
                self._parser = httptools.HttpResponseParser(self)
                self._is_over = False

    def should_keep_alive(self) -> bool:
        if self._is_over and self._length_bytes is None and not self._is_chunked:
            # llhttp thinks that there is a body, which ends with the connection.
            return self._parser.get_http_version() == "1.1" and not self._says_close
        return self._parser.should_keep_alive()

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_status_code(self) -> int:
        return self._parser.get_status_code()

    # Its callbacks

    def on_message_begin(self) -> None:
        self._length_bytes = None
        self._says_close = self._is_chunked = False
        self._protocol.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-length":
                self._length_bytes = int(value)
            case b"transfer-encoding":
                self._is_chunked = True
            case b"connection":
                self._says_close = self._says_close or b"close" in value.lower()
        self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        self._protocol.on_headers_complete()
        self._is_over = self.get_status_code() >= 200 and self._bodiless()
        self._left_bytes = 0 if self._is_over else self._length_bytes or 0

    def on_message_complete(self) -> None:
        # llhttp has seen the end itself: it knows that 1xx, 204 and 304 have no body.
        self._left_bytes = 0
        self._is_over = False
        self._protocol.on_message_complete()
