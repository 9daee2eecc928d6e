"""The lean HTTP/2 server against RFC 9113, with h2 and hyperframe for readers of what it says, and real clients."""

import asyncio
import hashlib
import random
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import hyperframe.frame as hf
import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import pattern, upload_receipt
from bench.serverprocess import ServerProcess
from bench.wire.http2 import MAX_CONTINUATIONS
from bench.wire.http2_frames import PREFACE, ErrorCode, encode_frame, encode_settings
from servers import http2
from servers.counters import ACCEPTS, REQUESTS, Counters
from servers.http2 import MAX_STREAMS, STRAIN_BURST, Http2Connection
from servers.service import Route, Service
from servers.worker import Worker

HELLO = PREFACE + encode_settings({})


class Pipe(asyncio.Transport):
    """What the server writes, until it is taken. Above `high_water` bytes it asks the server to pause."""

    def __init__(self, high_water: int = 1 << 62) -> None:
        super().__init__()
        self.written = bytearray()
        self.connection: Any = None
        self.high_water = high_water
        self.reading = True
        self.ended = self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.ended
        assert not self.closed
        self.written += data
        if len(self.written) > self.high_water:
            self.connection.pause_writing()

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        if len(data) > self.high_water:
            self.connection.resume_writing()
        return data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Server:
    """A connection of the server without a socket. Requests run at once, or with `hold` when `release` is called."""

    def __init__(self, hold: bool = False, high_water: int = 1 << 62) -> None:
        self.held: list[tuple[Any, Route, bytes]] = []
        self.ran = 0
        self._hold = hold
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.slot = Counters(1)[0]
        self.worker = Worker(Service(), self._run, lambda s, callback: self.later.append((s, callback)), self.slot)
        self.pipe = Pipe(high_water)
        self.connection = self.pipe.connection = Http2Connection(self.worker)
        self.connection.connection_made(self.pipe)

    def _run(self, _connection: Any, token: Any, route: Route, body: bytes) -> None:
        self.ran += 1
        if self._hold:
            self.held.append((token, route, body))
        else:
            self.connection.answer(token, route, route.execute(body))

    def release(self) -> None:
        token, route, body = self.held.pop(0)
        self.connection.answer(token, route, route.execute(body))

    def feed(self, *frames: bytes | hf.Frame) -> list[Any]:
        """The frames that come back."""
        self.connection.data_received(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))
        return self.frames()

    def frames(self) -> list[Any]:
        return parse(self.pipe.take())


def parse(data: bytes) -> list[Any]:
    frames = []
    while data:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


def greeted(hold: bool = False) -> Server:
    server = Server(hold)
    opening = server.feed(HELLO)
    assert [type(frame) for frame in opening] == [hf.SettingsFrame, hf.WindowUpdateFrame, hf.SettingsFrame]
    return server


GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/health")]
PUT = [(b":method", b"PUT"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/echo")]


def headers(stream_id: int, fields: list[tuple[bytes, bytes]] = GET, end: bool = True) -> hf.HeadersFrame:
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    # A new encoder each time, with a field kept out of the table: the blocks go with any state of the decoder.
    block = Encoder().encode([(name, value, True) for name, value in fields])
    return hf.HeadersFrame(stream_id, block, flags=flags)


def data(stream_id: int, payload: bytes, end: bool = False) -> hf.DataFrame:
    return hf.DataFrame(stream_id, payload, flags=["END_STREAM"] if end else [])


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return encode_frame(kind, flags, stream_id, payload)


def resets(frames: list[Any]) -> list[tuple[int, int]]:
    return [(frame.stream_id, frame.error_code) for frame in frames if isinstance(frame, hf.RstStreamFrame)]


def goaways(frames: list[Any]) -> list[int]:
    return [frame.error_code for frame in frames if isinstance(frame, hf.GoAwayFrame)]


# Against h2


class Client:
    """h2's state machine, and the answers it has got."""

    def __init__(self, **settings: int) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        initial = {h2.settings.SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=initial)
        self.h2.initiate_connection()
        self.answers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.interim: list[int] = []
        self.ended: set[int] = set()
        self.unsent: dict[int, bytes] = {}
        self.events: list[Any] = []

    def request(self, method: str, path: str, body: bytes | None = None, **fields: str) -> int:
        stream_id: int = self.h2.get_next_available_stream_id()
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path), *named]
        self.h2.send_headers(stream_id, head, end_stream=body is None)
        if body is not None:
            self.unsent[stream_id] = body
        return stream_id

    def send(self) -> bytes:
        """What there is to send now; bodies as far as the windows go."""
        for stream_id in list(self.unsent):
            while (body := self.unsent.get(stream_id)) is not None:
                n = min(len(body), self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                if n == 0 and body:
                    break
                self.h2.send_data(stream_id, body[:n], end_stream=n == len(body))
                if n == len(body):
                    del self.unsent[stream_id]
                else:
                    self.unsent[stream_id] = body[n:]
        return bytes(self.h2.data_to_send())

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            match event:
                case h2.events.InformationalResponseReceived():
                    self.interim.append(event.stream_id)
                case h2.events.ResponseReceived():
                    self.answers[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if event.flow_controlled_length:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)

    def status(self, stream_id: int) -> int:
        return int(self.answers[stream_id][b":status"])


def talk(client: Client, server: Server, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
    """Carry bytes both ways until nobody has anything to say."""
    while True:
        said = client.send()
        for piece in cut(said):
            server.connection.data_received(piece)
        answer = server.pipe.take()
        for piece in cut(answer):
            client.receive(piece)
        if not said and not answer:
            return


BODIES = st.integers(0, 70_000).map(pattern)
REQUESTS_AND_ANSWERS = st.one_of(
    st.just(("GET", "/health", None, 200, b"ok")),
    st.just(("HEAD", "/bytes/9", None, 200, b"")),
    st.integers(0, 100_000).map(lambda n: ("GET", f"/bytes/{n}", None, 200, pattern(n))),
    st.integers(1, 20_000).map(lambda n: ("GET", f"/bytes/{n + 5}?chunk={n}", None, 200, pattern(n + 5))),
    BODIES.map(lambda body: ("POST", "/echo", body, 200, body)),
    BODIES.map(lambda body: ("PUT", "/upload", body, 200, upload_receipt(len(body), hashlib.sha256(body).digest()))),
    st.just(("GET", "/work?cpu_us=1", None, 200, b"done")),
    st.just(("GET", "/nothing", None, 404, b"no such operation: /nothing\n")),
    st.just(("PUT", "/nothing", pattern(50_000), 404, b"no such operation: /nothing\n")),
    st.just(("GET", "/bytes/x", None, 400, b"an argument of /bytes/x is not a whole number\n")),
    st.just(("DELETE", "/echo", None, 405, b"allowed here: POST, PUT\n")),
    st.just(("HEAD", "/nothing", None, 404, b"")),
)


@given(
    st.lists(REQUESTS_AND_ANSWERS, min_size=1, max_size=12),
    st.sampled_from([0, 1, 100, 65535, 1 << 20]),
    st.sampled_from([0, 100, 4096]),
    st.integers(0, 1 << 30),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_h2_gets_what_it_asks_for(wanted: list[Any], window: int, table_bytes: int, seed: int) -> None:
    rng = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        edges = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(20)))})
        return [data[start:end] for start, end in pairwise(edges)]

    server, client = Server(), Client(INITIAL_WINDOW_SIZE=window, HEADER_TABLE_SIZE=table_bytes)
    asked = {client.request(method, path, body): rest for method, path, body, *rest in wanted}
    talk(client, server, cut)
    if window == 0:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 7})
        talk(client, server, cut)
    later = client.request("GET", "/health")  # the encoder's table went through all of that
    asked[later] = [200, b"ok"]
    talk(client, server, cut)
    assert client.ended == set(asked)
    assert {stream_id: [client.status(stream_id), client.bodies[stream_id]] for stream_id in asked} == asked
    assert server.slot.values[REQUESTS] == len(asked)
    assert server.slot.values[ACCEPTS] == 1


def test_the_fields_of_an_answer() -> None:
    server, client = Server(), Client()
    plain, head, pieces, refused = (
        client.request("GET", "/bytes/9"),
        client.request("HEAD", "/bytes/9"),
        client.request("GET", "/bytes/9?chunk=4"),
        client.request("GET", "/echo"),
    )
    talk(client, server)
    date = client.answers[plain][b"date"]
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    fields = {b":status": b"200", b"date": date, b"content-type": b"application/octet-stream"}
    assert client.answers[plain] == client.answers[head] == fields | {b"content-length": b"9"}
    assert client.answers[pieces] == fields
    assert client.answers[refused] == {
        b":status": b"405",
        b"date": date,
        b"content-type": b"text/plain",
        b"allow": b"POST, PUT",
        b"content-length": b"24",
    }


def test_equal_answers_are_small_and_a_new_date_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [b"Sun, 06 Nov 1994 08:49:37 GMT"]
    monkeypatch.setattr("servers.http2_messages.http_date", lambda: clock[0])
    server, client = Server(), Client()
    dates, sizes = [], []
    for number in range(9):
        if number == 5:
            clock[0] = b"Sun, 06 Nov 1994 08:49:38 GMT"
        stream_id = client.request("GET", f"/bytes/{2 + number % 2}")
        server.connection.data_received(client.send())
        sizes.append(len(server.pipe.written) - 2 - number % 2 - 18)
        client.receive(server.pipe.take())
        dates.append(client.answers[stream_id][b"date"][-6:-4])
        assert client.bodies[stream_id] == pattern(2 + number % 2)
    assert dates == [b"37"] * 5 + [b"38"] * 4
    assert [number for number, size in enumerate(sizes) if size > 7] == [0, 5]


