"""HTTP/2 frames, header blocks and sending, with hyperframe and hpack for second opinions."""

from itertools import pairwise
from typing import Any

import hyperframe.frame as hf
import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.header_blocks import (
    CONTENT_LENGTH_INDEX,
    MAX_DECODED_BYTES,
    Head,
    HeaderReader,
    HeaderWriter,
    MalformedError,
    literal,
)
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_WINDOW_BYTES,
    SETTINGS_ACK,
    ErrorCode,
    FrameShape,
    GroupShape,
    Setting,
    encode_frame,
    encode_goaway,
    encode_reset,
    encode_settings,
    encode_window_update,
    pack_id,
    read_settings,
    without_padding,
)
from bench.wire.http2_sending import Sender, Stream

STREAM_IDS = st.integers(1, MAX_WINDOW_BYTES)


def parse(data: bytes) -> list[Any]:
    """The frames, as hyperframe reads them."""
    frames = []
    while data:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


class TestFrames:
    @given(STREAM_IDS, st.binary(max_size=300), st.booleans())
    @settings(derandomize=True, max_examples=50)
    def test_data(self, stream_id: int, payload: bytes, last: bool) -> None:
        frame = hf.DataFrame(stream_id, payload, flags=["END_STREAM"] if last else [])
        assert encode_frame(DATA, END_STREAM if last else 0, stream_id, payload) == frame.serialize()

    def test_settings(self) -> None:
        ours = {Setting.MAX_CONCURRENT_STREAMS: 7, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES}
        frame = hf.SettingsFrame(0, {int(name): value for name, value in ours.items()})
        assert encode_settings(ours) == frame.serialize()
        assert dict(read_settings(frame.serialize_body())) == ours
        assert hf.SettingsFrame(0, flags=["ACK"]).serialize() == SETTINGS_ACK

    @given(STREAM_IDS, st.sampled_from(ErrorCode))
    @settings(derandomize=True, max_examples=20)
    def test_control_frames(self, number: int, code: ErrorCode) -> None:
        assert encode_window_update(0, number) == hf.WindowUpdateFrame(0, number).serialize()
        assert encode_reset(number, code) == hf.RstStreamFrame(number, code).serialize()
        assert encode_goaway(number, code, "why") == hf.GoAwayFrame(0, number, code, b"why").serialize()

    @given(st.binary(max_size=50), st.integers(0, 255))
    @settings(derandomize=True, max_examples=50)
    def test_padding(self, payload: bytes, padding: int) -> None:
        frame = hf.DataFrame(1, payload, pad_length=padding, flags=["PADDED"])
        assert without_padding(frame.serialize_body()) == payload

    @pytest.mark.parametrize("payload", [b"\x01", b"\x02a"])
    def test_padding_that_does_not_fit(self, payload: bytes) -> None:
        with pytest.raises(ProtocolError) as error:
            without_padding(payload)
        assert error.value.code == ErrorCode.PROTOCOL_ERROR


