"""The variable-length integers of QUIC and HTTP/3 (RFC 9000, section 16)."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The variable-length integer at a place, and the place after it. Raises IndexError."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    end = at + (1 << (first >> 6))
    if end > len(data):
        raise IndexError
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end


def encode_varint(value: int) -> bytes:
    """A number below 2^62 as a variable-length integer of the shortest form."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
