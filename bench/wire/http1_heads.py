"""The head of one message of HTTP/1.1 (RFC 9112), read in one piece: for connections that change to another
protocol by it (RFC 9110, section 7.8), where the bytes behind the head are no parser of HTTP/1.1's to touch."""

import re
from typing import Final

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_END: Final = b"\r\n\r\n"

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")

Fields = dict[bytes, bytes]
"""Field values by lower-case name; those of one name joined by commas (RFC 9110, section 5.3)."""


def read_head(head: bytes) -> tuple[bytes, Fields]:
    """The first line and the fields. `head` ends with the empty line. Raises ValueError for what is none."""
    line, *lines = head[: -len(HEAD_END)].split(b"\r\n")
    fields: Fields = {}
    for text in lines:
        found = _FIELD.fullmatch(text)
        if found is None:
            raise ValueError
        name, value = found[1].lower(), found[2].rstrip(b" \t")
        fields[name] = b"%b, %b" % (fields[name], value) if name in fields else value
    return line, fields


def tokens(fields: Fields, name: bytes) -> list[bytes]:
    """The elements of a field that is a list, in lower case."""
    return [part.strip(b" \t").lower() for part in fields.get(name, b"").split(b",")]


def has_token(fields: Fields, name: bytes, token: bytes) -> bool:
    """Whether a field is a list that holds a token, in any case."""
    return token in tokens(fields, name)
