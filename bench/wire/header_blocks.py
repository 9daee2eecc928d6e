"""Header blocks of HTTP/2 (HPACK, RFC 7541) and the rules for the fields in them (RFC 9113, section 8.2).

Most blocks of a connection are equal. One that leaves the dynamic table as it was means the same fields for as long as
the table stays as it is, so its meaning is worked out once and kept; a block that changes the table is worked out each
time, and makes all that was kept worthless.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from bench.errors import ProtocolError
from bench.wire.http2_frames import ErrorCode

MAX_TABLE_BYTES = HeaderTable.DEFAULT_SIZE
"""The largest dynamic table that either end keeps: the initial SETTINGS_HEADER_TABLE_SIZE."""

MAX_DECODED_BYTES = 128 * 1024
"""The longest list of fields that is decoded at all, each field counted with 32 bytes beside its own (RFC 7541, 4.1).
A block can name an entry of the dynamic table again and again, at one byte each time."""

_MAX_KEPT_BLOCKS = 256
_MAX_KEPT_BLOCK_BYTES = 256

Fields = Sequence[tuple[bytes, bytes]]
T = TypeVar("T")


def _newest(table: HeaderTable) -> object:
    """An object that is another one as soon as something was put into the table: its newest entry."""
    entries = table.dynamic_entries
    return entries[0] if entries else None


class HeaderReader(Generic[T]):
    """Decodes the blocks of one direction of a connection. `parse` makes of the fields what its user needs of them."""

    def __init__(self, parse: Callable[[Fields], T]) -> None:
        self._decoder = Decoder(MAX_DECODED_BYTES)
        self._parse = parse
        self._kept: dict[bytes, T] = {}
        self.stable = True
        """Whether the block read last left the dynamic table as it was."""

    def read(self, block: bytes) -> T:
        """What `parse` made of the block's fields. Raises ProtocolError; the connection is then of no further use."""
        parsed = self._kept.get(block)
        if parsed is not None:
            self.stable = True
            return parsed
        newest = _newest(self._decoder.header_table)
        try:
            fields = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise ProtocolError(f"a header list over {MAX_DECODED_BYTES} bytes", ErrorCode.ENHANCE_YOUR_CALM) from None
        except HPACKError as error:
            raise ProtocolError(f"malformed header block: {error}", ErrorCode.COMPRESSION_ERROR) from None
        parsed = self._parse(fields)  # type: ignore[arg-type]  # with raw=True the fields are tuples of bytes
        resizes = block[:1] and block[0] & 0xE0 == 0x20  # a dynamic table size update (RFC 7541, section 6.3)
        self.stable = not resizes and _newest(self._decoder.header_table) is newest
        if not self.stable:
            self._kept.clear()
        elif len(block) <= _MAX_KEPT_BLOCK_BYTES and len(self._kept) < _MAX_KEPT_BLOCKS:
            self._kept[block] = parsed
        return parsed


class HeaderWriter:
    """Encodes the blocks of one direction of a connection."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self.version = 0
        """Grows with each change of the dynamic table. A block may be sent again if `encode` did not raise the version,
        and as long as it stays what it was."""

    def encode(self, fields: Iterable[tuple[bytes, bytes] | tuple[bytes, bytes, bool]]) -> bytes:
        """The block of these fields. A third member, True, keeps a field out of the dynamic table."""
        table = self._encoder.header_table
        newest, resized = _newest(table), table.resized
        block = self._encoder.encode(fields)
        if resized or _newest(table) is not newest:
            self.version += 1
        return block

    def limit_table(self, size_bytes: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE."""
        encoder = self._encoder
        size_bytes = min(size_bytes, MAX_TABLE_BYTES)
        if size_bytes != encoder.header_table_size:
            encoder.header_table_size = size_bytes
            # Of the changes between two blocks, the smallest and the last one are told (RFC 7541, section 4.2); others
            # may be larger than what is allowed by now.
            smallest = min(encoder.table_size_changes)
            encoder.table_size_changes = [smallest] if smallest == size_bytes else [smallest, size_bytes]
            self.version += 1


def literal(name_index: int, value: bytes) -> bytes:
    """A field that stays out of the dynamic table (RFC 7541, section 6.2.2), its name given by a static index of 15 to
    141 and its value shorter than 127 bytes."""
    return b"%c%c%c%b" % (0x0F, name_index - 15, len(value), value)


CONTENT_LENGTH_INDEX = 28
"""Where the static table has content-length (RFC 7541, appendix A). The field varies too much to earn a place in the
dynamic table."""


class MalformedError(Exception):
    """The fields of a message break the rules: the stream is to be reset with PROTOCOL_ERROR (section 8.1.1)."""


_NAME = re.compile(rb"[!-9;-@\[-~]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_OF_CONNECTIONS = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Head:
    """Fields that were found to be in order: pseudo-header fields apart, without their colon."""

    __slots__ = ("content_length", "fields", "pseudo")

    def __init__(self, fields: Fields) -> None:
        """Raises MalformedError (sections 8.2 and 8.3)."""
        self.pseudo: dict[bytes, bytes] = {}
        self.fields: list[tuple[bytes, bytes]] = []
        self.content_length: int | None = None
        for name, value in fields:
            if _BAD_VALUE.search(value):
                raise MalformedError(f"the value of {name!r}")
            if name[:1] == b":":
                if self.fields or name[1:] in self.pseudo:
                    raise MalformedError(f"{name!r} where it must not be")
                self.pseudo[name[1:]] = value
            else:
                self._add(name, value)

    def _add(self, name: bytes, value: bytes) -> None:
        if not _NAME.fullmatch(name) or name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            raise MalformedError(f"a field that HTTP/2 does not allow: {name!r}")
        if name == b"content-length":
            if self.content_length is not None or not _LENGTH.fullmatch(value):
                raise MalformedError("content-length")
            self.content_length = int(value)
        self.fields.append((name, value))
