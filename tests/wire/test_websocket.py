"""WebSocket frames and messages, against the frames of the websockets library and of wsproto, in any pieces."""

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_log import ClientLog, Event, Log, pieces
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage

from bench.contract import MAX_BODY_BYTES
from bench.wire.permessage_deflate import Inflate
from bench.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    CloseCode,
    encode_close,
    encode_frame,
    encode_head,
    mask,
)

KEY = b"\x12\x34\x56\x78"


def read_frame(data: bytes, masked: bool) -> Frame:
    """One whole frame, read by websockets."""
    stream = StreamReader()
    stream.feed_data(data)
    parsing = Frame.parse(stream.read_exact, mask=masked)
    with pytest.raises(StopIteration) as end:  # it waits for nothing
        next(parsing)
    assert not stream.buffer
    frame: Frame = end.value.value
    return frame


# Masks


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=100), st.binary(min_size=780, max_size=1200)), st.binary(min_size=4, max_size=4))
def test_a_mask_is_an_xor(data: bytes, key: bytes) -> None:
    masked = mask(data, key)
    assert masked == bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    assert mask(masked, key) == data


# Frames

SIZES = [0, 1, 5, 124, 125, 126, 127, 1000, 65535, 65536, 70000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_frames_are_what_websockets_reads_and_writes(size: int, masked: bool) -> None:
    payload = random.Random(size).randbytes(size)
    frame = encode_frame(FIN | BINARY, payload, KEY if masked else b"")
    found = read_frame(frame, masked)
    assert (found.opcode, found.data, found.fin, found.rsv1) == (Opcode.BINARY, payload, True, False)
    log = Log() if masked else ClientLog()
    log.read(frame + Frame(Opcode.BINARY, payload).serialize(mask=masked))
    assert log.events == [(BINARY, payload)] * 2
    assert not log.mid_message


sent = st.one_of(
    st.tuples(st.just(BINARY), st.one_of(st.binary(max_size=40), st.binary(min_size=120, max_size=1000))),
    st.tuples(st.just(TEXT), st.text(max_size=40).map(str.encode)),
    st.tuples(st.just(TEXT), st.text(min_size=100, max_size=200).map(str.encode)),
)
cuts = st.lists(st.integers(0, 10**6), max_size=6)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    messages=st.lists(st.tuples(sent, cuts, st.booleans(), st.binary(max_size=125)), max_size=5),
    masked=st.booleans(),
    stream_cuts=st.lists(st.integers(0, 10**6), max_size=20),
    bytewise=st.booleans(),
)
def test_messages_arrive_however_they_are_cut(
    messages: list[tuple[tuple[int, bytes], list[int], bool, bytes]],
    masked: bool,
    stream_cuts: list[int],
    bytewise: bool,
) -> None:
    data = b""
    wanted: list[Event] = []
    for (opcode, payload), frame_cuts, with_ping, ping in messages:
        parts = list(pieces(payload, frame_cuts))
        for number, part in enumerate(parts):
            frame = Frame(Opcode.CONT if number else Opcode(opcode), part, fin=number == len(parts) - 1)
            data += frame.serialize(mask=masked)
            if with_ping and number < len(parts) - 1:
                data += Frame(Opcode.PING, ping).serialize(mask=masked)
                data += Frame(Opcode.PONG, ping).serialize(mask=masked)
                wanted.append(("ping", ping))
        wanted.append((opcode, payload))
    data += Frame(Opcode.CLOSE, b"\x0f\xa0why").serialize(mask=masked)
    wanted.append(("close", 4000))
    log = Log() if masked else ClientLog()
    for piece in pieces(data + b"what follows is ignored", list(range(len(data))) if bytewise else stream_cuts):
        log.read(piece)
    assert log.events == wanted
    assert log.peer_closed


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(sent, max_size=4), st.booleans(), cuts)
def test_wsproto_reads_what_is_written_here(messages: list[tuple[int, bytes]], to_server: bool, at: list[int]) -> None:
    peer = Connection(ConnectionType.SERVER if to_server else ConnectionType.CLIENT)
    key = KEY if to_server else b""
    data = b"".join(encode_frame(FIN | opcode, payload, key) for opcode, payload in messages)
    data += encode_frame(FIN | PING, b"there?", key) + encode_close(CloseCode.NORMAL, "bye", key)
    got: list[tuple[int, bytes]] = []
    whole: bytes = b""
    others = []
    for piece in pieces(data, at):
        peer.receive_data(piece)
        for event in peer.events():
            if isinstance(event, Message):
                kind = TEXT if isinstance(event, TextMessage) else BINARY
                assert isinstance(event, TextMessage | BytesMessage)
                whole += event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                if event.message_finished:
                    got.append((kind, whole))
                    whole = b""
            else:
                others.append(event)
    assert got == messages
    assert others == [Ping(payload=b"there?"), CloseConnection(code=1000, reason="bye")]


