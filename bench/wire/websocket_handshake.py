"""The opening handshake of WebSocket (RFC 6455, section 4), both sides, without I/O.

It is one request of HTTP/1.1 and one answer. Both ends collect a head up to its empty line and read it here.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from bench.errors import ProtocolError
from bench.wire.http1_heads import has_token, read_head, tokens

_VERSION: Final = b"13"
_KEY_BYTES: Final = 16
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class RefusalError(Exception):
    """A server turns an opening request down. `fields` are further header lines, each ended by CRLF."""

    def __init__(self, status: int, message: str, fields: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields

    def encode(self) -> bytes:
        """The answer, the last of its connection."""
        body = self.message.encode() + b"\n"
        return b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
            self.status,
            HTTPStatus(self.status).phrase.encode(),
            self.fields,
            len(body),
            body,
        )


class Opening(NamedTuple):
    """What a client asks for."""

    target: bytes
    key: bytes
    extensions: bytes
    """The field Sec-WebSocket-Extensions; empty without."""
    subprotocols: Sequence[bytes] = ()
    """Those that the client would speak, in lower case."""


# Server


def read_opening(head: bytes) -> Opening | None:
    """What an opening request asks for. `head` ends with the empty line.

    None if the request does not ask for WebSocket at all. Raises RefusalError for one that asks in the wrong way.
    """
    try:
        line, fields = read_head(head)
        method, target, version = line.split(b" ")
    except ValueError:
        return None
    if method != b"GET" or version != b"HTTP/1.1" or not has_token(fields, b"upgrade", b"websocket"):
        return None
    if not has_token(fields, b"connection", b"upgrade"):
        raise RefusalError(400, "an upgrade is named in the field Connection too")
    if b"host" not in fields:
        raise RefusalError(400, "a request of HTTP/1.1 must name its host")
    if fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields:
        raise RefusalError(400, "an opening request has no body")
    if fields.get(b"sec-websocket-version") != _VERSION:
        raise RefusalError(426, "the version known is 13", b"sec-websocket-version: %b\r\n" % _VERSION)
    key = fields.get(b"sec-websocket-key", b"")
    try:
        key_bytes = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        key_bytes = 0
    if key_bytes != _KEY_BYTES:
        raise RefusalError(400, "Sec-WebSocket-Key must be 16 bytes in Base64")
    if target[:7].lower() == b"http://":
        target = b"/" + target[7:].partition(b"/")[2]
    spoken = tokens(fields, b"sec-websocket-protocol") if b"sec-websocket-protocol" in fields else ()
    return Opening(target, key, fields.get(b"sec-websocket-extensions", b""), spoken)


def _agreement(extensions: bytes, subprotocol: str) -> bytes:
    """The fields that say what is offered, or agreed on."""
    offered = b"sec-websocket-extensions: %b\r\n" % extensions if extensions else b""
    return offered + (b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("ascii") if subprotocol else b"")


def encode_acceptance(key: bytes, extensions: bytes = b"", subprotocol: str = "") -> bytes:
    """The server's answer to an opening request with that key; then the connection speaks WebSocket."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%b\r\n" % (_accept(key), _agreement(extensions, subprotocol))
    )


# Client


def encode_opening(
    target: str, authority: str, nonce: bytes, extensions: bytes = b"", subprotocol: str = "", fields: bytes = b""
) -> bytes:
    """The opening request. `nonce` is 16 random bytes, `extensions` and `subprotocol` what is offered, `fields` further
    header lines, each ended by CRLF."""
    return (
        b"GET %b HTTP/1.1\r\nhost: %b\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-version: %b\r\nsec-websocket-key: %b\r\n%b%b\r\n"
        % (
            target.encode("ascii"),
            authority.encode("ascii"),
            _VERSION,
            base64.b64encode(nonce),
            _agreement(extensions, subprotocol),
            fields,
        )
    )


def read_acceptance(head: bytes, nonce: bytes, subprotocol: str = "") -> bytes:
    """The extensions that the server has agreed to, as its field says. `head` ends with the empty line.

    Raises ProtocolError, with the HTTP status as its code, if the server does not accept; and without one if it accepts
    what was not asked for (RFC 6455, section 4.1), or does not speak the subprotocol that was.
    """
    try:
        line, fields = read_head(head)
    except ValueError:
        raise ProtocolError("malformed answer to the opening request") from None
    found = re.fullmatch(rb"HTTP/1\.1 ([1-9][0-9]{2})(?: .*)?", line)
    if found is None:
        raise ProtocolError("an answer of another protocol to the opening request")
    if found[1] != b"101":
        raise ProtocolError(f"the server does not change to WebSocket: {line.decode('latin-1')}", int(found[1]))
    if not (has_token(fields, b"upgrade", b"websocket") and has_token(fields, b"connection", b"upgrade")):
        raise ProtocolError("the server changes to something other than WebSocket")
    if fields.get(b"sec-websocket-accept") != _accept(base64.b64encode(nonce)):
        raise ProtocolError("a wrong Sec-WebSocket-Accept")
    if fields.get(b"sec-websocket-protocol", b"") != subprotocol.encode("ascii"):
        wanted = f"does not speak the subprotocol {subprotocol}" if subprotocol else "chooses one, and none was offered"
        raise ProtocolError(f"the server {wanted}")
    return fields.get(b"sec-websocket-extensions", b"")


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
