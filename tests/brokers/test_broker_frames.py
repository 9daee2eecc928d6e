"""The frames of the embedded broker, in whatever pieces they come."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contract import MAX_BODY_BYTES
from bench.errors import ProtocolError
from bench.wire.broker_frames import (
    Frame,
    FrameReader,
    Kind,
    Reason,
    decode_batch,
    decode_deliveries,
    decode_numbers,
    decode_publish,
    decode_refusal,
    encode_batch,
    encode_deliveries,
    encode_frame,
    encode_numbers,
    encode_publish,
    encode_refusal,
)

TOKENS = st.integers(0, 2**32 - 1)
BODIES = st.lists(st.binary(max_size=300), max_size=20)
FRAMES = st.lists(st.tuples(st.sampled_from(Kind), TOKENS, st.binary(max_size=300)), max_size=10)


def body(frame: bytes) -> bytes:
    """The payload of a whole frame."""
    ((_, _, payload),) = FrameReader().feed(frame)
    return payload


@given(FRAMES, st.lists(st.integers(0, 3000), max_size=20))
def test_frames_survive_any_chunking(frames: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(*frame) for frame in frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    found: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        found += reader.feed(stream[start:end])
    assert found == frames


@given(BODIES)
def test_a_batch_survives(bodies: list[bytes]) -> None:
    assert decode_batch(encode_batch(bodies)) == bodies


@given(TOKENS, st.text(st.characters(codec="utf-8"), max_size=50), BODIES)
def test_a_publish_survives(token: int, topic: str, bodies: list[bytes]) -> None:
    assert decode_publish(body(encode_publish(token, topic, bodies))) == (topic, bodies)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 1000), st.binary(max_size=50)), max_size=20))
def test_deliveries_survive(entries: list[tuple[int, int, bytes]]) -> None:
    columns = [[entry[at] for entry in entries] for at in range(3)]
    found = decode_deliveries(encode_deliveries(*columns))  # type: ignore[arg-type]
    assert found == [(number, min(times, 255), body) for number, times, body in entries]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.sampled_from([Kind.ACK, Kind.RETURN, Kind.BURY]))
def test_numbers_survive(numbers: list[int], kind: Kind) -> None:
    assert list(decode_numbers(body(encode_numbers(kind, 1, numbers)))) == numbers


def test_a_refusal_survives() -> None:
    assert decode_refusal(body(encode_refusal(7, Reason.STORE_FAILED, "full"))) == (Reason.STORE_FAILED, "full")


@given(st.binary(max_size=60))
def test_garbage_is_a_protocol_error_and_nothing_else(data: bytes) -> None:
    for decode in (decode_batch, decode_publish, decode_deliveries, decode_numbers, decode_refusal, FrameReader().feed):
        with contextlib.suppress(ProtocolError):
            decode(data)


def test_a_payload_that_is_too_long_is_refused_at_its_header() -> None:
    header = (MAX_BODY_BYTES + 1).to_bytes(4, "big") + bytes(5)
    with pytest.raises(ProtocolError, match="longer than"):
        FrameReader().feed(header)
