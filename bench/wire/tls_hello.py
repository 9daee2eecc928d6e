"""What a client's first TLS message offers by ALPN (RFC 7301), seen before TLS itself answers it.

Python's ssl selects a protocol, but goes on without one where none of those offered is spoken here; the RFC wants that
connection refused (section 3.2).
"""

from collections.abc import Iterator

NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""The fatal alert of that name, as it is sent in answer to a first message: before there are keys."""

MAX_HELLO_BYTES = 1 << 17
"""Where looking for the end of the message is given up."""

_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_RECORD_HEAD_BYTES, _MESSAGE_HEAD_BYTES = 5, 4
_FIXED_BYTES = 34  # version and random


def offered_protocols(data: bytes) -> tuple[str, ...] | None:
    """The names that the bytes of a stream begin by offering; None if it takes more bytes to tell.

    Empty if there are none, and for what is no ClientHello (RFC 8446, section 4.1.2): TLS will say what is wrong.
    """
    message = bytearray()
    at = 0
    while len(message) < _MESSAGE_HEAD_BYTES or len(message) < _MESSAGE_HEAD_BYTES + _number(message[1:4]):
        if (at < len(data) and data[at] != _HANDSHAKE) or at > MAX_HELLO_BYTES:
            return ()
        body_at = at + _RECORD_HEAD_BYTES
        at = body_at + _number(data[at + 3 : body_at])
        if len(data) < max(at, body_at):
            return None
        if at == body_at:
            return ()  # an empty record
        message += data[body_at:at]
    if message[0] != _CLIENT_HELLO:
        return ()
    try:
        return tuple(name.decode("latin-1") for name in _protocols(bytes(message)))
    except IndexError:
        return ()


def _protocols(hello: bytes) -> Iterator[bytes]:
    rest = hello[_MESSAGE_HEAD_BYTES + _FIXED_BYTES :]
    for length_bytes in (1, 2, 1):  # session, cipher suites, compression methods
        _, rest = _vector(rest, length_bytes)
    extensions, _ = _vector(rest, 2) if rest else (b"", b"")
    while extensions:
        kind = _number(extensions[:2])
        body, extensions = _vector(extensions[2:], 2)
        if kind == _ALPN:
            names, _ = _vector(body, 2)
            while names:
                name, names = _vector(names, 1)
                yield name


def _vector(data: bytes, length_bytes: int) -> tuple[bytes, bytes]:
    """What a length in front says, and the rest. Raises IndexError if it is not all there."""
    end = length_bytes + _number(data[:length_bytes])
    if len(data) < end:
        raise IndexError
    return data[length_bytes:end], data[end:]


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "big")
