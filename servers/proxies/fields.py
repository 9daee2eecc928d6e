"""Header fields on their way through an intermediary (RFC 9110, section 7.6.1): which are of one connection only."""

from bench.errors import ProtocolError

Fields = list[tuple[bytes, bytes]]
"""Names as they came, and values."""

OTHER, DROPPED, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, HOST, EXPECT = range(8)
"""What a name means to the proxy."""

_MEANINGS = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"host": HOST,
    b"expect": EXPECT,
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"proxy-authorization": DROPPED,  # it is for this proxy, which asks for none
    b"proxy-authenticate": DROPPED,
    b"te": DROPPED,
    b"trailer": DROPPED,  # trailers are not passed on (RFC 9110, section 6.5.1)
}
met: dict[bytes, int] = {}
"""What the spellings mean that were met before; the others are for `meaning`."""
_MAX_MET = 1024
_MAX_NAME_BYTES = 64


def meaning(name: bytes) -> int:
    """What a field of that name means, in whatever case it is spelled."""
    found = _MEANINGS.get(name.lower(), OTHER)
    if len(met) < _MAX_MET and len(name) <= _MAX_NAME_BYTES:
        met[name] = found
    return found


def tokens(value: bytes) -> list[bytes]:
    """The elements of a list, in lower case."""
    return [part.strip(b" \t").lower() for part in value.split(b",")]


def without(fields: Fields, names: list[bytes]) -> Fields:
    """The fields that a `connection` field does not name. Those that frame the message are no choice of the peer's."""
    if any(name in (b"host", b"content-length") for name in names):
        raise ProtocolError("a connection field that names host or content-length", 400)
    return [field for field in fields if field[0].lower() not in names]


def value_of(fields: Fields, name: bytes) -> bytes | None:
    """The value of the fields of that (lower-case) name, joined; None if there is none."""
    found = [value for key, value in fields if key.lower() == name]
    return b", ".join(found) if found else None
