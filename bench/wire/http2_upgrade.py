"""How a connection of HTTP/1.1 becomes one of HTTP/2 (RFC 7540, section 3.2), both sides, without I/O. RFC 9113 has
dropped it (section 3.1), since nearly nobody used it; it tells clients to know beforehand, or to ask by ALPN.

A request says `Upgrade: h2c`, with the payload of a SETTINGS frame in the field HTTP2-Settings. The server answers 101,
then speaks HTTP/2: its first frame is SETTINGS, and the request is stream 1, complete on the client's side.
"""

import base64
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from bench.errors import ProtocolError
from bench.wire.http1_heads import has_token, read_head, tokens
from bench.wire.http2_frames import HEAD_BYTES, PREFACE, Setting, encode_settings

PREFACE_HEAD: Final = PREFACE[:18]
"""What the preface of a client that knows beforehand looks like to HTTP/1.1: a whole head (section 3.5)."""

SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"

_SETTINGS = re.compile(rb"(?:[A-Za-z0-9_-]{8})*")
"""A setting is 6 bytes, which base64url makes 8 characters of: it never needs padding, nor leaves bits over."""

_STATUS = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2})(?: .*)?")

_OF_CONNECTIONS = {b"connection", b"host", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}
"""Fields of HTTP/1.1 that a request does not take to HTTP/2 (RFC 9113, section 8.2.2), or has there in another form."""


class Upgrade(NamedTuple):
    """A request that asks for HTTP/2."""

    settings: bytes
    """The payload of a SETTINGS frame."""
    fields: list[tuple[bytes, bytes]]
    """The request as HTTP/2 has it."""


def read_upgrade(head: bytes) -> Upgrade | None:
    """What a request asks for. `head` ends with the empty line.

    None for requests that do not ask for HTTP/2, or not in the right way, or that have a body, which would hold
    everything up: they are to be answered in HTTP/1.1, as if they had not asked (sections 3.2 and 3.2.1).
    """
    try:
        line, fields = read_head(head)
        method, target, version = line.split(b" ")
    except ValueError:
        return None
    named = tokens(fields, b"connection")
    settings = fields.get(b"http2-settings")
    if version != b"HTTP/1.1" or settings is None or not has_token(fields, b"upgrade", b"h2c"):
        return None
    # A field that came twice has a comma in it by now.
    if not {b"upgrade", b"http2-settings"}.issubset(named) or _SETTINGS.fullmatch(settings) is None:
        return None
    if fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields:
        return None
    authority = fields.get(b"host")
    if authority is None or b"," in authority:
        return None
    if target[:7].lower() == b"http://":
        authority, _, path = target[7:].partition(b"/")
        target = b"/" + path
    if not (target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*")):
        return None
    dropped = _OF_CONNECTIONS.union(named)
    return Upgrade(
        base64.urlsafe_b64decode(settings),
        [
            (b":method", method),
            (b":scheme", b"http"),
            (b":authority", authority),
            (b":path", target),
            *((name, value) for name, value in fields.items() if name not in dropped),
        ],
    )


def encode_upgrade(method: str, target: str, authority: str, settings: Mapping[Setting, int]) -> bytes:
    """A request without a body that asks for HTTP/2."""
    payload = encode_settings(settings)[HEAD_BYTES:]
    return (
        b"%b %b HTTP/1.1\r\nhost: %b\r\n"
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: %b\r\n\r\n"
        % (method.encode("ascii"), target.encode("ascii"), authority.encode("ascii"), base64.urlsafe_b64encode(payload))
    )


def read_switch(head: bytes) -> bool:
    """Whether an answer is the change to HTTP/2; if not, it is an interim one, and another follows. `head` ends with
    the empty line.

    Raises ProtocolError, with the HTTP status as its code, if the server does not change.
    """
    try:
        line, fields = read_head(head)
    except ValueError:
        raise ProtocolError("malformed answer to the request for an upgrade") from None
    found = _STATUS.fullmatch(line)
    if found is None:
        raise ProtocolError("an answer of another protocol to the request for an upgrade")
    status = int(found[1])
    if status >= 200:
        raise ProtocolError(f"the server does not change to HTTP/2: {line.decode('latin-1')}", status)
    if status != 101:
        return False
    if not (has_token(fields, b"upgrade", b"h2c") and has_token(fields, b"connection", b"upgrade")):
        raise ProtocolError("the server changes to something other than HTTP/2")
    return True
