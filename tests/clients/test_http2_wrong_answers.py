"""What the lean HTTP/2 client does about servers that break RFC 9113."""

import random
from typing import Any

import pytest
from hpack import Encoder
from http2_answering import answer_frames, connected, new_client, parse, said

from bench.errors import ProtocolError
from bench.wire.http2_frames import ErrorCode, encode_frame, encode_settings, pack_id


def head_frame(stream_id: int, fields: list[tuple[bytes, bytes]], end: bool = False) -> bytes:
    block = Encoder().encode([(name, value, True) for name, value in fields])
    return encode_frame(1, 5 if end else 4, stream_id, block)


OK = head_frame(1, [(b":status", b"200")])
STREAM_ERRORS = {
    "a body without a head": encode_frame(0, 1, 1, b"ok"),
    "no status": head_frame(1, [(b"a", b"b")]),
    "a status that is none": head_frame(1, [(b":status", b"2OO")]),
    "two statuses": head_frame(1, [(b":status", b"200"), (b":status", b"200")]),
    "a pseudo-header of requests": head_frame(1, [(b":status", b"200"), (b":path", b"/")]),
    "capitals": head_frame(1, [(b":status", b"200"), (b"Date", b"")]),
    "an interim answer is the end": head_frame(1, [(b":status", b"100")], end=True),
    "an interim answer after the head": OK + head_frame(1, [(b":status", b"100")]),
    "trailers that do not end it": OK + head_frame(1, [(b"a", b"b")]),
    "content-length is less": head_frame(1, [(b":status", b"200"), (b"content-length", b"1")])
    + encode_frame(0, 1, 1, b"ok"),
    "content-length is more": head_frame(1, [(b":status", b"200"), (b"content-length", b"3")])
    + encode_frame(0, 1, 1, b"ok"),
    "nothing after content-length": head_frame(1, [(b":status", b"200"), (b"content-length", b"2")], end=True),
    "a window by 0": OK + encode_frame(8, 0, 1, bytes(4)),
}


@pytest.mark.parametrize("frames", STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_an_answer_that_breaks_the_protocol(frames: bytes) -> None:
    client, _ = connected()
    ids, _ = client.request(2)
    assert client.feed(frames) == []
    assert client.failures == [(ids[0], "protocol")]
    client.failures.clear()
    assert client.feed(b"".join(answer_frames(3, b"ok"))) == [ids[1]]
    assert not client.failures


CONNECTION_ERRORS = {
    "an answer twice": (OK + encode_frame(0, 1, 1, b"ok") * 2, ErrorCode.STREAM_CLOSED),
    "a head twice": (OK + encode_frame(0, 1, 1, b"ok") + OK, ErrorCode.STREAM_CLOSED),
    "an answer to nothing": (head_frame(9, [(b":status", b"200")]), ErrorCode.PROTOCOL_ERROR),
    "a body for nothing": (encode_frame(0, 1, 9, b"ok"), ErrorCode.PROTOCOL_ERROR),
    "a stream of the server's": (head_frame(2, [(b":status", b"200")]), ErrorCode.PROTOCOL_ERROR),
    "a push": (encode_frame(5, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "push is enabled": (encode_frame(4, 0, 0, b"\0\2\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
    "a block that cannot be decoded": (encode_frame(1, 4, 1, b"\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a frame too long": (encode_frame(0, 0, 1, bytes(16385)), ErrorCode.FRAME_SIZE_ERROR),
    "a frame in a block": (encode_frame(1, 0, 1) + encode_frame(0, 1, 1, b"ok"), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("frames", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_a_connection_that_cannot_go_on(frames: bytes, code: int) -> None:
    client, _ = connected()
    client.request(1)
    with pytest.raises(ProtocolError) as error:
        client.feed(frames)
    assert error.value.code == code
    (goaway,) = parse(said(client))
    assert (goaway.error_code, goaway.last_stream_id) == (code, 0)


def test_a_row_inside_a_block_is_an_error() -> None:
    client, _ = connected()
    client.request(4)
    assert len(client.feed(b"".join(answer_frames(1, b"ok")))) == 1
    client.feed(encode_frame(1, 0, 3))
    with pytest.raises(ProtocolError):
        client.feed(b"".join(answer_frames(5, b"ok")))


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", encode_frame(4, 1, 0), encode_frame(6, 0, 0, bytes(8))]
)
def test_a_server_of_another_protocol(reply: bytes) -> None:
    client = new_client()
    client.request(1)
    with pytest.raises(ProtocolError, match="SETTINGS"):
        client.feed(reply)


def test_random_bytes() -> None:
    rng = random.Random(7541)
    raised = 0
    for _ in range(4000):
        client, answers = new_client(), []
        client.request(8)
        for stream_id in range(1, 16, 2):
            answers += answer_frames(stream_id, b"ok")
        wild = bytearray(encode_settings({}) + b"".join(answers))
        for _ in range(rng.randrange(1, 5)):
            wild[rng.randrange(9, len(wild))] = rng.choice([rng.randrange(256), rng.randrange(10)])
        done: list[Any] = []
        try:
            for start in range(0, len(wild), 50):
                done += client.feed(bytes(wild[start : start + 50]))
        except ProtocolError:
            raised += 1
        over = [*done, *(packed_id for packed_id, _ in client.failures)]
        assert len(over) == len(set(over))
        assert set(over) <= set(map(pack_id, range(1, 16, 2)))
    assert 500 < raised < 3500
