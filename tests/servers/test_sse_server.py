"""Streams of server-sent events from the lean HTTP servers: what arrives, how it ends, and what a client that does not
read costs. h11 (in httpx), curl and h2 read what the servers say."""

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import h2.events
import httpx
import hyperframe.frame as hf
import pytest
from http2_harness import GET, HELLO, Client, Pipe, headers, raw, talk
from http2_harness import Server as Http2Harness

from bench.certificates import certificates
from bench.contract import Opcode as Op
from bench.contract import exchange, seeded_todo
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.sse import EventReader
from clients.sse import Http2Publisher, HttpPublisher, SseHttp2Subscriber, SseSubscriber
from servers import event_stream, topics
from servers.counters import Counters
from servers.http1 import Http1Connection
from servers.service import Route
from servers.topics import MAX_EVENT_BYTES, Topic
from tests.servers.make_worker import make_worker

Serve = Callable[..., ServerProcess]

DEADLINE_S = 10.0
ENDS = {"http1": (SseSubscriber, HttpPublisher), "http2": (SseHttp2Subscriber, Http2Publisher)}
MODELS = (
    *("single", "threads", "dispatch", "accept-threads", "thread-per-connection"),
    *("prefork", "reuseport", "reuseport-threads"),
)
"""Those where a publisher and a subscriber can meet in one process, if there is one worker process."""


class Peer:
    """A subscriber or publisher on a socket of its own, which waits for what is due."""

    def __init__(self, server: ServerProcess, kind: Callable[..., Any], **options: str) -> None:
        self.sock = socket.create_connection((server.host, server.port), DEADLINE_S)
        self.end = kind("news", f"{server.host}:{server.port}", **options)
        self.end.open()
        self.send()
        self.events: list[bytes] = []
        self.acknowledged = 0
        self.read_until(lambda: self.end.max_in_flight)

    def send(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join([*self.end.outgoing, *pieces]))
        self.end.outgoing.clear()

    def read_until(self, done: Callable[[], object]) -> None:
        while not done():
            data = self.sock.recv(1 << 20)
            assert data
            got = self.end.feed(data)
            if isinstance(got, int):
                self.acknowledged += got
            else:
                self.events += got
            self.send()

    def receive(self, count: int) -> list[bytes]:
        self.read_until(lambda: len(self.events) >= count)
        return self.events

    def publish(self, *payloads: bytes) -> None:
        due = self.acknowledged + len(payloads)
        for payload in payloads:
            self.send(*self.end.publish(payload))
        self.read_until(lambda: self.acknowledged == due)


@pytest.fixture
def meet(serve: Serve) -> Iterator[Callable[..., Peer]]:
    """Connects peers, which are closed when the test ends."""
    with ExitStack() as stack:

        def connect(*args: Any, **kw: Any) -> Peer:
            peer = Peer(*args, **kw)
            stack.enter_context(closing(peer.sock))
            return peer

        yield connect


# Through sockets


@pytest.mark.parametrize("execution", MODELS)
@pytest.mark.parametrize("protocol", ENDS)
def test_every_subscriber_gets_every_event_under_every_model(
    serve: Serve, meet: Callable[..., Peer], protocol: str, execution: str
) -> None:
    processes = execution in ("single", "prefork", "reuseport", "dispatch")
    server = serve(protocol, execution, 1 if processes else 3)
    subscriber, publisher = ENDS[protocol]
    subscribers = [meet(server, subscriber) for _ in range(5)]
    source = meet(server, publisher)
    source.publish(*(b"event %d" % number for number in range(100)))
    source.publish(b"", b"the last one")
    for peer in subscribers:
        assert peer.receive(102) == [*(b"event %d" % number for number in range(100)), b"", b"the last one"]
        assert peer.end.last_event_id == "102"
    late = meet(server, subscriber, after_id="100")
    assert late.receive(2) == [b"", b"the last one"]
    server.stop()
    for peer in subscribers:
        with_end = b""
        while data := peer.sock.recv(1 << 16):
            with_end += data
        assert with_end.startswith(b"0\r\n\r\n" if protocol == "http1" else b"\0\0\x08\x07")
        assert protocol == "http1" or with_end.endswith(b"\0\0\0\0\1\0\0\0\1")  # DATA, END_STREAM
    assert server.stderr == ""


