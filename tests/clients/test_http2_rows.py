"""Answers that the lean HTTP/2 client recognises many at a time, or must not."""

import random
from itertools import pairwise
from typing import Any

import hyperframe.frame as hf
import pytest
from http2_answering import HEALTH, answer_frames, connected, new_client, said, talk
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import Exchange, Opcode, exchange
from bench.errors import ProtocolError
from bench.wire.http2_frames import encode_frame, encode_settings, pack_id


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("wanted", [HEALTH, exchange(Opcode.BYTES, 1000), exchange(Opcode.BYTES, 16_000)])
def test_answers_that_are_alike_are_not_read_frame_by_frame(
    wanted: Exchange, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = connected(wanted)
    read = []
    headers_received = client.headers_received
    monkeypatch.setattr(client, "headers_received", lambda *args: read.append(args) or headers_received(*args))
    for number in range(8):
        ids, pieces = client.request(16)
        talk(client, server, *pieces)
        date = "later" if number >= 4 else "now"
        for packed_id in ids:
            stream_id = int.from_bytes(packed_id, "big")
            server.head(stream_id, date=date)
            if not grouped:
                server.body(stream_id, wanted.answer)
        if grouped:
            for packed_id in ids:
                server.body(int.from_bytes(packed_id, "big"), wanted.answer)
        answers = server.send()
        middle = len(answers) // 3  # cut anywhere
        assert [*client.feed(answers[:middle]), *client.feed(answers[middle:])] == ids
        if number in (0, 4):
            read.clear()  # the first answers with a new date are looked at closely
        assert len(read) <= (2 if number in (1, 5) else 0)


def test_answers_are_recognised_again_after_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = connected()
    client.request(33)
    assert len(client.feed(b"".join(answer_frames(1, b"ok")))) == 1
    read = []
    body_received = client.body_received
    monkeypatch.setattr(client, "body_received", lambda *args: read.append(args) or body_received(*args))
    answers = [answer_frames(stream_id, b"ok") for stream_id in range(3, 67, 2)]
    heads, bodies = (b"".join(frames) for frames in zip(*answers, strict=True))
    assert client.feed(hf.PingFrame(0).serialize() + heads + bodies[:50]) == [
        pack_id(3),
        pack_id(5),
        pack_id(7),
        pack_id(9),
    ]
    assert len(client.feed(bodies[50:])) == 28
    assert len(read) == 4  # those that came with the ping


def test_the_same_block_means_something_else_when_the_table_has_changed() -> None:
    client, _ = connected()
    ids, _ = client.request(4)
    assert client.feed(b"".join(answer_frames(1, b"ok", b"\x88\x5c\x012"))) == ids[:1]  # content-length: 2, kept
    assert client.feed(b"".join(answer_frames(3, b"ok", b"\x88\xbe"))) == ids[1:2]
    assert client.feed(b"".join(answer_frames(5, b"ok", b"\x88\x5c\x013"))) == []  # content-length: 3
    assert client.feed(b"".join(answer_frames(7, b"ok", b"\x88\xbe"))) == []
    assert client.failures == [(ids[2], "protocol"), (ids[3], "protocol")]


def test_an_answer_that_ended_before_the_table_changed_is_no_example() -> None:
    client, _ = connected()
    ids, _ = client.request(4)
    client.feed(b"".join(answer_frames(1, b"ok", b"\x88\x5c\x012")))  # content-length: 2, kept
    head, body = answer_frames(3, b"ok", b"\x88\xbe")
    client.feed(head)
    client.feed(b"".join(answer_frames(5, b"ok", b"\x88\x5c\x013")))  # content-length: 3
    assert client.feed(body) == ids[1:2]
    assert client.feed(b"".join(answer_frames(7, b"ok", b"\x88\xbe"))) == []
    assert client.failures == [(ids[2], "protocol"), (ids[3], "protocol")]


def test_the_same_head_without_a_body() -> None:
    client, _ = connected()
    ids, _ = client.request(2)
    assert client.feed(b"".join(answer_frames(1, b"ok"))) == ids[:1]
    assert client.feed(encode_frame(1, 5, 3, b"\x88")) == []
    assert client.failures == [(ids[1], "content")]


def keep_length(size: int) -> bytes:
    """A block with a content-length that goes into the table; there, the index 62 (byte be) names it."""
    value = b"%d" % size
    return b"\x88\x5c%c%b" % (len(value), value)


def differential_outcome(chunks: list[bytes], alike: bool, wanted: Exchange, batches: int) -> list[Any]:
    client = new_client(wanted)
    said(client)
    if not alike:
        client._match = lambda data: ([], data)  # type: ignore[method-assign]
    client.feed(encode_settings({}))
    outcome: list[Any] = []
    for _ in range(batches):
        client.request(4)
    for chunk in chunks:
        try:
            outcome.append(list(client.feed(chunk)))
        except ProtocolError as error:
            outcome.append((error.code, said(client)))
            break
        outcome += [list(client.failures), said(client)]
        client.failures.clear()
    return outcome


@given(st.integers(0, 1 << 40), st.booleans(), st.sampled_from([2, 100]))
@settings(derandomize=True, max_examples=800, deadline=None)
def test_the_short_way_comes_to_the_same(seed: int, grouped: bool, size: int) -> None:
    """Answers, some of them spoilt, are taken alike with and without recognising rows of frames."""
    rng = random.Random(seed)
    wanted = exchange(Opcode.BYTES, size)
    frames: list[bytes] = []
    for batch in range(4):
        blocks = [b"\x88\xbe" if i + batch else keep_length(size) for i in range(4)]
        answers = [answer_frames(8 * batch + 2 * i + 1, wanted.answer, block) for i, block in enumerate(blocks)]
        frames += (
            [f for pair in zip(*answers, strict=True) for f in pair]
            if grouped
            else [f for answer in answers for f in answer]
        )
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        place, other = rng.randrange(len(frames)), rng.randrange(len(frames))
        match rng.randrange(8):
            case 0:  # one byte is wrong
                frame = bytearray(frames[place] or b"?")
                frame[rng.randrange(len(frame))] = rng.choice([0, 1, 2, 4, 5, 9, rng.randrange(256)])
                frames[place] = bytes(frame)
            case 1:
                frames[place], frames[other] = frames[other], frames[place]
            case 2:
                frames.insert(place, frames[other])
            case 3:
                del frames[place]
                frames.append(b"")
            case 4:
                frames.insert(place, rng.choice([hf.PingFrame(0).serialize(), hf.RstStreamFrame(9, 8).serialize()]))
            case 5:
                frames[place] = encode_frame(1, 4, 2 * other + 1, keep_length(rng.choice([size, size + 1])))
            case 6:
                frames[place] = encode_frame(1, 4, 2 * other + 1, b"\x88\xbe")
            case 7:
                frames.insert(place, hf.GoAwayFrame(0, other).serialize())
    wire = b"".join(frames)
    edges = sorted({0, len(wire), *(rng.randrange(len(wire)) for _ in range(rng.choice([0, 2, 9])))})
    chunks = [wire[start:end] for start, end in pairwise(edges)]
    short, long = (differential_outcome(chunks, alike, wanted, 4) for alike in (True, False))
    assert short == long
