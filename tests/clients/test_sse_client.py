"""The clients of topics without sockets: any chunking, any pieces, wrong answers. h11 and h2 are the servers."""

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.http1 import encode_chunk
from bench.wire.sse import EventReader, encode_event, encode_retry
from clients.sse import Http2Publisher, HttpPublisher, SseHttp2Subscriber, SseSubscriber

AUTHORITY = "127.0.0.1:8000"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

PIECES = st.one_of(
    st.tuples(st.integers(0, 10**6), st.text("abc \t,é", max_size=20)).map(
        lambda event: encode_event(b"%d" % event[0], event[1].encode())
    ),
    st.sampled_from(
        [
            *(b"data: x\n\n", b"data: x\r\n\r\n", b"\n", b"\r", b":\n\n", b"id: 5\n", b"data", b": y\nid: 7\n\n"),
            *(encode_retry(10), b"event: e\ndata: z\n\n", b"13\r\nid: 1\ndata: hello\n\n\r\n"),
        ]
    ),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def subscribed(**options: str) -> SseSubscriber:
    subscriber = SseSubscriber("news", AUTHORITY, **options)
    assert subscriber.feed(HEAD) == []
    assert subscriber.max_in_flight == 1
    return subscriber


def feed(subscriber: Any, pieces: Sequence[bytes]) -> list[bytes]:
    return [event for piece in pieces for event in subscriber.feed(piece)]


# HTTP/1.1


@given(st.lists(st.lists(PIECES, min_size=1, max_size=4), max_size=12), st.lists(st.integers(0, 2000), max_size=12))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_chunks_in_any_pieces(chunks: list[list[bytes]], places: list[int]) -> None:
    bodies = [b"".join(chunk) for chunk in chunks]
    reader = EventReader()
    expected = [event.data.encode() for event in reader.feed(b"".join(bodies))]
    stream = b"".join(map(encode_chunk, bodies))
    for pieces in (cut(stream, places), [encode_chunk(body) for body in bodies]):
        subscriber = subscribed()
        assert feed(subscriber, pieces) == expected
        assert subscriber.last_event_id == reader.last_event_id
        assert subscriber.retry_ms == reader.retry_ms


@pytest.mark.parametrize(
    "chunk",
    [
        b"13;name=value\r\nid: 1\ndata: hello\n\n\r\n",
        b"013\r\nid: 1\ndata: hello\n\n\r\n",
        b"6\r\nid: 1\n\r\nd\r\ndata: hello\n\n\r\n",
        b"13\r\nid: 1\ndata: hello\n\n\r\n",
    ],
)
def test_chunks_however_they_are_written(chunk: bytes) -> None:
    for pieces in ([chunk * 3], [chunk] * 3, [chunk + chunk[:9], chunk[9:] + chunk], [bytes([b]) for b in chunk * 3]):
        assert feed(subscribed(), pieces) == [b"hello"] * 3


def test_a_chunk_that_lies_about_its_length_is_no_event() -> None:
    subscriber = subscribed()
    plain = encode_chunk(encode_event(b"1", b"hello"))
    assert subscriber.feed(plain) == [b"hello"]
    with pytest.raises(ProtocolError):
        feed(subscriber, [plain.replace(b"13", b"12", 1)])
    subscriber = subscribed()
    subscriber.feed(plain)
    # Longer than it looks: what seems to be its end is in the middle of it.
    longer = b"2c\r\nid: 2\ndata: hello\n\n\r\ndata: and more, of it\n\n\r\n"
    assert subscriber.feed(longer) == [b"hello", b"and more, of it"]


def test_the_request() -> None:
    server = h11.Connection(h11.SERVER)
    subscriber = SseSubscriber("news", AUTHORITY, "http", "41")
    subscriber.open()
    server.receive_data(b"".join(subscriber.outgoing))
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"GET", b"/topics/news")
    fields = dict(request.headers)
    assert (fields[b"accept"], fields[b"last-event-id"], fields[b"host"]) == (
        b"text/event-stream",
        b"41",
        AUTHORITY.encode(),
    )
    assert subscriber.last_event_id == "41"
    answer = server.send(h11.Response(status_code=200, headers=[("content-type", "text/event-stream; charset=utf-8")]))
    assert answer is not None
    assert (subscriber.max_in_flight, subscriber.feed(answer), subscriber.max_in_flight) == (0, [], 1)
    for number in range(3):
        chunk = server.send(h11.Data(data=encode_event(b"%d" % (42 + number), b"x")))
        assert chunk is not None
        assert list(subscriber.feed(chunk)) == [b"x"]
    assert subscriber.last_event_id == "44"
    end = server.send(h11.EndOfMessage())
    assert end is not None
    assert subscriber.feed(end + b"") == []
    assert subscriber.feed_eof() == ()


