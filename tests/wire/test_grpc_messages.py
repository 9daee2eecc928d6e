"""gRPC's messages, deadlines and texts, and the protobuf form known by heart, against protobuf and gzip themselves."""

import gzip
from itertools import pairwise

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.wire import grpc_messages
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import (
    MAX_MESSAGE_BYTES,
    MessageReader,
    Status,
    StatusError,
    decode_payload,
    decode_timeout,
    encode_payload,
    encode_timeout,
    frame_message,
    pack,
    percent_decode,
    percent_encode,
    unpack,
)

MESSAGES = st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=6)


def refused(status: Status, data: bytes, gzip: bool = True) -> None:
    with pytest.raises(StatusError) as raised:
        MessageReader(gzip).feed(data)
    assert raised.value.status is status


class TestMessageReader:
    @given(MESSAGES, st.lists(st.integers(0, 300), max_size=12))
    @settings(derandomize=True, max_examples=200)
    def test_messages_come_out_however_they_are_cut(self, messages: list[tuple[bytes, bool]], cuts: list[int]) -> None:
        data = b"".join(frame_message(gzip.compress(m) if packed else m, packed) for m, packed in messages)
        reader = MessageReader(gzip=True)
        read: list[bytes] = []
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in pairwise(places):
            read += reader.feed(data[start:end])
        assert read == [message for message, _ in messages]
        assert not reader.mid_message

    @pytest.mark.parametrize("kept", range(1, 8))
    def test_an_incomplete_message_is_noticed(self, kept: int) -> None:
        reader = MessageReader(gzip=False)
        assert reader.feed(frame_message(b"abc")[:kept]) == []
        assert reader.mid_message

    def test_many_small_pieces_cost_no_more_than_one_join(self) -> None:
        reader = MessageReader(gzip=False)
        message = bytes(300_000)
        data = frame_message(message)
        pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
        joined = 0
        for piece in pieces[:-1]:
            assert reader.feed(piece) == []
            joined += len(reader._chunks) == 1
        assert reader.feed(pieces[-1]) == [message]
        assert joined <= 2

    def test_what_is_wrong_with_a_message(self) -> None:
        refused(Status.RESOURCE_EXHAUSTED, b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
        refused(Status.INTERNAL, frame_message(b"abc", compressed=True), gzip=False)
        refused(Status.INTERNAL, frame_message(b"abc", compressed=True))
        refused(Status.INTERNAL, b"\x02" + frame_message(b"abc")[1:])
        refused(Status.INTERNAL, frame_message(gzip.compress(b"abc")[:-1], compressed=True))
        refused(Status.INTERNAL, frame_message(gzip.compress(b"abc") + b"more", compressed=True))


@given(st.binary(max_size=3000))
@settings(derandomize=True, max_examples=60)
def test_gzip_both_ways(message: bytes) -> None:
    assert gzip.decompress(pack(message)) == message
    assert unpack(gzip.compress(message)) == message


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_messages, "MAX_MESSAGE_BYTES", 1000)
    assert unpack(gzip.compress(bytes(1000))) == bytes(1000)
    with pytest.raises(StatusError) as raised:
        unpack(gzip.compress(bytes(1001)))
    assert raised.value.status is Status.RESOURCE_EXHAUSTED


class TestTimeouts:
    @given(st.integers(1, 10**8 * 3600 * 10**9 - 3600 * 10**9))
    @settings(derandomize=True, max_examples=200)
    def test_a_timeout_is_read_back_no_shorter_and_hardly_longer(self, timeout_ns: int) -> None:
        field = encode_timeout(timeout_ns)
        assert len(field) <= 9
        read = decode_timeout(field)
        assert read is None or timeout_ns <= read <= timeout_ns * (1 + 1e-4) + 1

    @pytest.mark.parametrize(
        ("field", "timeout_ns"),
        [
            (b"1H", 3600 * 10**9),
            (b"2M", 120 * 10**9),
            (b"3S", 3 * 10**9),
            (b"4m", 4 * 10**6),
            (b"5u", 5000),
            (b"6n", 6),
        ],
    )
    def test_units(self, field: bytes, timeout_ns: int) -> None:
        assert decode_timeout(field) == timeout_ns

    def test_one_that_never_comes_is_none(self) -> None:
        assert decode_timeout(b"99999999H") is None
        with pytest.raises(ValueError, match="too long"):
            encode_timeout(10**8 * 3600 * 10**9)

    @pytest.mark.parametrize("field", [b"", b"5", b"S", b"-1S", b"1.5S", b"123456789S", b"5s", b"5S ", b" 5S", b"5S\n"])
    def test_malformed_ones(self, field: bytes) -> None:
        with pytest.raises(StatusError, match="malformed grpc-timeout"):
            decode_timeout(field)


class TestTexts:
    @given(st.text(max_size=40))
    @settings(derandomize=True, max_examples=200)
    def test_any_text_is_read_back(self, text: str) -> None:
        field = percent_encode(text)
        assert all(0x20 <= byte <= 0x7E for byte in field)
        assert percent_decode(field) == text.encode("utf-8", "replace").decode()

    def test_the_specification_s_way(self) -> None:
        assert percent_encode("\ttest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n") == (
            b"%09test with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A"
        )
        assert percent_encode("100%") == b"100%25"

    @pytest.mark.parametrize("field", [b"%", b"%4", b"%zz", b"%FF", b"\xff"])
    def test_decoding_never_fails(self, field: bytes) -> None:
        assert percent_decode(field)


class TestPayload:
    @given(
        st.binary(max_size=300) | st.sampled_from([bytes(127), bytes(128), bytes(16383), bytes(16384), bytes(3**13)])
    )
    @settings(derandomize=True, max_examples=100)
    def test_is_what_protobuf_makes(self, payload: bytes) -> None:
        message = pb.EchoRequest(payload=payload).SerializeToString()
        assert encode_payload(payload) == message
        assert decode_payload(message) == payload

    @given(
        st.binary(max_size=12) | st.builds(lambda size, rest: b"\x0a" + size + rest, st.binary(max_size=6), st.binary())
    )
    @settings(derandomize=True, max_examples=500)
    def test_is_never_read_where_protobuf_reads_something_else(self, message: bytes) -> None:
        payload = decode_payload(message)
        if payload is not None:
            assert pb.EchoRequest.FromString(message).payload == payload

    @pytest.mark.parametrize(
        "message", [b"\x0a", b"\x0a\x02a", b"\x0a\x01ab", b"\x0a\x80\x80\x80\x80\x80\x00", b"\x12\x00"]
    )
    def test_other_forms_are_left_to_protobuf(self, message: bytes) -> None:
        assert decode_payload(message) is None

    def test_the_last_of_two_fields_counts(self) -> None:
        message = b"\x0a\x01a\x0a\x01b"
        assert decode_payload(message) is None
        assert pb.EchoRequest.FromString(message).payload == b"b"


def test_the_generated_code_is_of_the_proto_file() -> None:
    # A changed .proto file whose code was not made again would show in its services.
    generated = [name for service in pb.DESCRIPTOR.services_by_name.values() for name in service.methods_by_name]
    source = (grpc_messages.__file__ or "").replace("grpc_messages.py", "wirebench.proto")
    with open(source) as file:  # noqa: PTH123  one line for one reading
        declared = [line.split()[1].split("(")[0] for line in file if line.lstrip().startswith("rpc ")]
    assert sorted(generated) == sorted(declared)
    with pytest.raises(DecodeError):
        pb.EchoRequest.FromString(b"\xff")
