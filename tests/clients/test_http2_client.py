"""The lean HTTP/2 client against h2, nghttpd, and servers that misbehave."""

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame as hf
import pytest
from client_driver import DEADLINE_S, drive
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import Exchange, Opcode, exchange, foreign_exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.http2_frames import MAX_STREAM_ID, ErrorCode, encode_frame, encode_settings, pack_id
from clients.http2 import FIRST_IN_FLIGHT, MAX_ABANDONED, MAX_IN_FLIGHT, Http2Client

HEALTH = exchange(Opcode.HEALTH)
ECHO = exchange(Opcode.ECHO, 100)
SettingCodes = h2.settings.SettingCodes


def new_client(wanted: Exchange = HEALTH, check_content: bool = True) -> Http2Client:
    client = Http2Client(wanted, "host:80", check_content)
    client.open()
    return client


def said(client: Http2Client) -> bytes:
    data = b"".join(client.outgoing)
    client.outgoing.clear()
    return data


def parse(data: bytes) -> list[Any]:
    frames = []
    while data:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


class Server:
    """h2's state machine, and the requests it has got."""

    def __init__(self, **settings: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        initial = {SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self.h2.initiate_connection()
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.complete: list[int] = []
        self.events: list[Any] = []
        self.hold_windows = False

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            match event:
                case h2.events.RequestReceived():
                    self.heads[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if not self.hold_windows:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.complete.append(event.stream_id)

    def send(self) -> bytes:
        return bytes(self.h2.data_to_send())

    def head(self, stream_id: int, status: int = 200, end: bool = False, **fields: str) -> None:
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        self.h2.send_headers(stream_id, [(":status", str(status)), *named], end_stream=end)

    def body(self, stream_id: int, body: bytes, end: bool = True, padding: int | None = None) -> None:
        for start in range(0, len(body) or 1, 16000):
            last = start + 16000 >= len(body)
            self.h2.send_data(stream_id, body[start : start + 16000], end and last, pad_length=padding)


def talk(client: Http2Client, server: Server, *requests: bytes) -> list[Any]:
    """Carry bytes both ways until nobody has anything to say; the ids that are complete."""
    done: list[Any] = []
    client_says = b"".join(requests) + said(client)
    while True:
        if client_says:
            server.receive(client_says)
        server_says = server.send()
        if server_says:
            done += client.feed(server_says)
        client_says = said(client)
        if not client_says and not server_says:
            return done


def connected(wanted: Exchange = HEALTH, check_content: bool = True, **settings: int) -> tuple[Http2Client, Server]:
    client, server = new_client(wanted, check_content), Server(**settings)
    talk(client, server)
    return client, server


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


def answer_frames(stream_id: int, body: bytes, block: bytes = b"\x88") -> list[bytes]:
    return [encode_frame(1, 4, stream_id, block), encode_frame(0, 1, stream_id, body)]


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
    above = [(packed_id, "closed") for packed_id in ids if packed_id > pack_id(last_id)]
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


# Real servers


def run(wanted: Exchange, host: str, port: int, total: int, in_flight: int, check_content: bool = True) -> None:
    with socket.create_connection((host, port), DEADLINE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Http2Client(wanted, f"{host}:{port}", check_content)
        outcome = drive(client, sock, total, in_flight)
    assert len(outcome.completed) == len(set(outcome.completed)) == total, outcome
    assert not outcome.failures


@pytest.fixture(scope="module")
def nghttpd(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nghttpd that serves the answers of the service as files."""
    root: Path = tmp_path_factory.mktemp("root")
    (root / "bytes").mkdir()
    (root / "health").write_bytes(HEALTH.answer)
    for size in (1, 1000, 100_000):
        (root / "bytes" / str(size)).write_bytes(exchange(Opcode.BYTES, size).answer)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [need("nghttpd"), "--no-tls", "--echo-upload", "--address=127.0.0.1", f"--htdocs={root}", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), DEADLINE_S).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        yield port
        process.kill()


@pytest.mark.parametrize(
    ("wanted", "total", "in_flight"),
    [
        (HEALTH, 5000, 16),
        (HEALTH, 200, 1),
        (HEALTH, 1000, 100),
        (exchange(Opcode.BYTES, 1), 1000, 16),
        (exchange(Opcode.BYTES, 1000), 2000, 50),
        (exchange(Opcode.BYTES, 100_000), 200, 10),
        (ECHO, 2000, 16),
        (exchange(Opcode.ECHO, 10_000), 300, 16),
        (exchange(Opcode.ECHO, 200_000), 60, 10),
    ],
)
def test_nghttpd(nghttpd: int, wanted: Exchange, total: int, in_flight: int) -> None:
    run(wanted, "127.0.0.1", nghttpd, total, in_flight)


def test_nghttpd_says_404(nghttpd: int) -> None:
    with socket.create_connection(("127.0.0.1", nghttpd), DEADLINE_S) as sock:
        outcome = drive(Http2Client(foreign_exchange("GET", "/nothing"), "x", False), sock, 40, 4)
    assert [kind for _, kind in outcome.failures] == ["status"] * 40


@pytest.mark.parametrize(
    ("wanted", "total", "in_flight"),
    [
        (HEALTH, 5000, 16),
        (exchange(Opcode.BYTES, 1000, b=100), 500, 20),
        (exchange(Opcode.BYTES, 3_000_000), 10, 5),
        (exchange(Opcode.BYTES, 0), 500, 20),
        (exchange(Opcode.ECHO, 64), 2000, 64),
        (exchange(Opcode.ECHO, 0), 200, 4),
        (exchange(Opcode.ECHO, 3_000_000), 10, 5),
        (exchange(Opcode.UPLOAD, 100_000), 200, 20),
        (exchange(Opcode.WORK, b=2), 300, 100),
    ],
)
def test_our_server(serve: Callable[..., ServerProcess], wanted: Exchange, total: int, in_flight: int) -> None:
    server = serve("http2")
    run(wanted, server.host, server.port, total, in_flight)
    assert sum(counts.requests for counts in server.stats()[0]) == total