# What breaks the protocol


def frame(first: int, payload: bytes = b"", key: bytes = KEY) -> bytes:
    return encode_frame(first, payload, key)


BROKEN = {
    "opcode 3": (frame(FIN | 3), 1002),
    "opcode 7, and nothing more": (b"\x87\x80", 1002),
    "opcode 11": (frame(FIN | 11), 1002),
    "opcode 15": (frame(FIN | 15), 1002),
    "RSV1": (frame(FIN | RSV1 | TEXT, b"x"), 1002),
    "RSV2": (frame(FIN | 0x20 | TEXT, b"x"), 1002),
    "RSV3 in a ping": (frame(FIN | 0x10 | PING), 1002),
    "no mask": (frame(FIN | TEXT, b"x", b""), 1002),
    "no mask, long": (frame(FIN | BINARY, bytes(70000), b"")[:2], 1002),
    "ping in pieces": (frame(PING, b"x"), 1002),
    "long ping": (b"\x89\xfe", 1002),
    "long close": (b"\x88\xff", 1002),
    "continuation of nothing": (frame(FIN | CONTINUATION, b"x"), 1002),
    "continuation after the end": (frame(FIN | TEXT, b"x") + frame(FIN | CONTINUATION, b"x"), 1002),
    "message in a message": (frame(TEXT, b"x") + frame(FIN | TEXT, b"x"), 1002),
    "message in a message, in pieces": (frame(TEXT, b"x") + frame(BINARY, b"x"), 1002),
    "16 bits for a short length": (b"\x82\xfe\x00\x7d" + KEY + bytes(125), 1002),
    "64 bits for a short length": (b"\x82\xff" + (65535).to_bytes(8), 1002),
    "a negative length": (b"\x82\xff" + (1 << 63).to_bytes(8), 1002),
    "close of one byte": (frame(FIN | CLOSE, b"\x03"), 1002),
    **{
        f"close {code}": (frame(FIN | CLOSE, code.to_bytes(2)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "close with a reason that is no text": (frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    "no text": (frame(FIN | TEXT, b"\xc0\x80"), 1007),
    "no text, long": (frame(FIN | TEXT, b"x" * 200 + b"\xff"), 1007),
    "a surrogate": (frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (frame(FIN | TEXT, b"\xf4\x90\x80\x80"), 1007),
    "a character cut off": (frame(FIN | TEXT, b"\xe2\x82"), 1007),
    "a character cut off, in pieces": (frame(TEXT, b"\xe2") + frame(FIN | CONTINUATION, b"\x82"), 1007),
    "no text in the middle": (frame(TEXT, b"x") + frame(CONTINUATION, b"\xff"), 1007),
    "no text in half a frame": (frame(FIN | TEXT, b"x" * 70 + b"\xff" + b"x" * 70)[:-60], 1007),
    "too long": (encode_head(FIN | BINARY, MAX_BODY_BYTES + 1, masked=True) + KEY, 1009),
    "too long in sum": (frame(BINARY, b"x") + encode_head(FIN, MAX_BODY_BYTES, masked=True) + KEY, 1009),
}


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_protocol_has_its_close_code(what: str, bytewise: bool) -> None:
    data, code = BROKEN[what]
    log = Log()
    for piece in pieces(data, list(range(len(data))) if bytewise else []):
        log.read(piece)
    assert log.events[-1] == ("error", code)


def test_a_server_does_not_mask() -> None:
    log = ClientLog()
    log.read(frame(FIN | TEXT, b"x"))
    assert log.events == [("error", 1002)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999])
def test_close_codes_that_mean_something_are_taken(code: int) -> None:
    log = Log()
    log.read(encode_close(code, "é", KEY))
    assert log.events == [("close", code)]


def test_a_close_frame_may_be_empty_and_a_long_reason_is_cut_between_characters() -> None:
    log = ClientLog()
    log.read(encode_close(CloseCode.NO_STATUS))
    assert log.events == [("close", CloseCode.NO_STATUS)]
    found = read_frame(encode_close(1011, "é" * 100), masked=False)
    assert found.data == b"\x03\xf3" + "é".encode() * 61


def test_the_longest_message_is_taken_and_held_only_by_whoever_wants_it() -> None:
    class Drops(ClientLog):
        received_bytes = 0

        def payload_received(self, data: bytes) -> None:
            self.received_bytes += len(data)

    log = Drops()
    log.read(encode_head(FIN | BINARY, MAX_BODY_BYTES))
    piece = bytes(1 << 18)
    tracemalloc.start()
    for _ in range(MAX_BODY_BYTES // len(piece)):
        log.read(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.events == [(BINARY, b"")]
    assert log.received_bytes == MAX_BODY_BYTES
    assert peak < 4 << 20


def _garble(source: random.Random, data: bytes) -> bytes:
    """Data with some bits flipped, and pieces left out or doubled."""
    garbled = bytearray(data)
    for _ in range(source.choice((0, 1, 1, 2, 8))):
        at = source.randrange(len(garbled))
        match source.randrange(4):
            case 0 | 1:
                garbled[at] ^= 1 << source.randrange(8)
            case 2:
                del garbled[at : at + source.randrange(1, 5)]
            case 3:
                garbled[at:at] = source.randbytes(source.randrange(1, 5))
        if not garbled:
            break
    return bytes(garbled)


def _any_frames(source: random.Random) -> bytes:
    if source.randrange(4) == 0:
        return source.randbytes(source.randrange(1, 200))
    data = b""
    for _ in range(source.randrange(1, 6)):
        opcode = source.choice((CONTINUATION, TEXT, TEXT, BINARY, BINARY, PING, PONG, CLOSE))
        payload = source.choice((b"", b"text", "é€😀".encode(), source.randbytes(source.randrange(200))))
        if opcode == CLOSE:
            payload = source.choice((b"", b"\x03\xe8", b"\x03\xe8" + payload))[:125]
        data += frame(source.choice((0, FIN, FIN, FIN, FIN | RSV1)) | opcode, payload)
    return data


def test_garbage_is_an_error_of_the_protocol_and_the_same_one_in_any_pieces() -> None:
    source = random.Random(6455)
    seen = set()
    for number in range(4000):
        data = _garble(source, _any_frames(source))
        found = []
        for cut in ([], list(range(len(data))), [source.randrange(1 << 30) for _ in range(3)]):
            log = Log()
            if number % 2:
                log.inflate = Inflate(15, no_context_takeover=False)
            for piece in pieces(data, cut):
                log.read(piece)
            found.append(log.events)
        assert found[0] == found[1] == found[2], data
        seen |= {event for event in found[0] if event[0] == "error"}
    assert seen == {("error", 1002), ("error", 1007), ("error", 1009)}
