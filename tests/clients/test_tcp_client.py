"""The client of raw TCP against servers that answer well, badly, in another order, and in pieces."""

import random
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from client_driver import drive
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import MAX_BODY_BYTES, Exchange, Opcode, exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.frames import FATAL, MORE, NO_ID, FrameReader, encode_event, encode_frame
from clients.frame_calls import FrameSubscriber
from clients.tcp import TcpClient

ECHO = exchange(Opcode.ECHO, 64)


def new_client(wanted: Exchange = ECHO, check_content: bool = True) -> TcpClient:
    return TcpClient(wanted, "127.0.0.1:80", check_content)


def ask(client: TcpClient, count: int) -> list[bytes]:
    ids: Any = client.request(count)[0]
    return list(ids)


def good(frame_id: bytes) -> bytes:
    return encode_frame(200, frame_id, ECHO.answer)


def in_pieces(frame_id: bytes, size: int) -> bytes:
    starts = range(0, len(ECHO.answer), size)
    flags = [MORE] * (len(starts) - 1) + [0]
    return b"".join(
        encode_frame(200, frame_id, ECHO.answer[at : at + size], flags=flag)
        for at, flag in zip(starts, flags, strict=True)
    )


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("wanted", [ECHO, exchange(Opcode.BYTES, 9, b=2), exchange(Opcode.WORK, a=3, b=4)])
def test_requests_are_frames_with_an_id_each(wanted: Exchange, count: int) -> None:
    client = new_client(wanted)
    ids: Any
    ids, pieces = client.request(count)
    assert len(set(ids)) == count
    frames = [encode_frame(wanted.opcode, frame_id, wanted.body, wanted.a, wanted.b) for frame_id in ids]
    assert b"".join(pieces) == b"".join(frames)


answers = st.sampled_from(["good", "good", "good", "pieces", "status", "content", "short", "long", "late"])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(answers, min_size=1, max_size=12), st.integers(0, 100), st.lists(st.integers(0, 10**5), max_size=12))
def test_answers_in_any_order_and_any_pieces_are_told_apart(made: list[str], seed: int, cuts: list[int]) -> None:
    client = new_client()
    wanted, failed, sent = [], [], []
    for kind, frame_id in zip(made, ask(client, len(made)), strict=True):
        match kind:
            case "good" | "pieces":
                wanted.append(frame_id)
                sent.append((frame_id, good(frame_id) if kind == "good" else in_pieces(frame_id, 1 + seed % 70)))
            case "status":
                failed.append((frame_id, "status"))
                sent.append((frame_id, encode_frame(404, frame_id, ECHO.answer)))
            case "late":
                assert client.abandon(frame_id)
                sent.append((frame_id, good(frame_id)))
            case _:
                body = {"content": ECHO.answer[::-1], "short": ECHO.answer[:-1], "long": ECHO.answer + b"x"}[kind]
                failed.append((frame_id, "content"))
                sent.append((frame_id, encode_frame(200, frame_id, body)))
    random.Random(seed).shuffle(sent)
    data = b"".join(answer for _, answer in sent)
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    completed = [id_ for start, end in pairwise(edges) if start < end for id_ in client.feed(data[start:end])]
    order = [frame_id for frame_id, _ in sent]
    assert completed == sorted(wanted, key=order.index)
    assert client.failures == sorted(failed, key=lambda failure: order.index(failure[0]))
    assert not client.closing