def test_an_answer_without_chunks_lasts_until_the_connection_ends() -> None:
    subscriber = SseSubscriber("news", AUTHORITY)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    stream = encode_event(b"1", b"one") + encode_event(b"2", b"two\nlines") + b"id: 3\ndata: cut"
    for data in (head + stream, *(bytes([byte]) for byte in stream)):
        subscriber.feed(data)
    assert subscriber.feed_eof() == ()
    assert subscriber.last_event_id == "2"
    assert feed(SseSubscriber("news", AUTHORITY), [head, stream]) == [b"one", b"two\nlines"]


def answer(status: bytes, body: bytes, content_type: bytes = b"text/plain") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, content_type, len(body), body)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (answer(b"404 Not Found", b"no such operation: /x\n"), "status 404: no such operation: /x"),
        (answer(b"204 No Content", b""), "status 204"),
        (answer(b"301 Moved", b"there"), "status 301"),
        (answer(b"200 OK", b"data: x\n\n"), "the answer is text/plain, not text/event-stream"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "the answer is of no type"),
        (b"SSH-2.0\r\n", "malformed answer"),
        (HEAD + b"xyz\r\n", "malformed answer"),
        (HEAD + encode_chunk(b"data: " + b"x" * 2_000_000), "longer than"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000, "longer than"),
    ],
)
def test_answers_that_are_no_subscription(data: bytes, said: str) -> None:
    for pieces in ([data], [data[at : at + 60_000] for at in range(0, len(data), 60_000)], cut(data, [9, 30, 60])):
        with pytest.raises(ProtocolError, match=said):
            feed(SseSubscriber("news", AUTHORITY), pieces)


@pytest.mark.parametrize("kind", [SseSubscriber, SseHttp2Subscriber])
def test_an_event_that_was_not_given_was_not_had(kind: type[Any]) -> None:
    """Who comes back after an error says the last event it was given."""
    if kind is SseSubscriber:
        subscriber: Any = subscribed()
        wrap: Callable[[bytes], bytes] = encode_chunk
        wrong = b"wrong\r\n"
    else:
        server, subscriber = H2Server(), SseHttp2Subscriber("news", AUTHORITY)
        server.meet(subscriber)
        wrap = server.data
        wrong = b"\0\0\0\x00\0\0\0\0\0"
    assert list(subscriber.feed(wrap(b":\n\n"))) == []
    for number in range(1, 4):
        assert list(subscriber.feed(wrap(encode_event(b"%d" % number, b"x")))) == [b"x"]
    with pytest.raises(ProtocolError):
        subscriber.feed(wrap(encode_event(b"4", b"x")) + wrap(encode_event(b"5", b"x\ny")) + wrong)
    assert subscriber.last_event_id == "3"


def test_random_bytes() -> None:
    rng = random.Random(92)
    events = [encode_chunk(encode_event(b"%d" % number, b"x" * number)) for number in range(10)]
    good = HEAD + b"".join(events) + b"0\r\n\r\n"
    outcomes = set()
    for _ in range(3000):
        wild = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            wild[rng.randrange(len(wild))] = rng.randrange(256)
        subscriber = SseSubscriber("news", AUTHORITY)
        try:
            feed(subscriber, cut(bytes(wild), [rng.randrange(300) for _ in range(3)]))
        except ProtocolError:
            outcomes.add("refused")
        else:
            outcomes.add("taken")
    assert outcomes == {"refused", "taken"}


def test_a_publisher_pipelines_and_counts() -> None:
    publisher = HttpPublisher("news", AUTHORITY)
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"".join(publisher.publish(b"hello")))
    request, body = server.next_event(), server.next_event()
    assert isinstance(request, h11.Request)
    assert isinstance(body, h11.Data)
    assert (request.method, request.target, body.data) == (b"POST", b"/topics/news", b"hello")
    publisher.publish(b"x")
    publisher.publish(b"y")
    acknowledgements = b"".join(answer(b"200 OK", b"%d" % number) for number in range(1, 4))
    assert sum(publisher.feed(piece) for piece in cut(acknowledgements, [5, 100, 150])) == 3
    publisher.publish(b"z")
    with pytest.raises(ProtocolError, match="status 413: an event is at most"):
        publisher.feed(answer(b"413 Content Too Large", b"an event is at most 65536 bytes long\n"))
    with pytest.raises(ProtocolError, match="nothing asked for"):
        HttpPublisher("news", AUTHORITY).feed(acknowledgements)
    publisher = HttpPublisher("news", AUTHORITY)
    publisher.publish(b"x")
    assert publisher.feed(b"HTTP/1.1 200 OK\r\n\r\n1") == 0
    assert publisher.feed_eof() == 1


# HTTP/2


