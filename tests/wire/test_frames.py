"""The frames of raw TCP and UDP, against a decoder written from the page that documents them."""

import random
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.frames import (
    FATAL,
    ID,
    MAX_DATAGRAM_PAYLOAD_BYTES,
    MORE,
    FrameReader,
    FrameShape,
    decode_datagram,
    encode_frame,
    frame_ids,
)

Frame = tuple[int, int, int, int, bytes, bytes]
"""Flags, code, a, b, id, payload."""

u32 = st.integers(0, 2**32 - 1)
frames = st.tuples(
    st.sampled_from([0, MORE, FATAL, MORE | FATAL]),
    st.integers(0, 2**16 - 1),
    u32,
    u32,
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=300),
)


def encode(frame: Frame) -> bytes:
    flags, code, a, b, frame_id, payload = frame
    return encode_frame(code, frame_id, payload, a, b, flags)


def decode_as_documented(data: bytes) -> list[Frame]:
    """Whole frames only; nothing of the module under test."""
    found = []
    while data:
        assert data[0] == 0x57
        assert data[1] >> 4 == 1
        code, length = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        a, b = int.from_bytes(data[8:12], "big"), int.from_bytes(data[12:16], "big")
        assert len(data) >= 20 + length
        found.append((data[1] & 15, code, a, b, data[16:20], data[20 : 20 + length]))
        data = data[20 + length :]
    return found


class Recorder(FrameReader):
    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self._payload: list[bytes] = []

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        self._header = (flags, code, a, b, frame_id)
        self._payload = []

    def payload_received(self, data: bytes) -> None:
        self._payload.append(data)

    def frame_received(self) -> None:
        self.frames.append((*self._header, b"".join(self._payload)))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def test_a_frame_is_what_the_page_says() -> None:
    echo = encode_frame(1, bytes([0, 0, 0, 7]), b"hi")
    assert echo.hex(" ") == "57 10 00 01 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00 07 68 69"
    piece = encode_frame(200, b"\xff\xfe\xfd\xfc", b"", 1, 2, MORE)
    assert piece.hex(" ") == "57 11 00 c8 00 00 00 00 00 00 00 01 00 00 00 02 ff fe fd fc"


@settings(derandomize=True, deadline=None)
@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 10**6), max_size=30))
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    assert decode_as_documented(data) == sent
    reader = Recorder()
    for piece in split(data, cuts):
        reader.parse(piece)
    assert reader.frames == sent
    assert not reader.mid_frame


@settings(derandomize=True, deadline=None)
@given(frames, st.integers(1, 10**6))
def test_a_reader_knows_that_it_is_inside_a_frame(frame: Frame, cut: int) -> None:
    data = encode(frame)
    reader = Recorder()
    first = data[: 1 + cut % (len(data) - 1)]
    reader.parse(first)
    assert reader.mid_frame == (len(first) < len(data))


def refusal(parse: Callable[[bytes], object], pieces: list[bytes]) -> int | None:
    """The code of the ProtocolError that parsing ends with; None if it ends well."""
    try:
        for piece in pieces:
            parse(piece)
    except ProtocolError as error:
        return error.code
    return None


@pytest.mark.parametrize("seed", range(8))
def test_nothing_but_protocol_errors_comes_out_of_garbage(seed: int) -> None:
    random_ = random.Random(seed)
    refusals = []
    for _ in range(400):
        data = bytearray(encode((0, 1, 0, 0, b"abcd", random_.randbytes(random_.randrange(40)))) * 3)
        for _ in range(random_.randrange(1, 6)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        if random_.random() < 0.2:
            data = bytearray(random_.randbytes(60))
        pieces = split(bytes(data), [random_.randrange(200) for _ in range(4)])
        refusals.append(refusal(Recorder().parse, pieces))
        assert refusal(decode_datagram, [bytes(data)]) == 400  # three frames, or none, are not one
    assert set(refusals) == {None, 400, 413}


def test_garbage_is_refused_at_its_first_byte() -> None:
    with pytest.raises(ProtocolError):
        Recorder().parse(b"G")


@pytest.mark.parametrize("start", [b"\x57\x20", b"\x57\x00", b"\x57\x14", b"\x57\x18", b"\x56\x10"])
def test_another_magic_version_or_flag_is_refused(start: bytes) -> None:
    frame = start + encode_frame(1, b"abcd", b"x")[2:]
    with pytest.raises(ProtocolError):
        Recorder().parse(frame)
    with pytest.raises(ProtocolError):
        decode_datagram(frame)


def test_the_longest_payload_passes_and_one_byte_more_does_not() -> None:
    reader = Recorder()
    reader.parse(encode_frame(1, b"abcd", b"")[:4] + MAX_BODY_BYTES.to_bytes(4, "big") + bytes(8) + b"abcd")
    block = bytes(1 << 20)
    for _ in range(MAX_BODY_BYTES // len(block)):
        assert reader.mid_frame
        reader.parse(block)
    assert not reader.mid_frame
    assert len(reader.frames[0][5]) == MAX_BODY_BYTES
    with pytest.raises(ProtocolError) as caught:
        reader.parse(encode_frame(1, b"abcd", b"")[:4] + (MAX_BODY_BYTES + 1).to_bytes(4, "big") + bytes(12))
    assert caught.value.code == 413


@settings(derandomize=True, deadline=None)
@given(frames.map(lambda frame: (0, *frame[1:])), st.integers(-30, 30))
def test_a_datagram_is_one_whole_frame(frame: Frame, off: int) -> None:
    data = encode(frame)
    assert decode_datagram(data) == frame[1:]
    wrong = data[:off] if off < 0 else data + bytes(off)
    if len(wrong) != len(data):
        with pytest.raises(ProtocolError):
            decode_datagram(wrong)


def test_a_datagram_of_the_largest_payload_fits_into_udp() -> None:
    assert len(encode_frame(1, b"abcd", bytes(MAX_DATAGRAM_PAYLOAD_BYTES))) == 65535 - 20 - 8


@settings(derandomize=True, deadline=None)
@given(frames, st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=20))
def test_frames_of_one_shape_are_made_and_known_again(frame: Frame, ids: list[bytes]) -> None:
    _, code, a, b, _, payload = frame
    shape = FrameShape(code, payload, a, b)
    data = shape.encode(ids)
    assert decode_as_documented(data) == [(0, code, a, b, frame_id, payload) for frame_id in ids]
    assert shape.match(data) == ids
    assert ids[0].join(shape.around) == data[: shape.frame_bytes]
    assert data[ID] == ids[0]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.binary(max_size=40),
    st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.integers(1, 255),
)
def test_a_shape_matches_only_what_a_decoder_would_find(payload: bytes, ids: list[bytes], at: int, flip: int) -> None:
    shape = FrameShape(200, payload)
    data = bytearray(shape.encode(ids))
    data[at % len(data)] ^= flip
    offset = at % len(data) % (20 + len(payload))
    matched = shape.match(bytes(data))
    if 16 <= offset < 20:
        assert matched == [frame_id for *_, frame_id, _ in decode_as_documented(bytes(data))]
    else:
        assert matched is None


@pytest.mark.parametrize("data", [b"", b"\x57", bytes(19), bytes(24), encode_frame(200, b"abcd", b"body")[:-1]])
def test_a_shape_does_not_match_what_is_no_frame(data: bytes) -> None:
    assert not FrameShape(200, b"body").match(data)


def test_ids_are_distinct() -> None:
    ids = list(islice(frame_ids(), 70_000))
    assert len(set(ids)) == 70_000
    assert all(len(frame_id) == 4 for frame_id in ids)