class TestFrameShape:
    HEADS = FrameShape(HEADERS, END_HEADERS, b"block")
    BODIES = FrameShape(DATA, END_STREAM, b"body")

    @given(st.lists(STREAM_IDS.map(pack_id), min_size=1, max_size=20), st.binary(max_size=12), st.integers(0, 5))
    @settings(derandomize=True, max_examples=100)
    def test_a_row_is_read_back(self, ids: list[bytes], before: bytes, cut: int) -> None:
        row = self.BODIES.encode(ids)
        assert parse(row)[0].data == b"body"
        # Whatever precedes it, and however its last frame is cut: the whole frames are found.
        data = before + row + self.BODIES.encode([b"\0\0\0\x01"])[:cut]
        assert self.BODIES.match(data, len(before), self.HEADS.head) == (ids, len(before) + len(row))

    @given(st.lists(STREAM_IDS.map(pack_id), min_size=1, max_size=9), st.integers(min_value=0), st.integers(1, 255))
    @settings(derandomize=True, max_examples=200)
    def test_one_wrong_byte_is_found(self, ids: list[bytes], place: int, change: int) -> None:
        row = bytearray(self.BODIES.encode(ids))
        place %= len(row)
        row[place] ^= change
        if place % 13 in range(5, 9):  # the stream's id: another one is read
            assert self.BODIES.match(bytes(row), 0, self.HEADS.head)[0] != ids
        else:
            assert self.BODIES.match(bytes(row), 0, self.HEADS.head)[0] == []

    def test_a_row_ends_where_the_other_kind_begins(self) -> None:
        heads, bodies = self.HEADS.encode([b"\0\0\0\x01", b"\0\0\0\x03"]), self.BODIES.encode([b"\0\0\0\x01"])
        ids, end = self.HEADS.match(heads + bodies, 0, self.BODIES.head)
        assert (ids, end) == ([b"\0\0\0\x01", b"\0\0\0\x03"], len(heads))
        assert self.BODIES.match(heads + bodies, end, self.HEADS.head) == ([b"\0\0\0\x01"], len(heads + bodies))


class TestGroupShape:
    HEADS, BODIES = TestFrameShape.HEADS, TestFrameShape.BODIES
    PAIRS = GroupShape(HEADS, BODIES)

    def encode(self, ids: list[bytes]) -> bytes:
        return b"".join(self.HEADS.encode([i]) + self.BODIES.encode([i]) for i in ids)

    @given(st.lists(STREAM_IDS.map(pack_id), min_size=1, max_size=20), st.binary(max_size=12), st.integers(0, 26))
    @settings(derandomize=True, max_examples=100)
    def test_a_row_is_read_back(self, ids: list[bytes], before: bytes, cut: int) -> None:
        data = before + self.encode(ids) + self.encode([b"\0\0\0\x01"])[:cut]
        assert self.PAIRS.match(data, len(before)) == (ids, len(before) + 27 * len(ids))

    @given(st.lists(STREAM_IDS.map(pack_id), min_size=1, max_size=9), st.integers(min_value=0), st.integers(1, 255))
    @settings(derandomize=True, max_examples=200)
    def test_one_wrong_byte_is_found(self, ids: list[bytes], place: int, change: int) -> None:
        row = bytearray(self.encode(ids))
        row[place % len(row)] ^= change
        assert self.PAIRS.match(bytes(row), 0) == ([], 0)

    def test_frames_in_another_order_are_no_pairs(self) -> None:
        ids = [b"\0\0\0\x01", b"\0\0\0\x03"]
        assert self.PAIRS.match(self.HEADS.encode(ids) + self.BODIES.encode(ids), 0) == ([], 0)
        assert self.PAIRS.match(self.HEADS.encode(ids[:1]), 0) == ([], 0)


NAMES = st.sampled_from([b"a", b"date", b"content-length", b"x-long-name", b"cookie"])
VALUES = st.sampled_from([b"", b"1", b"two", b"v" * 60, b"w" * 1500]) | st.binary(max_size=5)
FIELD_LISTS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5)


