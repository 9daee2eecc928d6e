"""The lean HTTP/2 client: requests, answers and the connection, against h2."""

import random
from itertools import pairwise

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame as hf
import pytest
from h2.settings import SettingCodes
from http2_answering import ECHO, HEALTH, Server, answer_frames, connected, new_client, parse, said, talk
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import Exchange, Opcode, exchange, foreign_exchange
from bench.wire.http2_frames import MAX_STREAM_ID, ErrorCode, encode_settings, pack_id
from clients.http2 import FIRST_IN_FLIGHT, MAX_ABANDONED, MAX_IN_FLIGHT, Http2Client

# Requests


@pytest.mark.parametrize(
    "wanted", [HEALTH, ECHO, exchange(Opcode.ECHO), exchange(Opcode.BYTES, 5), exchange(Opcode.UPLOAD, 40_000)]
)
def test_a_request_is_what_h2_reads(wanted: Exchange) -> None:
    client, server = connected(wanted, INITIAL_WINDOW_SIZE=1 << 20)
    for count in (1, 3):
        ids, pieces = client.request(count)
        talk(client, server, *pieces)
        assert len(ids) == count
    fields = {b":method": wanted.method.encode(), b":scheme": b"http", b":authority": b"host:80"}
    fields[b":path"] = wanted.path.encode()
    if wanted.method in ("POST", "PUT"):
        fields[b"content-length"] = b"%d" % len(wanted.body)
    assert list(server.heads.values()) == [fields] * 4
    assert list(server.bodies.values()) == [wanted.body] * 4
    assert server.complete == [1, 3, 5, 7]


def test_requests_go_out_with_the_preface_and_are_small_from_the_second_on() -> None:
    client, server = new_client(), Server()
    ids, pieces = client.request(3)
    assert ids == [pack_id(1), pack_id(3), pack_id(5)]
    talk(client, server, *pieces)
    assert list(server.heads) == [1, 3, 5]
    _, pieces = client.request(2)
    assert len(b"".join(pieces)) == 2 * (9 + 4)


def test_what_is_announced() -> None:
    preface, frames = (data := said(new_client()))[:24], parse(data[24:])
    assert preface == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert frames[0].settings == {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}
    assert (frames[1].stream_id, frames[1].window_increment) == (0, 2**31 - 1 - 65535)


@given(
    st.sampled_from([0, 1, 99, 100, 5000, 65535, 1 << 20]),
    st.sampled_from([1, 100, 20_000, 64 * 1024, 200_000]),
    st.integers(1, 5),
    st.integers(1, 5),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_bodies_keep_to_the_windows(window: int, size: int, first: int, second: int) -> None:
    wanted = exchange(Opcode.UPLOAD, size)
    client, server = connected(wanted, INITIAL_WINDOW_SIZE=window)  # h2 raises if a window is overrun
    server.hold_windows = True
    for count in (first, second):
        _, pieces = client.request(count)
        talk(client, server, *pieces)
    server.hold_windows = False
    for stream_id, body in server.bodies.items():
        if body:
            server.h2.acknowledge_received_data(len(body), stream_id)
    server.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window // 2 + 3000})
    talk(client, server)
    assert sorted(server.complete) == list(range(1, 2 * (first + second), 2))
    assert set(server.bodies.values()) == {wanted.body}


@pytest.mark.parametrize("table_bytes", [0, 50, 100, 4096, 1 << 20])
def test_the_servers_table(table_bytes: int) -> None:
    client, server = connected(HEADER_TABLE_SIZE=table_bytes)
    for _ in range(3):
        talk(client, server, *client.request(2)[1])
    server.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 60})
    talk(client, server)
    talk(client, server, *client.request(2)[1])
    assert len(server.heads) == 8
    assert len({tuple(head.items()) for head in server.heads.values()}) == 1


def test_how_much_may_be_in_flight() -> None:
    client, server = new_client(), Server(MAX_CONCURRENT_STREAMS=7)
    assert client.max_in_flight == FIRST_IN_FLIGHT
    talk(client, server)
    assert client.max_in_flight == 7
    server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1 << 20})
    talk(client, server)
    assert client.max_in_flight == MAX_IN_FLIGHT


