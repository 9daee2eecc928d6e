"""Compression of WebSocket messages: the extension permessage-deflate (RFC 7692), without I/O.

Compressors and decompressors are made when the first message needs them: a connection at rest has none.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.errors import ProtocolError

OFFER: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""What a client offers whose messages are each compressed on their own, so that equal messages are equal frames."""

WINDOW_BITS: Final = 12
"""What a server agrees to at most: a window of 4 KiB for each direction. 15 bits cost 300 KiB for each connection."""

_NAME: Final = "permessage-deflate"
_MAX_BITS: Final = 15
_MIN_BITS: Final = 8
_MIN_DEFLATE_BITS: Final = 9
"""What zlib can compress with; it decompresses what was made with 8."""
_MEMORY_LEVEL: Final = 5
_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of a flush, which is left out of each message (RFC 7692, section 7.2.1)."""

_INVALID_PAYLOAD: Final = 1007
_MANDATORY_EXTENSION: Final = 1010

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN})(?:\s*=\s*(?:({_TOKEN})|"({_TOKEN})"))?')
_EXTENSION = re.compile(rf"[\s,]*({_TOKEN})((?:{_PARAMETER.pattern})*)\s*(?:,|$)")


class Agreement(NamedTuple):
    """What both ends have agreed on (RFC 7692, section 7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = _MAX_BITS
    client_max_window_bits: int = _MAX_BITS

    def encode(self) -> bytes:
        """The agreement as the server's field Sec-WebSocket-Extensions."""
        parts = [_NAME]
        for name, value in self._asdict().items():
            if value is True:
                parts.append(name)
            elif value and value < _MAX_BITS:
                parts.append(f"{name}={value}")
        return "; ".join(parts).encode()


def accept_offer(field: bytes) -> Agreement | None:
    """What a server agrees to: the first offer in a client's field Sec-WebSocket-Extensions that it can meet.

    Raises ProtocolError 400 for a field that is malformed.
    """
    for name, parameters in _extensions(field, 400):
        if name == _NAME and parameters is not None and (agreement := _accept(parameters)) is not None:
            return agreement
    return None


def _accept(offer: dict[str, str]) -> Agreement | None:
    bits = {}
    for name, value in offer.items():
        if name.endswith("_max_window_bits"):
            # Only the client's window may be named without a size: the client can be told one.
            known = str(_MAX_BITS) if value == "" and name.startswith("client") else value
            if (size := _window_bits(known)) is None:
                return None
            bits[name] = size
        elif value != "" or name not in Agreement._fields:
            return None
    server_bits = min(bits.get("server_max_window_bits", _MAX_BITS), WINDOW_BITS)
    if server_bits < _MIN_DEFLATE_BITS:
        return None
    client_bits = bits.get("client_max_window_bits")
    return Agreement(
        "server_no_context_takeover" in offer,
        "client_no_context_takeover" in offer,
        server_bits,
        _MAX_BITS if client_bits is None else min(client_bits, WINDOW_BITS),
    )


def read_answer(field: bytes) -> Agreement:
    """What the server has agreed to, if it was offered OFFER.

    Raises ProtocolError 1010 for an answer that was not offered, or lacks what was asked for.
    """
    found = list(_extensions(field, _MANDATORY_EXTENSION))
    name, answer = found[0] if len(found) == 1 else ("", None)
    if name != _NAME or answer is None:
        raise ProtocolError("the server answers with an extension that was not offered", _MANDATORY_EXTENSION)
    server_bits: int | None = _MAX_BITS
    for parameter, value in answer.items():
        if parameter == "server_max_window_bits":
            server_bits = _window_bits(value)
        elif value != "" or not parameter.endswith("_no_context_takeover") or parameter not in Agreement._fields:
            server_bits = None
    if server_bits is None or "server_no_context_takeover" not in answer:
        raise ProtocolError(f"the server answers {_NAME} with parameters that were not offered", _MANDATORY_EXTENSION)
    return Agreement(True, True, server_bits, _MAX_BITS)


def _window_bits(value: str) -> int | None:
    """The size of a window as an exponent of two (RFC 7692, section 7.1.2); None for what is none."""
    if re.fullmatch("[1-9][0-9]?", value) and _MIN_BITS <= int(value) <= _MAX_BITS:
        return int(value)
    return None


def _extensions(field: bytes, error_code: int) -> Iterator[tuple[str, dict[str, str] | None]]:
    """Names with their parameters; None for parameters where one is there twice."""
    text = field.decode("latin-1").strip(" \t,")
    at = 0
    while at < len(text):
        found = _EXTENSION.match(text, at)
        if found is None:
            raise ProtocolError("malformed Sec-WebSocket-Extensions", error_code)
        pairs = [(name, token or quoted or "") for name, token, quoted in _PARAMETER.findall(found[2])]
        parameters = dict(pairs)
        yield found[1], parameters if len(parameters) == len(pairs) else None
        at = found.end()


class Deflate:
    """Compresses messages."""

    __slots__ = ("_bits", "_compressor", "_takeover")

    def __init__(self, window_bits: int, no_context_takeover: bool) -> None:
        self._bits = window_bits
        self._takeover = not no_context_takeover
        self._compressor: zlib._Compress | None = None

    def compress(self, message: bytes) -> bytes:
        """A message's payload as it is sent, in frames whose first has RSV1 set."""
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(wbits=-self._bits, memLevel=_MEMORY_LEVEL)
            if self._takeover:
                self._compressor = compressor
        data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)]


class Inflate:
    """Decompresses messages, each in pieces."""

    __slots__ = ("_bits", "_decompressor", "_takeover")

    def __init__(self, window_bits: int, no_context_takeover: bool) -> None:
        self._bits = window_bits
        self._takeover = not no_context_takeover
        self._decompressor: zlib._Decompress | None = None

    def feed(self, data: bytes, limit_bytes: int) -> bytes:
        """What a piece of a payload decompresses to: at most `limit_bytes` + 1 bytes, which is one too many.

        Raises ProtocolError 1007 for what is not compressed data.
        """
        found = b""
        while data and len(found) <= limit_bytes:
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = zlib.decompressobj(-self._bits)
            try:
                found += decompressor.decompress(data, limit_bytes + 1 - len(found))
            except zlib.error:
                raise ProtocolError("a message is not compressed as agreed", _INVALID_PAYLOAD) from None
            data = b""
            if decompressor.eof:  # a block with BFINAL set (RFC 7692, section 7.2.3.4)
                data = decompressor.unused_data
                self._decompressor = None
        return found

    def finish(self, limit_bytes: int) -> bytes:
        """What is left of a message whose payload has come in full."""
        found = self.feed(_TAIL, limit_bytes)
        if not self._takeover:
            self._decompressor = None
        return found