class TestHeaderReader:
    @given(st.lists(st.sampled_from(range(6)), max_size=30), st.lists(FIELD_LISTS, min_size=6, max_size=6))
    @settings(derandomize=True, max_examples=150)
    def test_kept_blocks_mean_what_a_plain_decoder_reads(self, order: list[int], lists: list[Any]) -> None:
        encoder, plain = Encoder(), Decoder()
        reader: HeaderReader[list[Any]] = HeaderReader(list)
        for number in order:
            if number == 5:
                encoder.header_table_size = 300 if encoder.header_table_size > 300 else 4096
            block = encoder.encode(lists[number])
            before = list(plain.header_table.dynamic_entries), plain.header_table_size
            expected = plain.decode(block, raw=True)
            assert reader.read(block) == expected
            if reader.stable:
                assert (list(plain.header_table.dynamic_entries), plain.header_table_size) == before

    def test_equal_blocks_are_parsed_once_until_the_table_changes(self) -> None:
        parsed = []
        reader: HeaderReader[int] = HeaderReader(lambda fields: parsed.append(fields) or len(parsed))
        encoder = Encoder()
        encoder.encode([(b"date", b"1")])
        repeated = b"\xbe"  # the newest entry of the dynamic table
        assert reader.read(literal(33, b"1").replace(b"\x0f\x12", b"\x61")) == 1  # date: 1, to be kept in the table
        assert not reader.stable
        assert [reader.read(repeated) for _ in range(3)] == [2, 2, 2]
        assert reader.stable
        reader.read(b"\x61\x012")  # date: 2
        assert reader.read(repeated) == 4
        assert [fields[0][1] for fields in parsed] == [b"1", b"1", b"2", b"2"]

    @pytest.mark.parametrize(
        ("block", "code"),
        [
            (b"\xff\xff\xff\xff\xff\xff", ErrorCode.COMPRESSION_ERROR),  # an integer without end
            (b"\xbe", ErrorCode.COMPRESSION_ERROR),  # an entry that is not there
            (b"\x80", ErrorCode.COMPRESSION_ERROR),
            (b"\x40\x05ab", ErrorCode.COMPRESSION_ERROR),  # cut
            (b"\x40\x81\xff\x00", ErrorCode.COMPRESSION_ERROR),  # Huffman code for the end of the string
            (b"\x3f\xe2\x1f", ErrorCode.COMPRESSION_ERROR),  # a table of 4097 bytes
            (b"\x82\x20", ErrorCode.COMPRESSION_ERROR),  # a size update after a field
            (b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 40, ErrorCode.ENHANCE_YOUR_CALM),  # a bomb
        ],
    )
    def test_errors(self, block: bytes, code: ErrorCode) -> None:
        with pytest.raises(ProtocolError) as error:
            HeaderReader(list).read(block)
        assert error.value.code == code

    def test_a_bomb_is_not_decoded_to_its_end(self) -> None:
        reader: HeaderReader[int] = HeaderReader(lambda fields: sum(len(value) for _, value in fields))
        size = reader.read(b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968)  # what it repeats
        assert reader.read(b"\xbe" * 32) == 32 * size <= MAX_DECODED_BYTES


class TestHeaderWriter:
    @given(st.lists(st.tuples(FIELD_LISTS, st.none() | st.sampled_from([0, 60, 300, 4096, 9999])), max_size=20))
    @settings(derandomize=True, max_examples=150)
    def test_a_decoder_reads_it_back_and_blocks_stay_good(self, steps: list[Any]) -> None:
        writer, decoder = HeaderWriter(), Decoder()
        for fields, table_bytes in steps:
            if table_bytes is not None:
                for size in (table_bytes, 4096, 0, table_bytes):
                    writer.limit_table(size)
                decoder.max_allowed_table_size = table_bytes
            version = writer.version
            block = writer.encode(fields)
            expected = [(name, value) for name, value, _ in fields]
            assert decoder.decode(block, raw=True) == expected
            if writer.version == version:
                assert decoder.decode(block, raw=True) == expected

    def test_the_version_settles(self) -> None:
        writer = HeaderWriter()
        first = writer.encode([(b"date", b"now")])
        version = writer.version
        second = writer.encode([(b"date", b"now")])
        assert version == 1 == writer.version
        assert len(second) < len(first)

    def test_a_new_size_is_told_once(self) -> None:
        writer = HeaderWriter()
        writer.limit_table(100)
        assert writer.encode([(b":status", b"200")]) == b"\x3f\x45\x88"
        version = writer.version
        assert version == 2
        assert writer.encode([(b":status", b"200")]) == b"\x88"
        assert writer.version == version

    def test_a_literal(self) -> None:
        decoder = Decoder()
        block = literal(CONTENT_LENGTH_INDEX, b"12")
        assert decoder.decode(block, raw=True) == [(b"content-length", b"12")]
        assert not decoder.header_table.dynamic_entries