def test_ids_run_out() -> None:
    client, _ = connected()
    client._next_id = MAX_STREAM_ID - 2 * MAX_IN_FLIGHT - 2
    client.request(1)
    assert not client.closing
    client.request(1)
    assert client.closing
    ids, _ = client.request(MAX_IN_FLIGHT)
    assert ids[-1] <= pack_id(MAX_STREAM_ID)


# Answers

RIGHT = ("plain", "no length", "end apart", "padded", "interim", "trailers", "another date")
WRONG = {"status": "status", "content": "content", "too short": "content", "too long": "content", "reset": "reset"}


def begin(server: Server, style: str, stream_id: int, wanted: Exchange) -> None:
    """The head of an answer."""
    fields = {"date": "now", "content_length": str(len(wanted.answer))}
    match style:
        case "no length" | "too short" | "too long" | "end apart":
            del fields["content_length"]
        case "another date":
            fields["date"] = f"at {stream_id}"
        case "interim":
            server.h2.send_headers(stream_id, [(":status", "103"), ("link", "x")])
    if style != "reset":
        server.head(stream_id, 500 if style == "status" else 200, **fields)


def finish(server: Server, style: str, stream_id: int, wanted: Exchange) -> None:
    """The rest of an answer."""
    answer = wanted.answer
    match style:
        case "end apart":
            server.body(stream_id, answer, end=False)
            server.body(stream_id, b"")
        case "padded":
            server.body(stream_id, answer, padding=stream_id % 200)
        case "trailers":
            server.body(stream_id, answer, end=False)
            server.h2.send_headers(stream_id, [("checksum", "1")], end_stream=True)
        case "content":
            server.body(stream_id, answer[:-1] + bytes([answer[-1] ^ 1]))
        case "too short":
            server.body(stream_id, answer[:-1])
        case "too long":
            server.body(stream_id, answer + b"!")
        case "reset":
            server.h2.reset_stream(stream_id, ErrorCode.INTERNAL_ERROR)
        case _:
            server.body(stream_id, answer)


EXCHANGES = [
    HEALTH,
    ECHO,
    exchange(Opcode.BYTES, 1000),
    exchange(Opcode.BYTES, 40_000),
    exchange(Opcode.UPLOAD, 30_000),
]
STYLES = st.lists(st.sampled_from([*["plain"] * 12, *RIGHT, *WRONG]), min_size=1, max_size=12)


