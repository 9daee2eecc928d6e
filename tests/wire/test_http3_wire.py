"""The parts of HTTP/3 that need no connection, against aioquic's own where it has them."""

import contextlib

import pylsqpack
import pytest
from aioquic.buffer import Buffer
from aioquic.h3.connection import encode_frame as oracle_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.http3 import BlockReader, ErrorCode, Frame, MessageReader, encode_block, encode_frame
from bench.wire.quic_varint import encode_varint, read_varint


@settings(derandomize=True)
@given(st.integers(0, (1 << 62) - 1), st.binary(max_size=3))
def test_variable_length_integers(value: int, before: bytes) -> None:
    buffer = Buffer(capacity=8)
    buffer.push_uint_var(value)
    encoded = encode_varint(value)
    assert encoded == buffer.data
    assert read_varint(before + encoded + b"\xff", len(before)) == (value, len(before) + len(encoded))
    for size in range(len(encoded)):
        with pytest.raises(IndexError):
            read_varint(encoded[:size], 0)


@settings(derandomize=True)
@given(st.sampled_from([0, 1, 4, 7, 0x21, 0x4141]), st.binary(max_size=100))
def test_frames(kind: int, payload: bytes) -> None:
    assert encode_frame(kind, payload) == oracle_frame(kind, payload)


FIELDS = [(b":method", b"POST"), (b":path", b"/echo"), (b":scheme", b"https"), (b"x-mine", b"\xff\x00 y")]


def test_blocks_are_read_by_another_decoder_and_the_other_way_round() -> None:
    assert pylsqpack.Decoder(0, 0).feed_header(0, encode_block(FIELDS))[1] == FIELDS
    seen = []
    reader = BlockReader(lambda fields: seen.append(fields) or len(seen))  # type: ignore[func-returns-value]  # None
    assert [reader.read(encode_block(FIELDS)) for _ in range(3)] == [1, 1, 1]  # worked out once
    assert seen == [FIELDS]


def test_a_block_that_failed_leaves_the_reader_as_it_was() -> None:
    reader = BlockReader(list)
    for _ in range(3):
        with pytest.raises(ProtocolError) as raised:
            reader.read(b"\x02\x00\x80")
        assert raised.value.code == ErrorCode.QPACK_DECOMPRESSION_FAILED
        assert reader.read(encode_block(FIELDS)) == FIELDS


def parts_of(reader: MessageReader) -> list[tuple[bool, bytes]]:
    parts = []
    while (part := reader.next()) is not None:
        parts.append(part)
    return parts


@settings(derandomize=True, max_examples=200)
@given(
    st.lists(st.binary(max_size=80), max_size=4),
    st.booleans(),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_messages_cut_anywhere(pieces: list[bytes], trailers: bool, cuts: list[int]) -> None:
    grease = encode_frame(0x21, b"whatever")
    stream = grease + encode_frame(Frame.HEADERS, b"head")
    for piece in pieces:
        stream += encode_frame(Frame.DATA, piece) + grease
    if trailers:
        stream += encode_frame(Frame.HEADERS, b"trailers") + grease
    reader = MessageReader(is_answer=False)
    parts: list[tuple[bool, bytes]] = []
    at = 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        reader.feed(stream[at : at + size])
        parts += parts_of(reader)
        at += size
    reader.end()
    blocks = [data for is_head, data in parts if is_head]
    assert blocks == [b"head"] + [b"trailers"] * trailers
    assert b"".join(data for is_head, data in parts if not is_head) == b"".join(pieces)
    assert reader.received_bytes == sum(map(len, pieces))
    assert reader.has_trailers == trailers


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.binary(max_size=30), max_size=5))
def test_noise_is_read_or_refused(pieces: list[bytes]) -> None:
    reader = MessageReader(is_answer=True)
    with contextlib.suppress(ProtocolError):
        for piece in pieces:
            reader.feed(piece)
            parts_of(reader)
        reader.end()