class TestHead:
    def test_in_order(self) -> None:
        head = Head([(b":status", b"200"), (b"content-length", b"5"), (b"te", b"trailers"), (b"x", b"a b\tc")])
        assert head.pseudo == {b"status": b"200"}
        assert head.content_length == 5
        assert head.fields == [(b"content-length", b"5"), (b"te", b"trailers"), (b"x", b"a b\tc")]

    @pytest.mark.parametrize(
        "fields",
        [
            [(b"a", b"1"), (b":status", b"200")],
            [(b":status", b"200"), (b":status", b"200")],
            [(b"Upper", b"1")],
            [(b"", b"1")],
            [(b"sp ace", b"1")],
            [(b"co:lon", b"1")],
            [(b"\x80", b"1")],
            [(b"a", b"1\r\nb: 2")],
            [(b"a", b"\0")],
            [(b"a", b" 1")],
            [(b"a", b"1\t")],
            [(b":path", b"/ ")],
            [(b"connection", b"close")],
            [(b"transfer-encoding", b"chunked")],
            [(b"upgrade", b"h2c")],
            [(b"keep-alive", b"1")],
            [(b"proxy-connection", b"1")],
            [(b"te", b"gzip")],
            [(b"content-length", b"-1")],
            [(b"content-length", b"1, 1")],
            [(b"content-length", b"1"), (b"content-length", b"1")],
            [(b"content-length", b"9" * 5000)],
        ],
    )
    def test_malformed(self, fields: list[tuple[bytes, bytes]]) -> None:
        with pytest.raises(MalformedError):
            Head(fields)


class TestSending:
    @given(
        st.lists(st.integers(1, 40_000), min_size=1, max_size=4),
        st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30_000)), max_size=60),
        st.integers(0, 50_000),
        st.integers(1, 20_000),
    )
    @settings(derandomize=True, max_examples=150)
    def test_windows_are_kept_and_everything_arrives(
        self, sizes: list[int], updates: list[tuple[int, int]], initial: int, limit: int
    ) -> None:
        sender: Sender[Stream] = Sender()
        sender.resize_stream_windows(initial)
        bodies = {1 + 2 * i: bytes([i]) * size for i, size in enumerate(sizes)}
        allowed = dict.fromkeys(bodies, initial) | {0: 65535}
        arrived = dict.fromkeys(bodies, b"")
        ended = set()
        for stream_id, body in bodies.items():
            sender.streams[stream_id] = Stream(stream_id, sender.peer_stream_window, 0)
            sender.send_body(sender.streams[stream_id], body)

        def send() -> None:
            more = True
            while more:
                more = sender.send_bodies(limit)
                frames = parse(b"".join(sender.outgoing))
                assert sum(frame.body_len + 9 for frame in frames[:-1]) < limit
                sender.outgoing.clear()
                for frame in frames:
                    arrived[frame.stream_id] += frame.data
                    allowed[frame.stream_id] -= len(frame.data)
                    allowed[0] -= len(frame.data)
                    assert allowed[frame.stream_id] >= 0
                    assert allowed[0] >= 0
                    assert frame.stream_id not in ended
                    if "END_STREAM" in frame.flags:
                        ended.add(frame.stream_id)

        def widen(number: int, increment: int) -> None:
            stream_id = number * 2 - 1 if number else 0
            if stream_id in allowed:
                allowed[stream_id] += increment
                if stream_id:
                    sender.widen(sender.streams[stream_id], increment)
                else:
                    sender.send_window += increment

        send()
        for number, increment in updates:
            widen(number, increment)
            send()
        for number in range(5):
            widen(number, 200_000)
        send()
        assert arrived == bodies
        assert ended == set(bodies)
        assert not sender.is_sending

    def test_a_smaller_initial_window_takes_back_what_was_given(self) -> None:
        sender: Sender[Stream] = Sender()
        stream = sender.streams[1] = Stream(1, sender.peer_stream_window, 0)
        sender.send_body(stream, bytes(100_000))
        sender.send_window = 1 << 20
        sender.send_bodies(1 << 20)
        assert stream.sent_bytes == 65535
        sender.resize_stream_windows(10)
        assert stream.send_window == 10 - 65535
        sender.widen(stream, 65525)
        sender.send_bodies(1 << 20)
        assert stream.sent_bytes == 65535
        sender.widen(stream, 1)
        sender.send_bodies(1 << 20)
        assert stream.sent_bytes == 65536

    def test_streams_take_turns(self) -> None:
        sender: Sender[Stream] = Sender()
        for stream_id in (1, 3):
            sender.streams[stream_id] = Stream(stream_id, sender.peer_stream_window, 0)
            sender.send_body(sender.streams[stream_id], bytes(30_000))
        sender.send_bodies(1 << 20)
        assert [frame.stream_id for frame in parse(b"".join(sender.outgoing))] == [1, 3, 1, 3]

    def test_nothing_is_sent_on_a_stream_that_was_reset(self) -> None:
        sender: Sender[Stream] = Sender()
        sender.streams[1] = Stream(1, 10, 0)
        sender.send_body(sender.streams[1], bytes(20))
        assert sender.reset(1, ErrorCode.CANCEL) is not None
        assert not sender.send_bodies(100)
        assert sender.outgoing == [encode_reset(1, ErrorCode.CANCEL)]
        assert not sender.is_sending


