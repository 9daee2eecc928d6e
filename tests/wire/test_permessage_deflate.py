"""permessage-deflate: what is agreed on, and messages compressed by websockets, by RFC 7692 and here."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_log import ClientLog, Log, pieces
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from bench.errors import ProtocolError
from bench.wire.permessage_deflate import OFFER, Agreement, Deflate, Inflate, accept_offer, read_answer
from bench.wire.websocket import BINARY, CONTINUATION, FIN, PING, RSV1, TEXT, encode_frame

# Negotiation


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            'permessage-deflate ;client_max_window_bits="10"; server_max_window_bits = 9',
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        ("x-other; a=1, permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=8",
        ),
    ],
)
def test_the_first_offer_that_can_be_met_is_accepted(offer: str, answer: str) -> None:
    agreement = accept_offer(offer.encode())
    assert agreement is not None
    assert agreement.encode() == answer.encode()


@pytest.mark.parametrize(
    "offer",
    [
        "",
        ", ,",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=a",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined(offer: str) -> None:
    assert accept_offer(offer.encode()) is None


@pytest.mark.parametrize("offer", ["permessage-deflate;", "permessage-deflate x", "a;b=, c", '"a"', "a;b==c", "\xff"])
def test_a_malformed_offer_is_a_bad_request(offer: str) -> None:
    with pytest.raises(ProtocolError) as error:
        accept_offer(offer.encode("latin-1"))
    assert error.value.code == 400


def test_a_long_field_is_read_in_no_time() -> None:
    for field in (b"a" + b" " * 16000 + b"x", b"a;" * 8000, b"a;b=" + b" " * 16000, b", " * 8000):
        with pytest.raises(ProtocolError) if field[0] == ord("a") else pytest.MonkeyPatch.context():
            accept_offer(field)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("permessage-deflate; server_no_context_takeover", Agreement(True, True, 15, 15)),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8",
            Agreement(True, True, 8, 15),
        ),
    ],
)
def test_an_answer_that_was_offered_is_taken(answer: str, wanted: Agreement) -> None:
    assert read_answer(answer.encode()) == wanted


def test_what_the_server_answers_to_the_clients_offer_is_taken() -> None:
    agreement = accept_offer(OFFER)
    assert agreement is not None
    assert read_answer(agreement.encode()) == Agreement(True, True, 12, 15)


@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate",
        "x-other",
        "permessage-deflate; server_no_context_takeover, x-other",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        ";",
    ],
)
def test_an_answer_that_was_not_offered_is_an_error(answer: str) -> None:
    with pytest.raises(ProtocolError) as error:
        read_answer(answer.encode())
    assert error.value.code == 1010


# Messages

texts = st.one_of(st.binary(max_size=60), st.text("ab ", max_size=300).map(str.encode), st.binary(max_size=3000))
bits = st.integers(9, 15)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.tuples(texts, st.lists(st.integers(0, 10**6), max_size=4)), max_size=6), bits, st.booleans())
def test_websockets_reads_what_is_compressed_here(
    messages: list[tuple[bytes, list[int]]], window_bits: int, alone: bool
) -> None:
    deflate = Deflate(window_bits, no_context_takeover=alone)
    peer = PerMessageDeflate(alone, False, window_bits, 15)
    for message, cuts in messages:
        parts = list(pieces(deflate.compress(message), cuts))
        found = b""
        for number, part in enumerate(parts):
            frame = Frame(Opcode.CONT if number else Opcode.BINARY, part, number == len(parts) - 1, rsv1=not number)
            found += peer.decode(frame).data
        assert found == message


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(texts, st.lists(st.integers(0, 10**6), max_size=4), st.booleans()), max_size=6),
    bits,
    st.booleans(),
    st.lists(st.integers(0, 10**6), max_size=20),
)
def test_what_websockets_compresses_is_read_here(
    messages: list[tuple[bytes, list[int], bool]], window_bits: int, alone: bool, cuts: list[int]
) -> None:
    peer = PerMessageDeflate(False, alone, 15, window_bits)
    data = b""
    for message, frame_cuts, compressed in messages:
        parts = list(pieces(message, frame_cuts))
        for number, part in enumerate(parts):
            frame = Frame(Opcode.CONT if number else Opcode.BINARY, part, fin=number == len(parts) - 1)
            data += frame.serialize(mask=True, extensions=[peer] if compressed else [])
            data += encode_frame(FIN | PING, b"", b"mask")
    log = Log()
    log.inflate = Inflate(window_bits, no_context_takeover=alone)
    for piece in pieces(data, cuts):
        log.read(piece)
    assert [event for event in log.events if event[0] != "ping"] == [(BINARY, message) for message, _, _ in messages]


HELLO = {  # RFC 7692, section 7.2.3
    "in one frame": "c1 07 f2 48 cd c9 c9 07 00",
    "in two frames": "41 03 f2 48 cd 80 04 c9 c9 07 00",
    "not compressed": "c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00",
    "with the last block marked": "c1 08 f3 48 cd c9 c9 07 00 00",
    "in two blocks": "c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
    "sharing the window": "c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00",
    "without compression": "81 05 48 65 6c 6c 6f",
}


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("how", HELLO)
def test_the_examples_of_the_specification(how: str, bytewise: bool) -> None:
    data = bytes.fromhex(HELLO[how]) + bytes.fromhex("c1 07 f2 48 cd c9 c9 07 00")
    log = ClientLog()
    log.inflate = Inflate(15, no_context_takeover=False)
    for piece in pieces(data, list(range(len(data))) if bytewise else []):
        log.read(piece)
    assert log.events == [(TEXT, b"Hello")] * (3 if how == "sharing the window" else 2)


def test_a_window_that_is_not_shared_is_an_error_if_it_is_used() -> None:
    log = ClientLog()
    log.inflate = Inflate(15, no_context_takeover=True)
    log.read(bytes.fromhex(HELLO["sharing the window"]))
    assert log.events == [(TEXT, b"Hello"), ("error", 1007)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(FIN | RSV1 | TEXT, b"\xff\xff"), 1007),
        (encode_frame(FIN | RSV1 | TEXT, Deflate(12, False).compress(b"\xff")), 1007),
        (encode_frame(RSV1 | TEXT, b"\x00") + encode_frame(FIN | RSV1 | CONTINUATION, b"\x00"), 1002),
        (encode_frame(FIN | RSV1 | PING, b""), 1002),
    ],
    ids=["not compressed", "no text", "RSV1 in a continuation", "RSV1 in a ping"],
)
def test_what_breaks_the_rules_of_compression(data: bytes, code: int) -> None:
    log = ClientLog()
    log.inflate = Inflate(15, no_context_takeover=False)
    log.read(data)
    assert log.events == [("error", code)]


def test_a_bomb_is_too_big_and_does_not_go_off() -> None:
    compressor = zlib.compressobj(wbits=-15)
    packed = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(80)) + compressor.flush(zlib.Z_SYNC_FLUSH)

    class Drops(ClientLog):
        def payload_received(self, data: bytes) -> None:
            pass

    log = Drops()
    log.inflate = Inflate(15, no_context_takeover=False)
    frame = encode_frame(FIN | RSV1 | BINARY, packed)
    tracemalloc.start()
    for start in range(0, len(frame), 1000):
        log.read(frame[start : start + 1000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.events == [("error", 1009)]
    assert peak < 8 << 20
    whole = Drops()
    whole.inflate = Inflate(15, no_context_takeover=False)
    whole.read(frame)
    assert whole.events == [("error", 1009)]


def test_empty_messages_and_many_of_them() -> None:
    source = random.Random(7692)
    deflate = Deflate(12, no_context_takeover=False)
    log = ClientLog()
    log.inflate = Inflate(12, no_context_takeover=False)
    wanted = [source.choice((b"", b"again and again", source.randbytes(300))) for _ in range(500)]
    for message in wanted:
        log.read(encode_frame(FIN | RSV1 | BINARY, deflate.compress(message)))
    assert log.events == [(BINARY, message) for message in wanted]
