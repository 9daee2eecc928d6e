"""The lean HTTP/2 server: what clients that keep to RFC 9113 get, with h2 and hyperframe for readers."""

import hashlib
import random
import re
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame as hf
import pytest
from hpack import Encoder
from http2_harness import (
    GET,
    HELLO,
    PUT,
    Client,
    Pipe,
    Server,
    data,
    goaways,
    greeted,
    headers,
    parse,
    raw,
    resets,
    talk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import pattern, upload_receipt
from bench.wire.http2_frames import PREFACE, ErrorCode
from servers import http2
from servers.counters import ACCEPTS, REQUESTS
from servers.http2 import Http2Connection
from servers.http2_serving import MAX_STREAMS, MAX_UNSENT_BYTES

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
@settings(derandomize=True, max_examples=25, deadline=None)
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
    assert [len(frame.data) for frame in frames[1:]] == [16384, 3616, 16384, 3616, 10000]
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


def test_what_is_urgent_is_run_and_sent_first_when_the_socket_takes_more() -> None:
    server = Server(high_water=10_000)
    server.feed(HELLO, hf.WindowUpdateFrame(0, 1 << 30), hf.SettingsFrame(0, {4: 1 << 30}))
    wanted = [*GET[:3], (b":path", b"/bytes/100000")]
    server.connection.data_received(headers(1, [*GET[:3], (b":path", b"/bytes/2000000")]).serialize())
    for stream_id, said in ((3, b""), (5, b"u=7"), (7, b"u=1, i"), (9, b"u=9"), (11, b"i, u=0;x")):
        fields = [*wanted, (b"priority", said)] if said else wanted
        server.connection.data_received(headers(stream_id, fields).serialize())
    assert server.ran == 1
    frames = []
    while server.pipe.written:
        frames += server.frames()
    ended = [frame.stream_id for frame in frames if isinstance(frame, hf.DataFrame) and "END_STREAM" in frame.flags]
    assert ended == [11, 7, 3, 9, 1, 5]


def test_nothing_more_is_read_once_too_much_waits_for_the_socket() -> None:
    """What is refused is answered at once, and costs a client that reads nothing no more than we."""
    server = Server(high_water=10_000)
    server.feed(HELLO, hf.WindowUpdateFrame(0, 1 << 30), hf.SettingsFrame(0, {4: 1 << 30}))
    refused = [(b":method", b"HEAD"), *GET[1:3], (b":path", b"/nothing")]
    stream_id = 1
    while server.pipe.reading:
        assert len(server.pipe.written) < 2 * MAX_UNSENT_BYTES
        server.connection.data_received(
            b"".join(headers(i, refused).serialize() for i in range(stream_id, stream_id + 200, 2))
        )
        stream_id += 200
    assert len(server.pipe.written) > MAX_UNSENT_BYTES
    while server.pipe.written:
        server.pipe.take()
    assert server.pipe.reading


def test_nothing_is_run_while_the_socket_takes_no_more_and_no_more_is_kept_than_streams() -> None:
    server = Server(high_water=10_000)
    server.feed(HELLO, hf.WindowUpdateFrame(0, 1 << 30), hf.SettingsFrame(0, {4: 1 << 30}))
    server.connection.data_received(headers(1, [*GET[:3], (b":path", b"/bytes/2000000")]).serialize())
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
    assert (
        sum(len(frame.data) for frame in frames if frame.stream_id == 1 and isinstance(frame, hf.DataFrame))
        == 2_000_000
    )
    assert {frame.stream_id for frame in frames} == {1, 3}
    assert server.ran == 2
    server.connection.data_received(headers(7, [*GET[:3], (b":path", b"/bytes/2000000")]).serialize())
    server.connection.data_received(b"".join(headers(i).serialize() for i in range(9, 9 + 2 * MAX_STREAMS, 2)))
    refused = []
    while server.pipe.written:
        refused += [frame for frame in server.frames() if isinstance(frame, hf.RstStreamFrame)]
    assert [(frame.stream_id, frame.error_code) for frame in refused] == [(7 + 2 * MAX_STREAMS, 7)]


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