class H2Server:
    """h2's state machine as the server."""

    def __init__(self, **initial: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        values = {h2.settings.SettingCodes[name]: value for name, value in initial.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.requests: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    self.requests[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def meet(self, client: Any, *fields: tuple[str, str], status: str = "200") -> None:
        """Open the client's connection, and if it is a subscriber, answer."""
        client.open()
        self.receive(b"".join(client.outgoing))
        client.outgoing.clear()
        if self.requests:
            self.h2.send_headers(1, [(":status", status), *(fields or [("content-type", "text/event-stream")])])
        client.feed(self.h2.data_to_send())
        self.receive(b"".join(client.outgoing))
        client.outgoing.clear()

    def data(self, data: bytes, end: bool = False) -> bytes:
        self.h2.send_data(1, data, end_stream=end)
        return bytes(self.h2.data_to_send())


@given(st.lists(PIECES, max_size=20), st.lists(st.integers(0, 2000), max_size=8), st.booleans())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_frames_in_any_pieces(bodies: list[bytes], places: list[int], scheme: bool) -> None:
    server = H2Server()
    subscriber = SseHttp2Subscriber("news", AUTHORITY, "https" if scheme else "http", after_id="1")
    server.meet(subscriber)
    assert subscriber.max_in_flight == 1
    request = server.requests[1]
    assert (request[b":method"], request[b":path"]) == (b"GET", b"/topics/news")
    assert (request[b":scheme"], request[b":authority"]) == (b"https" if scheme else b"http", AUTHORITY.encode())
    assert (request[b"accept"], request[b"last-event-id"]) == (b"text/event-stream", b"1")
    reader = EventReader("1")
    expected = [event.data.encode() for event in reader.feed(b"".join(bodies))]
    frames = [server.data(body) for body in bodies]
    assert feed(subscriber, cut(b"".join(frames), places)) == expected
    assert (subscriber.last_event_id, subscriber.retry_ms) == (reader.last_event_id, reader.retry_ms)
    assert subscriber.feed_eof() == ()


def test_answers_over_http2_that_are_no_subscription() -> None:
    for fields, status, said in (
        ([], "404", "status 404: why"),
        ([("content-type", "text/plain")], "200", "the answer is text/plain"),
        ([("content-type", "text/event-stream")], "503", "status 503: why"),
    ):
        server, subscriber = H2Server(), SseHttp2Subscriber("news", AUTHORITY)
        with pytest.raises(ProtocolError, match=said):  # noqa: PT012  the head may be enough
            server.meet(subscriber, *fields, ("x", "y"), status=status)
            subscriber.feed(server.data(b"why\n", end=True))
        assert subscriber.max_in_flight == 0


def test_a_stream_that_the_server_gives_up_is_an_error() -> None:
    server, subscriber = H2Server(), SseHttp2Subscriber("news", AUTHORITY)
    server.meet(subscriber)
    server.h2.reset_stream(1)
    with pytest.raises(ProtocolError, match="given the request up"):
        subscriber.feed(server.h2.data_to_send())
    assert subscriber.outgoing  # GOAWAY


@pytest.mark.parametrize("streams", [1, 3, 100])
def test_a_publisher_keeps_to_what_the_server_takes(streams: int) -> None:
    server, publisher = H2Server(MAX_CONCURRENT_STREAMS=streams), Http2Publisher("news", AUTHORITY)
    assert publisher.max_in_flight == 0
    server.meet(publisher)
    assert publisher.max_in_flight == streams
    payloads = [b"event %d" % number for number in range(10)]
    said = b"".join(b"".join(publisher.publish(payload)) for payload in payloads)
    acknowledged = 0
    answered: set[int] = set()
    while acknowledged < len(payloads):
        server.receive(said)
        assert len(server.requests) - len(answered) <= streams
        for stream_id in server.requests.keys() - answered:
            answered.add(stream_id)
            assert server.requests[stream_id][b":path"] == b"/topics/news"
            assert server.requests[stream_id][b"content-length"] == b"%d" % len(server.bodies[stream_id])
            server.h2.send_headers(stream_id, [(":status", "200")])
            server.h2.send_data(stream_id, b"1", end_stream=True)
        acknowledged += publisher.feed(server.h2.data_to_send())
        said = b"".join(publisher.outgoing)
        publisher.outgoing.clear()
    assert [server.bodies[stream_id] for stream_id in sorted(server.bodies)] == payloads
    assert publisher.feed_eof() == 0


def test_a_publisher_that_is_refused() -> None:
    server, publisher = H2Server(), Http2Publisher("news", AUTHORITY)
    server.meet(publisher)
    server.receive(b"".join(publisher.publish(b"x")))
    server.h2.send_headers(1, [(":status", "413")])
    with pytest.raises(ProtocolError, match="status 413: too long"):
        publisher.feed(server.data(b"too long\n", end=True))