@given(
    st.sampled_from(range(len(EXCHANGES))),
    st.lists(STYLES, min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 1 << 30),
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_answers_are_told_apart(number: int, rounds: list[list[str]], grouped: bool, seed: int) -> None:
    rng, wanted = random.Random(seed), EXCHANGES[number]
    client, server = connected(wanted, INITIAL_WINDOW_SIZE=1 << 20)
    for styles in rounds:
        ids, pieces = client.request(len(styles))
        talk(client, server, *pieces)
        assert len(server.complete) >= len(styles)
        order = list(zip(sorted(server.complete[-len(styles) :]), styles, strict=True))
        rng.shuffle(order)
        for stream_id, style in order:
            begin(server, style, stream_id, wanted)
            if not grouped:
                finish(server, style, stream_id, wanted)
        if grouped:
            rng.shuffle(order)
            for stream_id, style in order:
                finish(server, style, stream_id, wanted)
        answers = server.send()
        edges = sorted({0, len(answers), *(rng.randrange(len(answers)) for _ in range(rng.choice([0, 3, 30])))})
        completed = [done for start, end in pairwise(edges) for done in client.feed(answers[start:end])]
        failed = dict(client.failures)
        right = [packed for packed, style in zip(ids, styles, strict=True) if style in RIGHT]
        assert sorted(completed) == right
        assert failed == {p: WRONG[style] for p, style in zip(ids, styles, strict=True) if style in WRONG}
        assert len(client.failures) == len(failed)
        client.failures.clear()
        talk(client, server)


def test_without_checking_content_any_body_will_do() -> None:
    client, server = connected(foreign_exchange("GET", "/"), check_content=False)
    for number in range(1, 5):
        ids, pieces = client.request(3)
        talk(client, server, *pieces)
        for packed_id in ids:
            stream_id = int.from_bytes(packed_id, "big")
            server.head(stream_id, status=204 if number == 1 else 200, end=number == 1)
            if number > 1:
                server.body(stream_id, b"x" * (stream_id % 2 + number))
        assert talk(client, server) == ids
    assert not client.failures


def test_an_answer_to_head() -> None:
    client, server = connected(foreign_exchange("HEAD", "/"), check_content=False)
    ids, pieces = client.request(1)
    talk(client, server, *pieces)
    server.head(1, content_length="5", end=True)
    assert talk(client, server) == ids


def test_an_answer_before_the_request_is_sent_in_full() -> None:
    client, server = connected(exchange(Opcode.UPLOAD, 100_000))
    server.hold_windows = True
    ids, pieces = client.request(1)
    talk(client, server, *pieces)
    server.head(1, status=413, end=True)
    assert talk(client, server) == []
    assert client.failures == [(ids[0], "status")]
    assert [event.error_code for event in server.events if isinstance(event, h2.events.StreamReset)] == [8]
    server.h2.increment_flow_control_window(1 << 20)
    talk(client, server)
    assert len(server.bodies[1]) == 65535


# The connection


def test_ping_is_answered() -> None:
    client, server = connected()
    server.h2.ping(b"12345678")
    talk(client, server)
    assert [event.ping_data for event in server.events if isinstance(event, h2.events.PingAckReceived)] == [b"12345678"]


def test_windows_are_replenished_however_answers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http2Client, "connection_window_bytes", 10_000)
    wanted = exchange(Opcode.BYTES, 1000)
    client = new_client(wanted)
    said(client)
    client.feed(encode_settings({}))
    said(client)
    client.request(60)
    given_back = 0
    for stream_id in range(1, 120, 2):
        assert client.feed(b"".join(answer_frames(stream_id, wanted.answer))) == [pack_id(stream_id)]
        given_back += sum(frame.window_increment for frame in parse(said(client)))
        assert 2 * given_back >= 1000 * (stream_id // 2 + 1) - 6000
    assert given_back >= 54_000


def test_an_exchange_is_abandoned() -> None:
    client, server = connected(exchange(Opcode.BYTES, 1000))
    ids, pieces = client.request(3)
    talk(client, server, *pieces)
    server.head(3)
    talk(client, server)  # one is waiting, one has begun
    for stream_id in (1, 3):
        finish_late = [*answer_frames(stream_id, b"x")]
        assert client.abandon(pack_id(stream_id))
        (reset,) = parse(said(client))
        assert (reset.stream_id, reset.error_code) == (stream_id, ErrorCode.CANCEL)
        assert client.feed(b"".join(finish_late)) == []
    assert not client.failures
    server.head(5)
    server.body(5, client._exchange.answer)
    assert client.feed(server.send()) == [ids[2]]


def test_abandoned_exchanges_do_not_pile_up() -> None:
    client, _ = connected()
    for _ in range(MAX_ABANDONED + 10):
        (packed_id,), _ = client.request(1)
        client.abandon(packed_id)
        client.outgoing.clear()
    assert len(client._abandoned) == MAX_ABANDONED
    assert client.feed(b"".join(answer_frames(2 * MAX_ABANDONED + 1, b"late"))) == []


@pytest.mark.parametrize("last_id", [0, 1, 3, 5, MAX_STREAM_ID])
def test_goaway(last_id: int) -> None:
    client, server = connected(exchange(Opcode.BYTES, 1000))
    ids, pieces = client.request(3)
    talk(client, server, *pieces)
    server.head(5)
    talk(client, server)
    client.feed(hf.GoAwayFrame(0, last_id).serialize())
    assert client.closing
    kind = "unprocessed" if last_id else "closed"  # which never takes any
    above = [(packed_id, kind) for packed_id in ids if packed_id > pack_id(last_id)]
    assert sorted(client.failures) == above
    for stream_id in (1, 3, 5):
        if stream_id != 5:
            server.head(stream_id)
        server.body(stream_id, client._exchange.answer)
    assert client.feed(server.send()) == ids[: 3 - len(above)]


def test_the_end_completes_nothing() -> None:
    client, _ = connected()
    client.request(1)
    assert list(client.feed_eof()) == []