@pytest.mark.parametrize("table_bytes", [0, 100, 4096])
def test_the_clients_table_changes_between_equal_answers(table_bytes: int) -> None:
    server, client = Server(), Client()
    for size in (4096, 4096, table_bytes, 4096):
        client.h2.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
        for _ in range(3):
            stream_id = client.request("GET", "/health")
            talk(client, server)
            assert client.answers[stream_id][b"content-length"] == b"2"


def test_pieces_are_data_frames() -> None:
    frames = greeted().feed(headers(1, [*GET[:3], (b":path", b"/bytes/50000?chunk=20000")]))
    assert [len(frame.data) for frame in frames[1:]] == [16384, 16384, 16384, 848]
    frames = greeted().feed(headers(1, [*GET[:3], (b":path", b"/bytes/10?chunk=4")]))
    assert [len(frame.data) for frame in frames[1:]] == [4, 4, 2]


def test_expect_continue() -> None:
    server, client = Server(), Client()
    stream_id = client.request("PUT", "/echo", b"body", expect="100-continue")
    unsent, client.unsent = client.unsent, {}
    talk(client, server)
    assert client.interim == [stream_id]
    client.unsent = unsent
    talk(client, server)
    assert client.bodies[stream_id] == b"body"
    refused = client.request("PUT", "/nothing", b"", expect="100-continue")
    other = client.request("PUT", "/echo", b"", expect="200-ok")
    talk(client, server)
    assert client.interim == [stream_id]
    assert (client.status(refused), client.status(other)) == (404, 417)


def test_trailers() -> None:
    server, client = Server(), Client()
    stream_id = client.request("PUT", "/echo", b"")
    client.unsent.clear()
    client.h2.send_data(stream_id, b"abc")
    client.h2.send_headers(stream_id, [("checksum", "1")], end_stream=True)
    talk(client, server)
    assert client.bodies[stream_id] == b"abc"


def test_headers_over_the_limit() -> None:
    server, client = Server(), Client()
    assert client.h2.remote_settings.max_header_list_size is None
    talk(client, server)
    limit = client.h2.remote_settings.max_header_list_size
    assert limit is not None
    own = sum(len(n) + len(v) + 32 for n, v in GET) + len("long") + 32
    fits = client.request("GET", "/health", long="x" * (limit - own))
    talk(client, server)
    too_long = client.request("GET", "/health", long="x" * (limit - own + 1))
    talk(client, server)
    assert (client.status(fits), client.status(too_long)) == (200, 431)
    after = client.request("GET", "/health")
    talk(client, server)
    assert client.status(after) == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit(announced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr("servers.http2_messages.MAX_BODY_BYTES", 1000)
    server = greeted()
    length = [(b"content-length", b"2000")] if announced else []
    frames = server.feed(headers(1, PUT + length, end=False))
    frames += server.feed(data(1, bytes(1000)), data(1, bytes(1)))
    assert [type(frame) for frame in frames] == [hf.HeadersFrame, hf.DataFrame]
    assert frames[1].data.startswith(b"the body is longer than")
    # The rest of the body is on its way, and disturbs nobody. After a while the stream is cut.
    assert server.feed(data(1, bytes(990))) == []
    ((_, cut),) = server.later
    cut()
    assert resets(server.frames()) == [(1, ErrorCode.NO_ERROR)]
    assert server.feed(data(1, bytes(9), end=True)) == []
    assert len(server.feed(headers(3))) == 2
    assert server.slot.values[REQUESTS] == 2


def test_a_body_over_the_limit_ends_after_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "MAX_BODY_BYTES", 1000)
    server = greeted()
    assert len(server.feed(headers(1, PUT, end=False), data(1, bytes(1001)))) == 2
    assert server.feed(data(1, bytes(9), end=True)) == []
    assert not server.connection.streams
    ((_, cut),) = server.later
    cut()
    assert server.frames() == []