@pytest.mark.parametrize("count", [1, 2, 7])
def test_expected_answers_are_not_parsed(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client = new_client()
    monkeypatch.setattr(FrameReader, "parse", None)
    ids = ask(client, count)[::-1]
    assert client.feed(b"".join(map(good, ids))) in (ids, tuple(ids))


def test_an_abandoned_answer_is_ignored_and_the_others_count() -> None:
    client = new_client()
    first, second, third = ask(client, 3)
    assert client.abandon(second)
    assert list(client.feed(good(first) + good(second) + good(third))) == [first, third]
    assert not client.failures
    with pytest.raises(ProtocolError):
        client.feed(good(second))


@pytest.mark.parametrize("others", [0, 3])
def test_no_answer_with_a_flipped_byte_counts_unless_it_says_the_same(others: int) -> None:
    size = len(good(b"abcd"))
    for at in range(size):
        for bit in (0x01, 0x10, 0x80):
            client = new_client()
            ids = ask(client, 1 + others)
            flipped = bytearray(good(ids[0]))
            flipped[at] ^= bit
            try:
                completed = client.feed(b"".join(map(good, ids[1:])) + bytes(flipped))
            except ProtocolError:
                completed = []
            # Only the arguments mean nothing in an answer. An id that is another's, or nobody's, is not this one's.
            assert (ids[0] in completed) == (8 <= at < 16), (at, bit)


@pytest.mark.parametrize(
    "make",
    [
        lambda frame_id: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda frame_id: encode_frame(Opcode.ECHO, frame_id, ECHO.body),
        lambda frame_id: encode_frame(400, bytes(4), b"why", flags=FATAL),
        lambda frame_id: good(b"none"),
        lambda frame_id: good(frame_id) + good(frame_id),
        lambda frame_id: encode_frame(200, frame_id, b"", flags=MORE) + encode_frame(200, b"mix!", b""),
        lambda frame_id: encode_frame(200, frame_id, b"", flags=MORE) + encode_frame(404, frame_id, b""),
    ],
    ids=["not a frame", "a request", "fatal", "nobody's", "twice", "pieces mixed", "pieces of two minds"],
)
def test_what_breaks_the_protocol_is_an_error_of_it(make: Callable[[bytes], bytes]) -> None:
    client = new_client()
    frame_id, other = ask(client, 2)
    try:
        completed = list(client.feed(make(frame_id)))
    except ProtocolError:
        return
    # What came before counts; what is still due has failed, and the connection with it.
    assert completed == [frame_id]
    assert client.failures == [(other, "protocol")]
    assert client.closing


def test_an_answer_that_begins_in_pieces_does_not_match_whole() -> None:
    client = new_client()
    (frame_id,) = ask(client, 1)
    assert not client.feed(encode_frame(200, frame_id, b"x", flags=MORE))
    assert not client.feed(good(frame_id))
    assert client.failures == [(frame_id, "content")]


def test_without_content_check_any_body_with_a_good_status_counts() -> None:
    client = new_client(check_content=False)
    first, second = ask(client, 2)
    assert list(client.feed(encode_frame(200, first, b"something else"))) == [first]
    assert not client.feed(encode_frame(500, second, ECHO.answer))
    assert client.failures == [(second, "status")]


# Servers

Serve = Callable[..., ServerProcess]


@pytest.mark.parametrize(
    "wanted",
    [
        exchange(Opcode.HEALTH),
        exchange(Opcode.ECHO),
        ECHO,
        exchange(Opcode.BYTES, 70_000),
        exchange(Opcode.BYTES, 1000, b=7),
        exchange(Opcode.UPLOAD, 100_000),
        exchange(Opcode.WORK, a=10, b=1),
    ],
    ids=lambda wanted: wanted.path,
)
def test_exchanges_with_the_lean_server(serve: Serve, wanted: Exchange) -> None:
    server = serve(protocol="tcp")
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(TcpClient(wanted, server.address, True), sock, total=100, in_flight=16)
    assert len(set(outcome.completed)) == 100
    assert not outcome.failures


@pytest.mark.parametrize("opcode", [Opcode.ECHO, Opcode.UPLOAD, Opcode.BYTES])
def test_the_largest_bodies(serve: Serve, opcode: Opcode) -> None:
    server = serve(protocol="tcp")
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(TcpClient(exchange(opcode, MAX_BODY_BYTES), server.address, True), sock, total=1)
    assert len(outcome.completed) == 1


def test_a_server_that_refuses_gives_failures(serve: Serve) -> None:
    server = serve(protocol="tcp")
    with socket.create_connection((server.host, server.port)) as sock:
        wanted = Exchange("GET", "", Opcode.BYTES, MAX_BODY_BYTES + 1, 0, b"", b"")
        outcome = drive(TcpClient(wanted, server.address, True), sock, total=3, in_flight=2)
    assert [kind for _, kind in outcome.failures] == ["status"] * 3


def test_a_server_of_another_protocol_is_found_out(serve: Serve) -> None:
    server = serve(protocol="http1")
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(TcpClient(ECHO, server.address, True), sock, total=1)
    assert outcome.broken


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([b"", b"one", b"two" * 50]), max_size=6), st.lists(st.integers(0, 400), max_size=16))
def test_subscribers_of_one_topic_may_have_their_events_in_different_pieces(
    events: list[bytes], cuts: list[int]
) -> None:
    frames = [encode_event(NO_ID, number, event) for number, event in enumerate(events, 1)]
    stream = b"".join(frames)
    subscribers = [FrameSubscriber("news", "h:1", "tcp") for _ in range(3)]
    taken: list[list[bytes]] = [[] for _ in subscribers]
    for number, pieces in enumerate((frames, frames, [stream[a:b] for a, b in pairwise([0, *sorted(cuts), None])])):
        subscribers[number].feed(encode_event(NO_ID, 0, b""))  # the answer to the subscription
        for piece in pieces:
            taken[number] += subscribers[number].feed(piece)
        assert subscribers[number].last_id == (len(events) or None)
    assert taken == [events] * 3