class _Recorder(Http2Peer[Stream]):
    """A peer that writes down what its hooks are told."""

    stream_window_bytes = connection_window_bytes = 1 << 20
    peer_may_push = True

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.streams[1] = Stream(1, 0, 1 << 20)

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        self.heard.append((stream_id, block, end_stream))

    def body_received(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        self.heard.append((stream.id, data, end_stream))

    def unlisted(self, stream_id: int) -> Stream | None:
        return None

    def is_idle(self, stream_id: int) -> bool:
        return stream_id > 3


class TestPeer:
    @given(st.lists(st.integers(0, 2000)), st.integers(0, 40), st.integers(0, 3))
    @settings(derandomize=True, max_examples=100)
    def test_frames_are_read_however_they_are_cut(self, cuts: list[int], padding: int, continuations: int) -> None:
        headers = hf.HeadersFrame(3, b"h" * 50, flags=["PADDED", "PRIORITY", "END_STREAM"], pad_length=padding)
        headers.stream_weight = 7
        parts = [hf.ContinuationFrame(3, b"c" * 20) for _ in range(continuations)]
        (parts[-1] if parts else headers).flags.add("END_HEADERS")
        unknown = bytes.fromhex("000003 f0 ff 00000001") + b"???"
        priority = hf.PriorityFrame(5, 3, 1).serialize()
        data = hf.DataFrame(1, b"d" * 500, flags=["PADDED"], pad_length=padding).serialize()
        reserved_bit = encode_frame(DATA, END_STREAM, 0x80000001, b"end")
        wire = encode_settings({}) + unknown + headers.serialize() + b"".join(part.serialize() for part in parts)
        wire += priority + data + reserved_bit
        peer = _Recorder()
        edges = sorted({0, len(wire), *(cut % len(wire) for cut in cuts)})
        for start, end in pairwise(edges):
            peer.receive(wire[start:end])
        block = b"h" * 50 + b"c" * 20 * continuations
        assert peer.heard == [(3, block, True), (1, b"d" * 500, False), (1, b"end", True)]
        assert peer.outgoing == [SETTINGS_ACK]

    def test_windows_are_replenished(self) -> None:
        peer = _Recorder()
        peer.receive(encode_settings({}))
        peer.outgoing.clear()
        for _ in range(33):
            peer.receive(encode_frame(DATA, 0, 1, bytes(16000)))
        connection, stream = parse(b"".join(peer.outgoing))
        assert (connection.stream_id, connection.window_increment) == (0, 33 * 16000)
        assert (stream.stream_id, stream.window_increment) == (1, 33 * 16000)