def test_a_body_over_the_limit_ends_before_the_refusal_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "MAX_BODY_BYTES", 1000)
    server = Server()
    server.feed(PREFACE, hf.SettingsFrame(0, {hf.SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    frames = server.feed(headers(1, PUT, end=False), data(1, bytes(1001)), data(1, b"", end=True))
    assert [type(frame) for frame in frames] == [hf.HeadersFrame]
    frames = server.feed(hf.WindowUpdateFrame(1, 100))
    assert [type(frame) for frame in frames] == [hf.DataFrame]
    assert server.slot.values[REQUESTS] == 1


def test_concurrent_answers_in_any_order() -> None:
    server, client = Server(hold=True), Client()
    first, second = client.request("GET", "/bytes/1"), client.request("GET", "/bytes/2")
    talk(client, server)
    server.held.reverse()
    server.release()
    client.receive(server.pipe.take())
    assert client.ended == {second}
    server.release()
    client.receive(server.pipe.take())
    assert client.ended == {first, second}


# What is wrong, and what it gets: section numbers of RFC 9113.


def in_vain(spoil: Callable[[int], hf.Frame]) -> Iterator[hf.Frame]:
    """More requests that come to nothing than anybody needs."""
    for stream_id in range(1, 2 * STRAIN_BURST + 400, 2):
        yield headers(stream_id, PUT, end=False)
        yield spoil(stream_id)


FRAME_ERRORS: dict[str, tuple[list[Any], int]] = {
    "3.4 no settings first": ([PREFACE, headers(1)], ErrorCode.PROTOCOL_ERROR),
    "3.4 an acknowledgement first": ([PREFACE, raw(4, 1, 0)], ErrorCode.PROTOCOL_ERROR),
    "3.4 http/1.1": ([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"], ErrorCode.PROTOCOL_ERROR),
    "3.4 a preface that goes wrong": ([PREFACE[:-1], b"!"], ErrorCode.PROTOCOL_ERROR),
    "4.2 a frame too long": ([HELLO, raw(0xF0, 0, 0, bytes(16385))], ErrorCode.FRAME_SIZE_ERROR),
    "4.3 a block that cannot be decoded": ([HELLO, raw(1, 5, 1, b"\xff\xff")], ErrorCode.COMPRESSION_ERROR),
    "5.1 data on an idle stream": ([HELLO, data(1, b"")], ErrorCode.PROTOCOL_ERROR),
    "5.1 reset of an idle stream": ([HELLO, hf.RstStreamFrame(1)], ErrorCode.PROTOCOL_ERROR),
    "5.1 window of an idle stream": ([HELLO, hf.WindowUpdateFrame(1, 1)], ErrorCode.PROTOCOL_ERROR),
    "5.1 data after the end": ([HELLO, headers(1), data(1, b"")], ErrorCode.STREAM_CLOSED),
    "5.1 headers after the end": ([HELLO, headers(1), headers(1)], ErrorCode.STREAM_CLOSED),
    "5.1 data after a reset": (
        [HELLO, headers(1, PUT, end=False), hf.RstStreamFrame(1), data(1, b"")],
        ErrorCode.STREAM_CLOSED,
    ),
    "5.1.1 an even stream": ([HELLO, headers(2)], ErrorCode.PROTOCOL_ERROR),
    "5.1.1 a stream that was skipped": ([HELLO, headers(5), headers(3)], ErrorCode.PROTOCOL_ERROR),
    "6.1 data on stream 0": ([HELLO, raw(0, 0, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.1 too much padding": ([HELLO, headers(1, PUT, False), raw(0, 8, 1, b"\x05abc")], ErrorCode.PROTOCOL_ERROR),
    "6.1 no padding length": ([HELLO, headers(1, PUT, False), raw(0, 8, 1)], ErrorCode.FRAME_SIZE_ERROR),
    "6.2 headers on stream 0": ([HELLO, raw(1, 5, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.2 another frame in a block": ([HELLO, raw(1, 1, 1), raw(6, 0, 0, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.2 an unknown frame in a block": ([HELLO, raw(1, 1, 1), raw(0xF0, 0, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.2 too short for its priority": ([HELLO, raw(1, 0x25, 1, b"abcd")], ErrorCode.FRAME_SIZE_ERROR),
    "6.3 priority on stream 0": ([HELLO, raw(2, 0, 0, bytes(5))], ErrorCode.PROTOCOL_ERROR),
    "6.3 priority of 4 bytes": ([HELLO, raw(2, 0, 1, bytes(4))], ErrorCode.FRAME_SIZE_ERROR),
    "6.4 reset on stream 0": ([HELLO, raw(3, 0, 0, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.4 reset of 3 bytes": ([HELLO, headers(1, PUT, False), raw(3, 0, 1, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5 settings on a stream": ([HELLO, raw(4, 0, 1)], ErrorCode.PROTOCOL_ERROR),
    "6.5 settings of 5 bytes": ([HELLO, raw(4, 0, 0, bytes(5))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5 an acknowledgement with content": ([HELLO, raw(4, 1, 0, bytes(6))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5.2 push 2": ([HELLO, raw(4, 0, 0, b"\0\2\0\0\0\2")], ErrorCode.PROTOCOL_ERROR),
    "6.5.2 window 2^31": ([HELLO, raw(4, 0, 0, b"\0\4\x80\0\0\0")], ErrorCode.FLOW_CONTROL_ERROR),
    "6.5.2 frames of 16383": ([HELLO, raw(4, 0, 0, b"\0\5\0\0\x3f\xff")], ErrorCode.PROTOCOL_ERROR),
    "6.5.2 frames of 2^24": ([HELLO, raw(4, 0, 0, b"\0\5\1\0\0\0")], ErrorCode.PROTOCOL_ERROR),
    "6.6 push promise": ([HELLO, raw(5, 4, 1, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.7 ping on a stream": ([HELLO, raw(6, 0, 1, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.7 ping of 7 bytes": ([HELLO, raw(6, 0, 0, bytes(7))], ErrorCode.FRAME_SIZE_ERROR),
    "6.8 goaway on a stream": ([HELLO, raw(7, 0, 1, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.8 goaway of 7 bytes": ([HELLO, raw(7, 0, 0, bytes(7))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9 window of 3 bytes": ([HELLO, raw(8, 0, 0, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9 window by 0": ([HELLO, raw(8, 0, 0, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.9.1 window over 2^31-1": ([HELLO, raw(8, 0, 0, b"\x7f\xff\xff\xff")], ErrorCode.FLOW_CONTROL_ERROR),
    "6.9.2 streams' windows over 2^31-1": (
        [HELLO, headers(1, PUT, False), hf.WindowUpdateFrame(1, 2**31 - 65536), raw(4, 0, 0, b"\0\4\0\1\0\0")],
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "6.10 continuation of nothing": ([HELLO, raw(9, 4, 1)], ErrorCode.PROTOCOL_ERROR),
    "6.10 continuation of another stream": ([HELLO, raw(1, 1, 1), raw(9, 4, 3)], ErrorCode.PROTOCOL_ERROR),
    "6.10 continuation after the end": ([HELLO, headers(1, PUT, False), raw(9, 4, 1)], ErrorCode.PROTOCOL_ERROR),
    "10.5.1 continuations without end": (
        [HELLO, raw(1, 1, 1), *[raw(9, 0, 1)] * (MAX_CONTINUATIONS + 1)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a block without end": (
        [HELLO, raw(1, 1, 1, bytes(16000)), *[raw(9, 0, 1, bytes(16000))] * 5],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a bomb": (
        [HELLO, raw(1, 5, 1, b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 4000)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 resets": ([HELLO, *in_vain(lambda i: hf.RstStreamFrame(i, 8))], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 requests to be reset": (
        [HELLO, *in_vain(lambda i: hf.WindowUpdateFrame(i, 2**31 - 1))],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 pings": ([HELLO, *[hf.PingFrame(0)] * (STRAIN_BURST + 200)], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 settings": ([HELLO, *[encode_settings({})] * (STRAIN_BURST + 200)], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 settings in one frame": (
        [HELLO, raw(4, 0, 0, b"\0\4\0\0\0\1\0\4\0\0\0\2" * 600)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 empty data": (
        [HELLO, headers(1, PUT, False), *[data(1, b"")] * (STRAIN_BURST + 200)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("frames", "code"), FRAME_ERRORS.values(), ids=FRAME_ERRORS)
def test_connection_errors(frames: list[Any], code: int) -> None:
    server = Server()
    back = server.feed(*frames)
    assert isinstance(back[-1], hf.GoAwayFrame)
    assert goaways(back) == [code]
    assert server.pipe.ended
    assert not server.pipe.aborted
    # What still comes is not looked at, and after a while the connection is cut.
    assert server.feed(headers(1001)) == []
    ((_, cut),) = server.later
    cut()
    assert server.pipe.aborted


STREAM_ERRORS: dict[str, tuple[list[Any], int]] = {
    "5.1 data when it was to end": ([headers(1), data(1, b"")], ErrorCode.STREAM_CLOSED),
    "5.1 headers when it was to end": ([headers(1), headers(1)], ErrorCode.STREAM_CLOSED),
    "6.9 window by 0": ([headers(1, PUT, False), raw(8, 0, 1, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.9.1 window over 2^31-1": ([headers(1, PUT, False), raw(8, 0, 1, b"\xff" * 4)], ErrorCode.FLOW_CONTROL_ERROR),
    "8.1 trailers that do not end it": ([headers(1, PUT, False), headers(1, [(b"a", b"b")], False)], 1),
    "8.1 trailers like a head": ([headers(1, PUT, False), headers(1)], ErrorCode.PROTOCOL_ERROR),
    "8.1.1 less than content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")], False), data(1, b"1234", end=True)],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "8.1.1 more than content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")], False), data(1, b"123456", end=True)],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "8.1.1 nothing after content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")])],
        ErrorCode.PROTOCOL_ERROR,
    ),
}
MALFORMED = {
    "no method": GET[1:],
    "no scheme": GET[:1] + GET[2:],
    "no path": GET[:3],
    "an empty path": [*GET[:3], (b":path", b"")],
    "two paths": [*GET, GET[3]],
    "a status": [*GET, (b":status", b"200")],
    "an unknown pseudo-header": [*GET, (b":version", b"2")],
    "a pseudo-header too late": [(b"a", b"b"), *GET],
    "trailers first": [(b"a", b"b")],
    "capitals": [*GET, (b"Accept", b"*")],
    "connection": [*GET, (b"connection", b"close")],
    "a host that is another": [*GET, (b"host", b"y")],
}
STREAM_ERRORS |= {f"8.3.1 {name}": ([headers(1, fields)], 1) for name, fields in MALFORMED.items()}


@pytest.mark.parametrize(("frames", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_stream_errors(frames: list[Any], code: int) -> None:
    server = greeted(hold=True)
    assert resets(server.feed(*frames)) == [(1, code)]
    # What was on its way is ignored, and the connection lives on.
    assert server.feed(data(1, b"late"), headers(1, [(b"a", b"b")]), hf.WindowUpdateFrame(1, 1)) == []
    server.feed(headers(3))
    while server.held:
        server.release()
    assert [frame.stream_id for frame in server.frames()] == [3, 3]


def test_more_data_than_a_stream_may_send() -> None:
    server = greeted()
    server.feed(headers(1, PUT, False))
    stream = server.connection.streams[1]
    stream.receive_window = 1000  # the server widens windows in time: only so is one ever exhausted
    assert resets(server.feed(data(1, bytes(1000)))) == []
    stream.receive_window = 1000
    assert resets(server.feed(data(1, bytes(1001)))) == [(1, ErrorCode.FLOW_CONTROL_ERROR)]


def test_more_data_than_the_connection_may_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http2Connection, "connection_window_bytes", 1000)
    assert goaways(greeted().feed(headers(1, PUT, False), data(1, bytes(1001)))) == [ErrorCode.FLOW_CONTROL_ERROR]


def test_too_many_streams_are_refused_and_orphans_count() -> None:
    server = greeted(hold=True)
    ids = range(1, 2 * MAX_STREAMS + 1, 2)
    server.feed(*map(headers, ids))
    assert resets(server.feed(headers(601))) == [(601, ErrorCode.REFUSED_STREAM)]
    # Resetting a stream does not stop its request, so it makes no room before that is over.
    assert resets(server.feed(hf.RstStreamFrame(1, 8), headers(603))) == [(603, ErrorCode.REFUSED_STREAM)]
    server.release()
    assert server.feed(headers(605)) == []
    while server.held:
        server.release()
    assert {frame.stream_id for frame in server.frames()} == {*ids[1:], 605}


def test_a_client_may_reset_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("servers.http2.time.monotonic", lambda: now[0])
    server = greeted()
    for stream_id in range(1, 6 * STRAIN_BURST, 2):
        assert goaways(server.feed(headers(stream_id, PUT, False), hf.RstStreamFrame(stream_id, 8))) == []
        now[0] += 0.02
    assert len(server.feed(headers(6 * STRAIN_BURST + 1))) == 2


def test_ping_is_answered() -> None:
    (pong,) = greeted().feed(hf.PingFrame(0, b"12345678"))
    assert (pong.opaque_data, pong.flags) == (b"12345678", {"ACK"})
    assert greeted().feed(hf.PingFrame(0, b"12345678", flags=["ACK"])) == []


def test_a_block_in_continuations() -> None:
    block = Encoder().encode(GET)
    parts = [raw(9, 0, 1, block[i : i + 1]) for i in range(2, 9)]
    frames = greeted().feed(raw(1, 1, 1, block[:2]), *parts, raw(9, 4, 1, block[9:]))
    assert frames[1].data == b"ok"


def test_the_body_of_an_answer_waits_for_both_windows() -> None:
    server = greeted()
    frames = server.feed(headers(1, [*GET[:3], (b":path", b"/bytes/200000")]))
    assert sum(len(frame.data) for frame in frames[1:]) == 65535
    assert server.feed(hf.WindowUpdateFrame(0, 100_000)) == []
    frames = server.feed(hf.WindowUpdateFrame(1, 200_000))
    assert sum(len(frame.data) for frame in frames) == 100_000
    frames = server.feed(hf.WindowUpdateFrame(0, 100_000))
    assert sum(len(frame.data) for frame in frames) == 200_000 - 165_535
    assert "END_STREAM" in frames[-1].flags


def test_small_answers_wait_for_the_window_of_the_connection() -> None:
    server = greeted()
    frames = server.feed(*(headers(i, [*GET[:3], (b":path", b"/bytes/16000")]) for i in range(1, 11, 2)))
    assert sum(len(frame.data) for frame in frames if isinstance(frame, hf.DataFrame)) == 65535
    frames = server.feed(hf.WindowUpdateFrame(0, 14_464), headers(11))
    assert sum(len(frame.data) for frame in frames if isinstance(frame, hf.DataFrame)) == 14_464
    frames = server.feed(hf.WindowUpdateFrame(0, 100_000))
    assert sum(len(frame.data) for frame in frames) == 1 + len(b"ok")


def test_nothing_is_run_or_read_while_the_socket_takes_no_more() -> None:
    server = Server(high_water=10_000)
    server.feed(HELLO, hf.WindowUpdateFrame(0, 1 << 30), hf.SettingsFrame(0, {4: 1 << 30}))
    server.connection.data_received(headers(1, [*GET[:3], (b":path", b"/bytes/2000000")]).serialize())
    assert not server.pipe.reading
    assert len(server.pipe.written) < 400_000
    before = len(server.pipe.written)
    server.connection.data_received(
        headers(3).serialize() + headers(5).serialize() + hf.RstStreamFrame(5, 8).serialize()
    )
    assert len(server.pipe.written) == before
    assert server.slot.values[REQUESTS] == 3
    frames = []
    while server.pipe.written:
        frames += server.frames()
    assert server.pipe.reading
    assert (
        sum(len(frame.data) for frame in frames if frame.stream_id == 1 and isinstance(frame, hf.DataFrame))
        == 2_000_000
    )
    assert {frame.stream_id for frame in frames} == {1, 3}
    assert server.ran == 2


def test_many_answers_at_once_do_not_pile_up() -> None:
    server = Server(high_water=10_000)
    server.feed(HELLO, hf.WindowUpdateFrame(0, 1 << 30))
    big = [*GET[:3], (b":path", b"/bytes/16000")]
    server.connection.data_received(b"".join(headers(i, big).serialize() for i in range(1, 401, 2)))
    assert len(server.pipe.written) < 600_000
    frames = []
    while server.pipe.written:
        frames += server.frames()
    assert len({frame.stream_id for frame in frames}) == 200


# The end


def test_drain_when_idle() -> None:
    server = greeted()
    server.feed(headers(1))
    server.worker.drain()
    (goaway,) = server.frames()
    assert (goaway.error_code, goaway.last_stream_id) == (ErrorCode.NO_ERROR, 1)
    assert server.pipe.closed


def test_drain_lets_requests_finish_and_takes_no_more() -> None:
    server = greeted(hold=True)
    server.feed(headers(1), headers(3, PUT, False))
    server.worker.drain()
    server.worker.drain()
    (goaway,) = server.frames()
    assert (goaway.error_code, goaway.last_stream_id) == (ErrorCode.NO_ERROR, 3)
    assert server.feed(headers(5, PUT, False), data(5, b"ignored"), hf.RstStreamFrame(5, 8)) == []
    assert not server.pipe.closed
    server.feed(data(3, b"body", end=True))
    server.release()
    assert not server.pipe.closed
    server.release()
    assert server.pipe.closed
    frames = server.frames()
    assert [frame.stream_id for frame in frames] == [1, 1, 3, 3]


def test_a_connection_that_comes_while_draining() -> None:
    server = Server()
    server.worker.draining = True
    other = Http2Connection(server.worker)
    pipe = Pipe()
    other.connection_made(pipe)
    assert goaways(parse(pipe.take())) == [ErrorCode.NO_ERROR]
    assert pipe.closed


def test_answers_after_the_connection_has_gone() -> None:
    server = greeted(hold=True)
    server.feed(headers(1), headers(3))
    server.release()
    server.frames()
    server.connection.connection_lost(None)
    server.release()
    assert not server.pipe.written
    assert not server.worker.connections


def test_abort() -> None:
    server = greeted()
    server.connection.abort()
    assert server.pipe.aborted


# Fuzz


def test_random_bytes() -> None:
    rng = random.Random(9113)
    session = Client()
    for request in [("GET", "/bytes/9", None), ("PUT", "/echo", pattern(40_000)), ("GET", "/nothing", None)]:
        session.request(*request)
    good = session.send()
    outcomes = set()
    for number in range(6000):
        wild = bytearray(good)
        if number % 3 == 0:
            wild = bytearray(HELLO + rng.randbytes(200))
        elif number % 3 == 1:
            for _ in range(rng.randrange(1, 4)):
                wild[rng.randrange(len(PREFACE), min(len(wild), 400))] = rng.randrange(256)
        else:  # frames with heads that make sense
            wild = bytearray(HELLO)
            for _ in range(30):
                payload = rng.randbytes(rng.choice([0, 4, 5, 6, 8, 20]))
                wild += raw(rng.randrange(11), rng.choice([0, 1, 4, 5, 0x2D]), rng.choice([0, 1, 3]), payload)
        server = Server()
        start = 0
        while start < len(wild):
            end = start + rng.randrange(1, 500)
            server.connection.data_received(bytes(wild[start:end]))
            start = end
        frames = server.frames()  # whatever came in, what goes out can be read
        errors = goaways(frames)
        assert server.pipe.ended == bool(errors)
        outcomes.update(errors)
    assert {ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.COMPRESSION_ERROR} <= outcomes
    assert ErrorCode.INTERNAL_ERROR not in outcomes


# Real clients


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server for all tests with real clients."""
    with ServerProcess("http2") as server:
        yield server
        server.stop()
        assert server.stderr == ""


@pytest.fixture
def curl(server: ServerProcess, need: Callable[[str], str]) -> Callable[..., bytes]:
    program = need("curl")

    def run(path: str, *options: str, stdin: bytes = b"") -> bytes:
        url = f"http://{server.host}:{server.port}{path}"
        command = [program, "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "20", *options, url]
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout

    return run


class TestCurl:
    def test_echo(self, curl: Callable[..., bytes]) -> None:
        assert curl("/echo", "--data-binary", "@-", stdin=pattern(3_000_000)) == pattern(3_000_000)

    def test_download(self, curl: Callable[..., bytes]) -> None:
        assert hashlib.sha256(curl("/bytes/67108864")).digest() == hashlib.sha256(pattern(64 << 20)).digest()

    def test_pieces(self, curl: Callable[..., bytes]) -> None:
        assert curl("/bytes/300000?chunk=999") == pattern(300_000)

    def test_upload_without_a_length(self, curl: Callable[..., bytes]) -> None:
        receipt = upload_receipt(300_000, hashlib.sha256(pattern(300_000)).digest())
        assert curl("/upload", "--upload-file", "-", stdin=pattern(300_000)) == receipt

    def test_expect(self, curl: Callable[..., bytes]) -> None:
        answer = curl("/echo", "--header", "expect: 100-continue", "--data", "abc", "--include")
        assert answer.startswith(b"HTTP/2 100 \r\n")
        assert answer.endswith(b"\r\n\r\nabc")

    def test_head(self, curl: Callable[..., bytes]) -> None:
        head = curl("/bytes/5", "--head")
        assert head.startswith(b"HTTP/2 200 \r\n")
        assert b"content-length: 5\r\n" in head

    def test_refusals(self, curl: Callable[..., bytes]) -> None:
        status = ("--write-out", "%{http_code}", "--output", "/dev/null")
        assert curl("/nothing", *status, "--upload-file", "-", stdin=pattern(3_000_000)) == b"404"
        assert curl("/bytes/9", *status, "--data", "x") == b"405"
        assert curl("/bytes/-1", *status) == b"400"
        assert curl("/health", *status, "--header", "x: " + "y" * 40_000) == b"431"
        assert curl("/upload", *status, "--upload-file", "-", stdin=bytes((64 << 20) + 1)) == b"413"


def test_h2load(server: ServerProcess, need: Callable[[str], str]) -> None:
    for path, options in (("/health", ["-n5000"]), ("/bytes/40000", ["-n200"]), ("/work?wait_ms=5", ["-n200"])):
        url = f"http://{server.host}:{server.port}{path}"
        out = subprocess.run(
            [need("h2load"), *options, "-c4", "-m20", url], stdout=subprocess.PIPE, text=True, check=True, timeout=30
        ).stdout
        total = options[0][2:]
        assert f"{total} succeeded, 0 failed, 0 errored, 0 timeout" in out, out


def test_httpx(server: ServerProcess) -> None:
    async def exchange() -> None:
        base = f"http://{server.host}:{server.port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=base, timeout=20) as client:
            answers = await asyncio.gather(
                *(client.get(f"/bytes/{n * 1000}") for n in range(50)),
                *(client.post("/echo", content=pattern(n * 1000)) for n in range(50)),
            )
            for number, answer in enumerate(answers):
                assert answer.http_version == "HTTP/2"
                assert answer.content == pattern(number % 50 * 1000)

    asyncio.run(exchange())


def test_a_client_of_another_protocol_is_told_so(server: ServerProcess) -> None:
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        assert goaways(parse(received)) == [ErrorCode.PROTOCOL_ERROR]


def test_stopping_in_the_middle(serve: Callable[..., ServerProcess]) -> None:
    server = serve("http2")
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(HELLO + headers(1, [*GET[:3], (b":path", b"/work?wait_ms=300")]).serialize())
        received = b""
        while not any(frame.stream_id == 0 and "ACK" in frame.flags for frame in parse_whole(received)):
            received += sock.recv(65536)
        server.stop()
        while piece := sock.recv(65536):
            received += piece
    frames = parse(received)
    assert goaways(frames) == [ErrorCode.NO_ERROR]
    assert frames[-1].data == b"done"


def parse_whole(data: bytes) -> list[Any]:
    """The frames that are there whole."""
    at = 0
    while at + 9 <= len(data) and at + 9 + int.from_bytes(data[at : at + 3], "big") <= len(data):
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return parse(data[:at])