@pytest.mark.parametrize("tls", ["off", "1.3"])
def test_httpx_reads_events(serve: Serve, tls: str) -> None:
    server = serve("http1", tls=tls)
    base = f"{'http' if tls == 'off' else 'https'}://{server.host}:{server.port}"
    context = ssl.create_default_context(cafile=str(certificates().authority))
    with httpx.Client(base_url=base, timeout=DEADLINE_S, verify=context) as client:
        first = client.post("/topics/news", content="line one\nline two")
        assert (first.status_code, first.text, first.headers["content-type"]) == (200, "1", "text/plain")
        with client.stream("GET", "/topics/news?after=0") as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"] == "text/event-stream"
            assert stream.headers["cache-control"] == "no-cache"
            assert "content-length" not in stream.headers
            lines = stream.iter_lines()
            expected = ["retry: 1000", "", "id: 1", "data: line one", "data: line two", ""]
            assert [next(lines) for _ in expected] == expected
            client.post("/topics/news", content="ä".encode())
            assert [next(lines) for _ in range(3)] == ["id: 2", "data: ä", ""]


@pytest.mark.parametrize("protocol", ENDS)
def test_curl_reads_events_as_they_come(serve: Serve, need: Callable[[str], str], protocol: str) -> None:
    server = serve(protocol)
    url = f"http://{server.host}:{server.port}/topics/news"
    version = ["--http2-prior-knowledge"] if protocol == "http2" else []
    command = [need("curl"), "-sN", *version, "-H", "Last-Event-ID: 1", url]
    publish = [need("curl"), "-s", *version, "--data-binary"]
    for data in ("one", "two"):
        subprocess.run([*publish, data, url], check=True, capture_output=True, timeout=DEADLINE_S)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        lines = [curl.stdout.readline() for _ in range(5)]
        assert lines == [b"retry: 1000\n", b"\n", b"id: 2\n", b"data: two\n", b"\n"]
        answer = subprocess.run([*publish, "three", url], check=True, capture_output=True, timeout=DEADLINE_S)
        assert answer.stdout == b"3"
        assert [curl.stdout.readline() for _ in range(3)] == [b"id: 3\n", b"data: three\n", b"\n"]
        server.stop()
        assert curl.stdout.read() == b""
        assert curl.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
@pytest.mark.parametrize("protocol", ENDS)
def test_a_subscriber_that_does_not_read_is_cut_and_comes_back(
    serve: Serve, meet: Callable[..., Peer], protocol: str, execution: str
) -> None:
    server = serve(protocol, execution)
    subscriber, publisher = ENDS[protocol]
    deaf, reader, source = meet(server, subscriber), meet(server, subscriber), meet(server, publisher)
    event = b"x" * (MAX_EVENT_BYTES - 10)
    count = 400  # 25 MiB: more than sockets hold, more than may wait
    for number in range(count):
        source.publish(b"%05d" % number + event)
        reader.receive(number + 1)
    # With a thread of its own, it is the thread that waits; then what has been published since is more than may wait.
    with pytest.raises((ConnectionError, AssertionError, ProtocolError)):
        deaf.receive(count)
    missed = int(deaf.end.last_event_id)
    assert missed < count
    assert [event[:5] for event in deaf.events] == [b"%05d" % number for number in range(missed)]
    back = meet(server, subscriber, after_id=deaf.end.last_event_id)
    source.publish(b"the end")
    while back.receive(len(back.events) + 1)[-1] != b"the end":
        pass
    assert len(reader.events) == count


@pytest.mark.parametrize("protocol", ENDS)
def test_clients_that_go_are_forgotten(serve: Serve, meet: Callable[..., Peer], protocol: str) -> None:
    """Half of the subscribers go without a word at any time; nobody else notices."""
    server = serve(protocol)
    subscriber, publisher = ENDS[protocol]
    source, stays = meet(server, publisher), meet(server, subscriber)
    for number in range(60):
        goes = meet(server, subscriber)
        if number % 3 == 0:
            goes.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        elif number % 3 == 1:
            goes.sock.shutdown(socket.SHUT_WR)
        goes.sock.close()
        source.publish(b"%d" % number)
    assert stays.receive(60) == [b"%d" % number for number in range(60)]
    server.stop()
    assert server.stderr == ""


# HTTP/1.1, without sockets


class Http1Harness:
    """A connection of the server without a socket."""

    def __init__(self, high_water: int = 1 << 62) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.worker = make_worker(_run, lambda s, callback: self.later.append((s, callback)), Counters(1)[0])
        self.pipe = self.connect(high_water)
        self.topic: Topic = self.worker.service.topics.topic("news")

    def connect(self, high_water: int = 1 << 62) -> "BufferedPipe":
        pipe = BufferedPipe(high_water)
        connection = pipe.connection = Http1Connection(self.worker)
        connection.connection_made(pipe)
        return pipe

    def feed(self, data: bytes) -> bytes:
        self.pipe.connection.data_received(data)
        return self.pipe.take()


