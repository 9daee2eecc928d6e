"""What ClientHellos offer, against those that OpenSSL makes, in any pieces, and against noise."""

import random
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.wire.tls_hello import MAX_HELLO_BYTES, offered_protocols

NAMES = st.lists(st.text("abcdefgh/.12", min_size=1, max_size=255), max_size=20).map(tuple)


def hello(alpn: tuple[str, ...], server_name: str = "example.org") -> bytes:
    """A ClientHello as OpenSSL makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without reading the authorities of the system
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def fragmented(data: bytes, size: int) -> bytes:
    """The same message in records of that size."""
    body = data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(NAMES)
def test_all_names_are_found(alpn: tuple[str, ...]) -> None:
    assert offered_protocols(hello(alpn)) == alpn


@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1")])
@pytest.mark.parametrize("size", [1, 3, 50, 16384])
def test_no_piece_is_too_small(alpn: tuple[str, ...], size: int) -> None:
    whole = fragmented(hello(alpn), size)
    for end in range(len(whole)):
        assert offered_protocols(whole[:end]) is None
    assert offered_protocols(whole) == alpn
    assert offered_protocols(whole + b"what follows") == alpn


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # a ClientHello without anything in it
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02",  # as SSL 2.0 said hello
    ],
)
def test_what_is_no_hello_offers_nothing(data: bytes) -> None:
    assert offered_protocols(data) == ()


def test_a_hello_without_end_is_given_up() -> None:
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380)
    endless = record * (MAX_HELLO_BYTES // len(record) + 2)
    assert offered_protocols(endless) == ()
    assert offered_protocols(endless[: MAX_HELLO_BYTES // 2]) is None


def test_noise() -> None:
    chance = random.Random(5)
    good = hello(("h2",))
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        offered_protocols(bytes(data[: chance.randint(0, len(data))]))
        offered_protocols(chance.randbytes(chance.randint(0, 300)))
