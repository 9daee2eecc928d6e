"""Requests and answers as field sections (RFC 9113, section 8; RFC 9114, section 4): what HTTP/2 and HTTP/3 share."""

import re
from typing import TYPE_CHECKING

from bench.wire.header_blocks import Fields, Head, MalformedError
from servers.proxies.exchange import Downstream, Exchange

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

MAX_SECTION_BYTES = 32 * 1024
"""The longest section that is asked for, each field counted with 32 bytes beside its own."""

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_VISIBLE = re.compile(rb"[!-~]{1,8192}")
_PSEUDO = {b"method", b"scheme", b"authority", b"path"}


def read_head(fields: Fields) -> Head | None:
    """What a field section means; None if it breaks the rules."""
    try:
        return Head(fields)
    except MalformedError:
        return None


def is_request(head: Head) -> bool:
    """Whether the pseudo-header fields are those of a request (RFC 9113, section 8.3.1), fit for a request line too."""
    pseudo = head.pseudo
    if not (pseudo.keys() <= _PSEUDO and _METHOD.fullmatch(pseudo.get(b"method", b""))):
        return False
    if not all(_VISIBLE.fullmatch(value) for name, value in pseudo.items() if name != b"authority" or value):
        return False
    hosts = [value for name, value in head.fields if name == b"host"]
    if len(hosts) > 1 or (hosts and hosts[0] != pseudo.get(b"authority", hosts[0])):
        return False
    if pseudo[b"method"] == b"CONNECT":
        return b"authority" in pseudo and b"path" not in pseudo
    path = pseudo.get(b"path", b"")
    return b"scheme" in pseudo and (path[:1] == b"/" or path == b"*")


def status_of(head: Head) -> int | None:
    """The status of an answer's head (RFC 9113, section 8.3.2); None if the head is none that an answer may have."""
    status = head.pseudo.get(b"status", b"")
    if len(head.pseudo) != 1 or len(status) != 3 or not status.isdigit() or status < b"100" or status == b"101":
        return None
    return int(status)


def exchange_of(proxy: "Layer7", down: Downstream, head: Head, has_body: bool, stream: int) -> Exchange:
    """The exchange that a request's section begins."""
    pseudo = head.pseudo
    authority = pseudo.get(b"authority", b"")
    fields, cookies = [], []
    for name, value in head.fields:
        if name == b"host":
            authority = authority or value
        elif name == b"cookie":
            cookies.append(value)  # which may come in pieces (RFC 9113, section 8.2.3)
        elif name != b"te" or proxy.spec.upstream_http != "1.1":
            fields.append((name, value))
    if cookies:
        fields.append((b"cookie", b"; ".join(cookies)))
    fields.insert(0, (b"host", authority))
    target = pseudo.get(b"path", authority)
    return Exchange(
        proxy, down, pseudo[b"method"], target, authority, fields, head.content_length, has_body, None, stream
    )


def request_section(exchange: Exchange, is_secure: bool, via: bytes) -> list[tuple[bytes, bytes]]:
    """What an upstream is sent of a request."""
    return [
        (b":method", exchange.method),
        (b":scheme", b"https" if is_secure else b"http"),
        (b":authority", exchange.authority),
        (b":path", exchange.target),
        *lower(exchange.fields),
        (b"via", via),
    ]


def answer_section(status: int, fields: Fields, via: bytes) -> list[tuple[bytes, bytes]]:
    """What a client is sent of an answer."""
    return [(b":status", b"%d" % status), *lower(fields), (b"via", via)]


def refusal(status: int, message: str, via: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The section of an answer of the proxy's own, and its body."""
    body = message.encode() + b"\n"
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    return answer_section(status, fields, via), body


def lower(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Fields with names as these versions have them, without the one that is a pseudo-header field there."""
    return [(name.lower(), value) for name, value in fields if name.lower() != b"host"]