class BufferedPipe(Pipe):
    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def abort(self) -> None:
        super().abort()
        self.connection.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed or self.aborted


def _run(connection: Any, token: Any, route: Route, body: bytes) -> None:
    connection.answer(token, route, route.execute(body))


SUBSCRIBE = b"GET /topics/news HTTP/1.1\r\nhost: x\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


def body_of(answer: bytes) -> bytes:
    """The body of a chunked answer that may go on."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        body += rest[: int(size, 16)]
        assert rest[int(size, 16) :][:2] == b"\r\n"
        rest = rest[int(size, 16) + 2 :]
    return body


def test_each_event_is_a_chunk_and_one_write() -> None:
    server = Http1Harness()
    opening = server.feed(SUBSCRIBE)
    assert opening.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body_of(opening) == b"retry: 1000\n\n"
    server.topic.publish(b"hello")
    assert server.pipe.take() == b"13\r\nid: 1\ndata: hello\n\n\r\n"
    server.topic.publish(b"a\r\nb\rc\n")
    assert server.pipe.take() == b"26\r\nid: 2\ndata: a\ndata: b\ndata: c\ndata: \n\n\r\n"


@pytest.mark.parametrize(
    ("last", "target", "ids"),
    [
        (None, b"", []),
        (b"0", b"", [1, 2, 3]),
        (b"2", b"", [3]),
        (None, b"?after=1", [2, 3]),
        (b"2", b"?after=1", [3]),  # what came with the address is older: a page that comes back keeps it
        (b"99", b"", []),
    ],
)
def test_where_a_subscriber_left_off(last: bytes | None, target: bytes, ids: list[int]) -> None:
    for _ in range(2):
        server = Http1Harness()
        for _ in range(3):
            server.topic.publish(b"x")
        field = b"LAST-event-id: %b\r\n" % last if last is not None else b""
        answer = server.feed(b"GET /topics/news%b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (target, field))
        assert [int(event.last_event_id) for event in EventReader().feed(body_of(answer))] == ids
        h2_server, client = Http2Harness(), Client()
        for _ in range(3):
            h2_server.worker.service.topics.topic("news").publish(b"x")
        fields = {"last_event_id": last.decode()} if last is not None else {}
        stream = client.request("GET", f"/topics/news{target.decode()}", None, **fields)
        talk(client, h2_server)
        assert [int(event.last_event_id) for event in EventReader().feed(client.bodies[stream])] == ids


def test_the_last_event_id_of_one_request_is_not_that_of_the_next() -> None:
    server = Http1Harness()
    server.topic.publish(b"x")
    server.feed(b"HEAD /topics/news HTTP/1.1\r\nhost: x\r\nlast-event-id: 0\r\n\r\n")
    assert body_of(server.feed(SUBSCRIBE)) == b"retry: 1000\n\n"


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (b"GET /topics/a%20b HTTP/1.1\r\nhost: x\r\n\r\n", 400, b"a topic's name is"),
        (b"GET /topics/ HTTP/1.1\r\nhost: x\r\n\r\n", 400, b"a topic's name is"),
        (b"GET /topics/news?after=x HTTP/1.1\r\nhost: x\r\n\r\n", 400, b"the id of an event is a whole number"),
        (b"GET /topics/news HTTP/1.1\r\nhost: x\r\nlast-event-id: x\r\n\r\n", 400, b"a whole number"),
        (b"GET /topics/news HTTP/1.1\r\nhost: x\r\nlast-event-id: \r\n\r\n", 400, b"a whole number"),
        (b"GET /topic/news HTTP/1.1\r\nhost: x\r\n\r\n", 404, b"no such operation: /topic/news"),
        (b"DELETE /topics/news HTTP/1.1\r\nhost: x\r\n\r\n", 405, b"allowed here: POST, GET, HEAD"),
        (
            b"POST /topics/news HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70000,
            413,
            b"an event is at most 65536 bytes long",
        ),
        (b"POST /todos HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 400, b"a todo has a text"),
    ],
)
def test_what_is_refused_and_then_answered_all_the_same(request_: bytes, status: int, said: bytes) -> None:
    server = Http1Harness()
    answer = server.feed(request_ + HEALTH)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: text/plain\r\n" in answer
    assert said in answer
    assert answer.endswith(b"\r\n\r\nok")
    assert (b"allow: POST, GET, HEAD\r\n" in answer) == (status == 405)


def test_head_tells_and_does_not_subscribe() -> None:
    server = Http1Harness()
    answer = server.feed(b"HEAD /topics/news HTTP/1.1\r\nhost: x\r\n\r\n" + HEALTH)
    assert b"content-type: text/event-stream\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")
    assert server.topic.subscribers == 0


def test_http_1_0_gets_events_without_chunks() -> None:
    server = Http1Harness()
    answer = server.feed(b"GET /topics/news?after=0 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert b"transfer-encoding" not in answer
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nretry: 1000\n\n")
    server.topic.publish(b"x")
    assert server.pipe.take() == b"id: 1\ndata: x\n\n"
    server.pipe.connection.drain()
    assert server.pipe.take() == b""
    assert server.pipe.closed


def test_a_request_behind_a_subscription_waits_until_that_ends() -> None:
    server = Http1Harness()
    server.feed(HEALTH + SUBSCRIBE + HEALTH)
    server.topic.publish(b"x")
    assert server.pipe.take().endswith(b"data: x\n\n\r\n")
    server.worker.drain()
    assert re.fullmatch(rb"0\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\nok", server.pipe.take(), re.DOTALL)
    assert server.pipe.closed


@pytest.mark.parametrize("behind", [b"", HEALTH, SUBSCRIBE])
def test_a_client_that_ends_its_side_has_had_enough(behind: bytes) -> None:
    server = Http1Harness()
    server.feed(SUBSCRIBE + behind)
    assert server.topic.subscribers == 1
    server.pipe.connection.eof_received()
    assert server.topic.subscribers == 0
    assert server.pipe.take().startswith(b"0\r\n\r\n")
    assert server.pipe.closed


def test_a_server_that_stops_lets_no_subscription_begin() -> None:
    server = Http1Harness()
    server.pipe.connection.data_received(SUBSCRIBE[:-2])
    server.worker.drain()
    assert server.pipe.take() == b""
    answer = server.feed(b"\r\n")
    assert body_of(answer) == b"retry: 1000\n\n"
    assert answer.endswith(b"0\r\n\r\n")
    assert server.pipe.closed
    assert server.topic.subscribers == 0


def test_a_lost_connection_is_no_subscriber() -> None:
    server = Http1Harness()
    server.feed(SUBSCRIBE)
    server.pipe.connection.connection_lost(None)
    assert server.topic.subscribers == 0
    server.topic.publish(b"x")
    assert server.pipe.take() == b""


@pytest.mark.parametrize("protocol", ENDS)
def test_silence_is_broken_by_comments(protocol: str) -> None:
    server: Any
    if protocol == "http1":
        server = Http1Harness()
        server.feed(SUBSCRIBE)
    else:
        server = Http2Harness()
        server.feed(HELLO, headers(1, [*GET[:3], (b":path", b"/topics/news")]))
    for _ in range(3):
        ((after_s, keep_alive),) = server.later
        assert after_s == event_stream.KEEP_ALIVE_S
        server.later.clear()
        keep_alive()
        if protocol == "http1":
            assert server.pipe.take() == b"3\r\n:\n\n\r\n"
        else:
            assert [frame.data for frame in server.frames()] == [b":\n\n"]
    server.connection.connection_lost(None) if protocol == "http2" else server.pipe.connection.connection_lost(None)
    server.later.pop()[1]()
    assert server.pipe.take() == b""
    assert server.later == []


def test_what_waits_for_a_client_that_does_not_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_BEHIND_BYTES", 3000)
    server = Http1Harness(high_water=1000)
    server.feed(SUBSCRIBE)
    written = 0
    while not server.pipe.aborted:
        server.topic.publish(b"x" * 500)
        written += 1
    assert 3000 < 500 * written - len(server.pipe.written) < 4500
    assert server.topic.subscribers == 0
    server.topic.publish(b"x")
    # It comes back, and misses nothing.
    server.pipe = server.connect()
    got = EventReader().feed(body_of(server.feed(SUBSCRIBE.replace(b"\r\n\r\n", b"\r\nlast-event-id: 0\r\n\r\n"))))
    assert [int(event.last_event_id) for event in got] == list(range(1, written + 2))


# HTTP/2, without sockets


def test_each_event_is_a_data_frame() -> None:
    server = Http2Harness()
    frames = server.feed(HELLO, headers(1, [*GET[:3], (b":path", b"/topics/news")]))
    assert [type(frame) for frame in frames[-2:]] == [hf.HeadersFrame, hf.DataFrame]
    assert frames[-1].data == b"retry: 1000\n\n"
    server.feed(headers(3, [*GET[:3], (b":path", b"/topics/news")]))
    server.worker.service.topics.topic("news").publish(b"hello")
    got = [(frame.stream_id, frame.data, set(frame.flags)) for frame in server.frames()]
    assert got == [(stream_id, b"id: 1\ndata: hello\n\n", set()) for stream_id in (1, 3)]


def test_published_and_subscribed_on_one_connection() -> None:
    server, client = Http2Harness(), Client()
    events = [client.request("GET", "/topics/news") for _ in range(3)]
    publish = client.request("POST", "/topics/news", b"hello")
    health = client.request("GET", "/health")
    talk(client, server)
    for stream in events:
        assert client.answers[stream][b"content-type"] == b"text/event-stream"
        assert client.answers[stream][b"cache-control"] == b"no-cache"
        assert client.bodies[stream] == b"retry: 1000\n\nid: 1\ndata: hello\n\n"
    assert (client.bodies[publish], client.bodies[health]) == (b"1", b"ok")
    assert client.ended == {publish, health}


@pytest.mark.parametrize("window", [1, 50, 70_000])
def test_events_keep_to_the_windows(window: int) -> None:
    server, client = Http2Harness(), Client(INITIAL_WINDOW_SIZE=window)
    stream = client.request("GET", "/topics/news")
    talk(client, server)
    topic = server.worker.service.topics.topic("news")
    expected = b"retry: 1000\n\n"
    for number in range(1, 6):
        data = b"%d" % number * (20_000 if window > 100 else 20)
        topic.publish(data)
        expected += b"id: %d\ndata: %b\n\n" % (number, data)
    talk(client, server)  # h2 raises if the windows are not kept to
    assert client.bodies[stream] == expected
    assert not any(isinstance(event, h2.events.StreamReset) for event in client.events)


def test_a_stream_that_is_not_read_is_reset_and_others_go_on() -> None:
    server = Http2Harness()
    settings = hf.SettingsFrame(0, settings={hf.SettingsFrame.INITIAL_WINDOW_SIZE: 100})
    server.feed(HELLO, settings, headers(1, [*GET[:3], (b":path", b"/topics/news")]))
    topic = server.worker.service.topics.topic("news")
    published = 0
    frames: list[Any] = []
    while not any(isinstance(frame, hf.RstStreamFrame) for frame in frames):
        topic.publish(b"x" * 60_000)
        published += 60_000
        frames += server.frames()
    assert topics.MAX_BEHIND_BYTES < published < topics.MAX_BEHIND_BYTES + 200_000
    assert topic.subscribers == 0
    sent = [frame.data for frame in frames if isinstance(frame, hf.DataFrame)]
    assert sum(map(len, sent)) == 100 - len(event_stream.OPENING)
    answer = server.feed(headers(3, [*GET[:3], (b":path", b"/health")]))
    assert [frame.data for frame in answer[1:]] == [b"ok"]


@pytest.mark.parametrize("how", ["reset", "lost", "goaway"])
def test_a_stream_that_is_given_up_is_no_subscriber(how: str) -> None:
    server = Http2Harness()
    server.feed(HELLO, headers(1, [*GET[:3], (b":path", b"/topics/news")]))
    topic = server.worker.service.topics.topic("news")
    assert topic.subscribers == 1
    if how == "reset":
        assert server.feed(hf.RstStreamFrame(1, 8)) == []
    elif how == "lost":
        server.connection.connection_lost(None)
    else:
        server.feed(raw(0, 0, 0, b"wrong"))
    assert topic.subscribers == 0
    topic.publish(b"x")
    assert server.frames() == []


@pytest.mark.parametrize("window", [65535, 20])
def test_a_server_that_stops_ends_the_streams(window: int) -> None:
    server = Http2Harness()
    settings = hf.SettingsFrame(0, settings={hf.SettingsFrame.INITIAL_WINDOW_SIZE: window})
    frames = server.feed(HELLO, settings, headers(1, [*GET[:3], (b":path", b"/topics/news")]))
    topic = server.worker.service.topics.topic("news")
    topic.publish(b"hello")
    server.worker.drain()
    server.worker.drain()
    assert topic.subscribers == 0
    assert server.pipe.closed == (window == 65535)
    frames += server.frames()
    if window == 20:
        late = headers(3, [*GET[:3], (b":path", b"/topics/news")])
        frames += server.feed(late, hf.WindowUpdateFrame(1, window_increment=100))
    frames = [frame for frame in frames if frame.stream_id]
    assert {frame.stream_id for frame in frames} == {1}
    assert b"".join(frame.data for frame in frames[1:]) == b"retry: 1000\n\nid: 1\ndata: hello\n\n"
    assert ["END_STREAM" in frame.flags for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert server.pipe.closed


def test_a_pipe_that_is_full_delays_events_and_loses_none() -> None:
    server = Http2Harness(high_water=500)
    client = Client()
    stream = client.request("GET", "/topics/news")
    talk(client, server)
    topic = server.worker.service.topics.topic("news")
    for _ in range(100):
        topic.publish(b"x" * 100)
    assert len(server.pipe.written) < 1000
    talk(client, server)
    assert client.bodies[stream].count(b"data: ") == 100


# Todos over HTTP


@pytest.mark.parametrize("protocol", ENDS)
def test_todos_over_http(serve: Serve, protocol: str) -> None:
    server = serve(protocol)
    url, is_http2 = f"http://{server.host}:{server.port}", protocol == "http2"
    with httpx.Client(base_url=url, timeout=DEADLINE_S, http1=not is_http2, http2=is_http2) as client:
        created = client.post("/todos", json={"text": "write ä test"})
        assert (created.status_code, created.headers["content-type"]) == (200, "application/json")
        assert created.json() == {"id": 1001, "text": "write ä test", "done": False}
        read = client.get("/todos?limit=1001")
        assert read.headers["content-type"] == "application/json"
        assert read.json() == [seeded_todo(number)._asdict() for number in range(1, 1001)] + [created.json()]
        assert client.get("/todos").json() == read.json()[:10]
        assert client.head("/todos?limit=5").headers["content-length"] == str(len(client.get("/todos?limit=5").content))
        with client.stream("GET", "/todos/stream?limit=1001") as stream:
            assert stream.headers["content-type"] == "application/x-ndjson"
            assert "content-length" not in stream.headers
            assert [json.loads(line) for line in stream.iter_lines()] == read.json()
        refused = client.put("/todos", json={"text": "x"})
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        refused = client.post("/todos", content="buy milk")
        assert (refused.status_code, refused.headers["content-type"]) == (400, "text/plain")
        assert client.post("/todos", content="x" * 70_000).status_code == 413
        assert client.get("/todos").status_code == 200


def test_todos_leave_in_pieces() -> None:
    server = Http1Harness()
    answer = server.feed(b"GET /todos/stream?limit=3 HTTP/1.1\r\nhost: x\r\n\r\n")
    lines = exchange(Op.READ_TODOS_STREAM, a=3).answer.splitlines(keepends=True)
    assert answer.partition(b"\r\n\r\n")[2] == b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in [*lines, b""])
    h2_server = Http2Harness()
    frames = h2_server.feed(HELLO, headers(1, [*GET[:3], (b":path", b"/todos/stream?limit=3")]))[-3:]
    assert [(frame.data, "END_STREAM" in frame.flags) for frame in frames] == [
        (lines[0], False),
        (lines[1], False),
        (lines[2], True),
    ]
    frames = h2_server.feed(headers(3, [*GET[:3], (b":path", b"/todos/stream?limit=0")]))
    assert ["END_STREAM" in frame.flags for frame in frames] == [True]


@pytest.mark.parametrize("window", [1, 60, 65535])
def test_pieces_keep_to_the_windows(window: int) -> None:
    server, client = Http2Harness(), Client(INITIAL_WINDOW_SIZE=window)
    streams = [client.request("GET", "/todos/stream?limit=20"), client.request("GET", "/bytes/300?chunk=100")]
    talk(client, server)
    assert client.bodies[streams[0]] == exchange(Op.READ_TODOS_STREAM, a=20).answer
    assert len(client.bodies[streams[1]]) == 300
    assert client.ended == set(streams)


def test_an_answer_that_is_made_later_begins_with_its_head() -> None:
    server = Http2Harness(hold=True)
    server.worker.service.topics.topic("news").publish(b"x")
    server.feed(HELLO, headers(1, [*GET[:3], (b":path", b"/topics/news?after=0")]))
    server.release()
    frames = server.frames()
    assert [type(frame) for frame in frames] == [hf.HeadersFrame, hf.DataFrame, hf.DataFrame]
    assert frames[-1].data == b"id: 1\ndata: x\n\n"
