"""The lean WebSocket server: by itself without a socket, and as a whole against the websockets library and garbage."""

import contextlib
import http.client
import json
import random
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from http2_harness import Pipe
from make_worker import make_worker
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bench.certificates import certificates
from bench.contract import MAX_BODY_BYTES, Opcode, encode_todo, exchange, pattern
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.http1_heads import HEAD_END
from bench.wire.permessage_deflate import Deflate
from bench.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    RSV1,
    TEXT,
    CloseCode,
    MessageReader,
    encode_close,
    encode_frame,
)
from bench.wire.websocket_handshake import encode_opening
from servers.counters import ACCEPTS, REQUESTS, Counters
from servers.service import Route
from servers.topics import MAX_BEHIND_BYTES
from servers.websocket import LINGER_S, MAX_WAITING, WebsocketConnection

Serve = Callable[..., ServerProcess]

DEADLINE_S = 10.0
NONCE = bytes(16)
KEY = b"mask"


class Reader(MessageReader):
    """What the server sends: (opcode, payload), ("pong", payload) or ("close", code)."""

    peer_masks = False

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int | str, bytes | int]] = []
        self._kind = 0
        self._pieces: list[bytes] = []

    def message_begun(self, opcode: int) -> None:
        self._kind = opcode

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def message_received(self) -> None:
        self.found.append((self._kind, b"".join(self._pieces)))
        self._pieces.clear()

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self.found.append(("close", int.from_bytes(payload[:2]) if payload else CloseCode.NO_STATUS))
        else:
            self.found.append(("pong", payload))


class Transport(Pipe):
    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self.written)


class Server:
    """A connection without a socket. Requests run at once, or with `hold` when `release` is called."""

    def __init__(self, path: str = "/echo", hold: bool = False, high_water: int = 1 << 62) -> None:
        self.held: list[tuple[Any, Route, bytes]] = []
        self._hold = hold
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.slot = Counters(1)[0]
        self.worker = make_worker(self._run, lambda s, callback: self.later.append((s, callback)), self.slot)
        self.reader = Reader()
        self.connect(path, high_water)

    def connect(self, path: str, high_water: int = 1 << 62) -> None:
        """Another client on the same worker."""
        self.pipe = Transport(high_water)
        self.connection = self.pipe.connection = WebsocketConnection(self.worker)
        self.connection.connection_made(self.pipe)
        if path:
            self.connection.data_received(encode_opening(path, "x", NONCE))
            assert self.pipe.take().startswith(b"HTTP/1.1 101 ")

    def _run(self, connection: Any, token: Any, route: Route, body: bytes) -> None:
        if self._hold:
            self.held.append((token, route, body))
        else:
            connection.answer(token, route, route.execute(body))

    def release(self) -> None:
        token, route, body = self.held.pop(0)
        self.connection.answer(token, route, route.execute(body))

    def ask(self, *frames: bytes) -> list[tuple[int | str, bytes | int]]:
        """What comes back when the frames arrive at once."""
        self.connection.data_received(b"".join(frames))
        return self.answers()

    def answers(self) -> list[tuple[int | str, bytes | int]]:
        found = self.reader.found = []
        self.reader.parse(self.pipe.take())
        assert not self.reader.mid_message
        return found


def frame(first: int, payload: bytes = b"") -> bytes:
    return encode_frame(first, payload, KEY)


def text(payload: bytes) -> bytes:
    return frame(FIN | TEXT, payload)


# Without a socket


def test_many_messages_that_arrive_at_once_are_answered_by_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = Transport.write

    def note(transport: Transport, data: Any) -> None:
        writes.append(data)
        write(transport, data)

    monkeypatch.setattr(Transport, "write", note)
    server = Server()
    writes.clear()  # the acceptance
    messages = [text(b"%d" % number) for number in range(50)]
    server.connection.data_received(b"".join(messages))
    assert writes == [b"".join(encode_frame(FIN | TEXT, b"%d" % number) for number in range(50))]
    assert server.slot.values[REQUESTS] == 50
    assert server.slot.values[ACCEPTS] == 1


@pytest.mark.parametrize("size", [1, 125, 126, 70_000])
def test_what_follows_the_opening_request_at_once_is_read(size: int) -> None:
    server = Server(path="")
    for piece in [
        encode_opening("/echo", "x", NONCE)[:-3],
        encode_opening("/echo", "x", NONCE)[-3:] + text(b"x" * size),
    ]:
        server.connection.data_received(piece)
    head, end, _ = bytes(server.pipe.written).partition(HEAD_END)
    del server.pipe.written[: len(head + end)]
    assert server.answers() == [(TEXT, b"x" * size)]


def test_answers_keep_the_order_of_their_messages_and_control_frames_overtake_them() -> None:
    server = Server(hold=True)
    assert server.ask(text(b"1"), text(b"2"), frame(TEXT, b"3"), frame(FIN | PING, b"?"), frame(FIN, b"!")) == [
        ("pong", b"?")
    ]
    assert [body for _, _, body in server.held] == [b"1"]
    for wanted in (b"1", b"2", b"3!"):
        server.release()
        assert server.answers() == [(TEXT, wanted)]
    assert not server.held


def test_too_many_waiting_messages_stop_the_reading() -> None:
    server = Server(hold=True)
    server.ask(*[text(b"x")] * (MAX_WAITING + 1))
    assert server.pipe.reading
    server.ask(text(b"x"))
    assert not server.pipe.reading
    for _ in range(MAX_WAITING + 1):
        assert not server.pipe.reading
        server.release()
    assert server.pipe.reading


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    server = Server(high_water=1000)
    server.connection.data_received(text(b"x" * 5000))
    assert not server.pipe.reading
    server.connection.data_received(text(b"y"))
    assert server.answers() == [(TEXT, b"x" * 5000)]  # which makes room again
    assert server.answers() == [(TEXT, b"y")]
    assert server.pipe.reading


def test_answers_that_pile_up_within_one_read_wait_too() -> None:
    server = Server("/bytes/65000", high_water=100_000)
    server.connection.data_received(text(b"") * 20)
    found = []
    unsent = []
    while server.pipe.written:
        unsent.append(len(server.pipe.written))
        found += server.answers()
    assert found == [(BINARY, pattern(65000))] * 20
    assert max(unsent) < 400_000


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/health", (TEXT, b"ok")),
        ("/work", (TEXT, b"done")),
        ("/bytes/10", (BINARY, pattern(10))),
        ("/upload", (BINARY, exchange(Opcode.UPLOAD, 0).answer)),
    ],
)
def test_answers_are_text_to_text_but_for_those_that_are_none(path: str, wanted: tuple[int, bytes]) -> None:
    assert Server(path).ask(text(b"")) == [wanted]
    assert Server(path).ask(frame(FIN | BINARY)) == [(BINARY, wanted[1])]


def test_an_answer_in_chunks_is_a_message_in_as_many_frames() -> None:
    server = Server("/bytes/10?chunk=4")
    server.connection.data_received(text(b""))
    assert server.pipe.take() == b"".join(
        (
            encode_frame(BINARY, pattern(10)[:4]),
            encode_frame(CONTINUATION, pattern(10)[4:8]),
            encode_frame(FIN, pattern(10)[8:]),
        )
    )


def test_todos_are_answered_as_json_and_streamed_as_frames() -> None:
    server = Server("/todos?limit=3")
    todos = [encode_todo(todo) for todo in server.worker.service.todos.read(3)]
    ((kind, answer),) = server.ask(text(b""))
    assert kind == TEXT
    assert isinstance(answer, bytes)
    assert json.loads(answer) == list(map(json.loads, todos))
    server.connect("/todos/stream?limit=3")
    server.connection.data_received(text(b""))
    frames = (encode_frame(TEXT, todos[0] + b"\n"), encode_frame(CONTINUATION, todos[1] + b"\n"))
    assert server.pipe.take() == b"".join((*frames, encode_frame(FIN, todos[2] + b"\n")))


def test_uploads_are_hashed_as_they_arrive() -> None:
    server = Server("/upload")
    wanted = exchange(Opcode.UPLOAD, 100_000)
    for start in range(0, 100_000, 10_000):
        last = FIN if start == 90_000 else 0
        server.connection.data_received(frame(last | (0 if start else BINARY), wanted.body[start : start + 10_000]))
    assert server.answers() == [(BINARY, wanted.answer)]


# Closing


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999, CloseCode.NO_STATUS])
def test_a_close_is_answered_with_its_code_and_the_connection_closed(code: int) -> None:
    server = Server()
    assert server.ask(text(b"x"), encode_close(code, "bye", KEY), text(b"ignored")) == [(TEXT, b"x"), ("close", code)]
    assert server.pipe.closed


def test_what_was_asked_before_a_close_is_answered_before_it() -> None:
    server = Server(hold=True)
    assert server.ask(text(b"1"), text(b"2"), encode_close(1000, key=KEY)) == []
    assert not server.pipe.closed
    server.release()
    server.release()
    assert server.answers() == [(TEXT, b"1"), (TEXT, b"2"), ("close", 1000)]
    assert server.pipe.closed


@pytest.mark.parametrize(
    ("path", "bad", "code"),
    [
        ("/echo", encode_frame(FIN | TEXT, b"not masked"), 1002),
        ("/echo", frame(FIN | RSV1 | TEXT, b"x"), 1002),
        ("/echo", frame(FIN | 5, b"x"), 1002),
        ("/echo", encode_close(1005 + 1, key=KEY), 1002),
        ("/echo", text(b"\xff"), 1007),
        ("/echo", b"\x82\xff" + (MAX_BODY_BYTES + 1).to_bytes(8) + KEY, 1009),
        ("/topics/t", frame(FIN | BINARY, b"x"), 1003),
        ("/topics/t", text(b"x" * (1 << 17)), 1009),
        ("/topics/t", frame(BINARY, b"x"), 1003),
    ],
)
def test_whoever_breaks_the_protocol_is_told_how_and_cut_off(path: str, bad: bytes, code: int) -> None:
    server = Server(path)
    found = server.ask(bad, text(b"ignored"))
    assert found[-1] == ("close", code)
    assert len(found) == 1
    assert server.pipe.ended
    assert server.ask(text(b"ignored")) == []
    assert not server.pipe.closed
    ((delay_s, cut),) = server.later
    assert delay_s == LINGER_S
    cut()
    assert server.pipe.aborted


def test_an_error_does_not_undo_what_came_before() -> None:
    server = Server(hold=True)
    assert server.ask(text(b"1"), text(b"2"), text(b"\xff")) == []
    server.release()
    server.release()
    assert server.answers() == [(TEXT, b"1"), (TEXT, b"2"), ("close", 1007)]


def test_a_client_that_only_stops_sending_gets_its_answers() -> None:
    server = Server(hold=True)
    server.ask(text(b"1"))
    assert server.connection.eof_received()
    server.release()
    assert server.answers() == [(TEXT, b"1")]
    assert server.pipe.closed
    idle = Server()
    assert not idle.connection.eof_received()
    assert idle.pipe.closed


def test_a_drained_connection_goes_away_after_what_is_in_flight() -> None:
    server = Server()
    server.worker.drain()
    assert server.answers() == [("close", 1001)]
    assert not server.pipe.closed
    assert server.ask(text(b"ignored"), frame(FIN | PING)) == []
    server.worker.drain()
    assert server.ask(encode_close(1001, key=KEY)) == []
    assert server.pipe.closed

    server = Server(hold=True)
    server.ask(text(b"1"), frame(TEXT, b"2"))
    server.worker.drain()
    assert server.ask(frame(FIN, b"!"), text(b"ignored")) == []
    server.release()
    server.release()
    assert server.answers() == [(TEXT, b"1"), (TEXT, b"2!"), ("close", 1001)]


def test_a_connection_that_is_not_open_yet_is_drained_too() -> None:
    server = Server(path="")
    server.worker.drain()
    assert server.pipe.closed

    server = Server(path="")
    opening = encode_opening("/echo", "x", NONCE)
    server.connection.data_received(opening[:20])
    server.worker.drain()
    assert not server.pipe.closed
    server.connection.data_received(opening[20:])
    assert server.pipe.take().endswith(HEAD_END + encode_close(1001))

    server = Server(path="")
    server.connection.data_received(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    server.worker.drain()
    assert server.pipe.closed


def test_answers_for_a_client_that_has_gone_are_dropped() -> None:
    server = Server(hold=True)
    server.ask(text(b"1"), text(b"2"))
    server.connection.connection_lost(None)
    server.release()
    assert not server.held
    assert not server.pipe.written
    assert not server.worker.connections


# Compression


def test_messages_are_compressed_for_who_offers_it() -> None:
    server = Server(path="")
    server.connection.data_received(encode_opening("/echo", "x", NONCE, b"permessage-deflate"))
    assert b"sec-websocket-extensions: permessage-deflate; server_max_window_bits=12\r\n" in server.pipe.take()
    packed = Deflate(15, no_context_takeover=False).compress(b"hello " * 100)
    server.connection.data_received(frame(FIN | RSV1 | TEXT, packed) + text(b"not compressed"))
    answers = server.pipe.take()
    assert answers[0] == FIN | RSV1 | TEXT
    assert len(answers) < 100


def test_a_malformed_offer_is_refused() -> None:
    server = Server(path="")
    server.connection.data_received(encode_opening("/echo", "x", NONCE, b"permessage-deflate; ="))
    assert server.pipe.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert server.pipe.ended


# Topics


class Subscribers(Server):
    """Several clients of one worker."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__(path)
        self.clients = [(self.connection, self.pipe)]
        for _ in range(count - 1):
            self.connect(path)
            self.clients.append((self.connection, self.pipe))


def test_events_reach_everybody_including_who_published_them() -> None:
    server = Subscribers("/topics/news", 3)
    server.clients[1][0].data_received(text(b"one") + text("zwö".encode()))
    wanted = encode_frame(FIN | TEXT, b"one") + encode_frame(FIN | TEXT, "zwö".encode())
    assert [pipe.take() for _, pipe in server.clients] == [wanted] * 3
    assert server.slot.values[REQUESTS] == 2
    server.worker.service.topics.topic("news").publish(b"\xff")  # as other protocols can
    assert [pipe.take() for _, pipe in server.clients] == [encode_frame(FIN | BINARY, b"\xff")] * 3


def test_who_leaves_is_no_subscriber_any_more() -> None:
    server = Subscribers("/topics/news", 2)
    topic = server.worker.service.topics.topic("news")
    (one, pipe), (other, _) = server.clients
    one.data_received(encode_close(1000, key=KEY))
    assert pipe.take() == encode_close(1000)
    topic.publish(b"x")
    assert not pipe.written
    one.connection_lost(None)
    assert topic.subscribers == 1
    other.connection_lost(None)
    assert topic.subscribers == 0


def test_a_subscriber_may_ask_for_what_it_has_missed() -> None:
    server = Server("/topics/news")
    server.ask(text(b"1"), text(b"2"), text(b"3"))
    server.connect("")
    server.connection.data_received(encode_opening("/topics/news?after=1", "x", NONCE))
    head, _, events = server.pipe.take().partition(HEAD_END)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert events == encode_frame(FIN | TEXT, b"2") + encode_frame(FIN | TEXT, b"3")


def test_a_subscriber_that_is_too_far_behind_is_cut_off() -> None:
    server = Server("/topics/news", high_water=1000)
    topic = server.worker.service.topics.topic("news")
    event = b"x" * 60_000
    topic.publish(event)
    for _ in range(MAX_BEHIND_BYTES // len(event)):
        topic.publish(event)
    assert not server.pipe.aborted
    topic.publish(event)
    topic.publish(event)
    assert server.pipe.aborted
    topic.publish(event)


# As a whole

MODELS = [("single", 1), ("threads", 2), ("dispatch", 2), ("thread-per-connection", 1), ("reuseport", 2)]


def opened(server: ServerProcess, path: str = "/echo", compression: str | None = None) -> ClientConnection:
    return connect(f"ws://{server.address}{path}", compression=compression, max_size=None, proxy=None)


@pytest.mark.parametrize(("execution", "workers"), MODELS)
def test_a_client_of_websockets_is_served(serve: Serve, execution: str, workers: int) -> None:
    server = serve("websocket", execution, workers=workers)
    for compression in (None, "deflate"):
        with opened(server, compression=compression) as client:
            for message in ("", "h€llo", b"", b"\xff" * 125, b"x" * 126, "y" * 70_000, pattern(1 << 20), ""):
                client.send(message)
                assert client.recv(DEADLINE_S) == message
            client.send(["in ", "three ", "frames"])
            assert client.recv(DEADLINE_S) == "in three frames"
            assert client.ping().wait(DEADLINE_S)
        assert client.close_code == 1000
        for asked in (
            exchange(Opcode.BYTES, 1000, b=300),
            exchange(Opcode.UPLOAD, 5000),
            exchange(Opcode.WORK, a=10, b=1),
        ):
            with opened(server, asked.path, compression) as client:
                for _ in range(3):
                    client.send(asked.body)
                for _ in range(3):
                    assert client.recv(DEADLINE_S) == asked.answer
    assert server.stderr == ""
    assert sum(counts.accepts for counts in server.stats()[0]) == 8


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_the_largest_message(serve: Serve, execution: str) -> None:
    with opened(serve("websocket", execution)) as client:
        client.send(pattern(MAX_BODY_BYTES))
        assert client.recv(DEADLINE_S) == pattern(MAX_BODY_BYTES)
        with contextlib.suppress(ConnectionClosed):
            client.send(bytes(MAX_BODY_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE_S)
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


@pytest.mark.parametrize("execution", ["single", "threads", "thread-per-connection"])
def test_http_is_served_by_the_same_port(serve: Serve, execution: str) -> None:
    server = serve("websocket", execution)
    client = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_S)
    for method, path, body, wanted in [
        ("GET", "/health", b"", b"ok"),
        ("POST", "/echo", b"x" * 100_000, b"x" * 100_000),
        ("GET", "/bytes/100?chunk=7", b"", pattern(100)),
        ("GET", "/health", b"", b"ok"),
    ]:
        client.request(method, path, body)
        with client.getresponse() as answer:
            assert (answer.status, answer.read()) == (200, wanted)
    client.close()
    assert [(counts.accepts, counts.requests) for counts in server.stats()[0]] == [(1, 4)]
    with opened(server) as websocket:
        websocket.send("x")
        assert websocket.recv(DEADLINE_S) == "x"


def said(server: ServerProcess, *pieces: bytes) -> bytes:
    """What the server says until it closes."""
    with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return b"".join(iter(lambda: sock.recv(65536), b""))


OPENING = encode_opening("/echo", "x", NONCE)


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_refusals_say_why_and_close(serve: Serve, execution: str) -> None:
    server = serve("websocket", execution)
    old = said(server, OPENING.replace(b"-version: 13", b"-version: 8"))
    assert old.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nsec-websocket-version: 13\r\n" in old
    assert said(server, OPENING.replace(b"/echo", b"/nothing")).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert said(server, OPENING.replace(b"/echo", b"/bytes/x")).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said(server, OPENING.replace(b"connection: Upgrade\r\n", b"")).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    # What is no opening request at all is refused by HTTP/1.1.
    assert said(server, b"\0" * 20).startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert said(server, b"GET / HTTP/1.1\r\n", b"x: " + b"y" * 100_000).startswith(b"HTTP/1.1 431 ")
    with pytest.raises(InvalidStatus) as refused, opened(server, "/nothing"):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(("execution", "workers"), [("single", 1), ("threads", 2), ("thread-per-connection", 1)])
def test_topics_reach_subscribers_on_every_thread(serve: Serve, execution: str, workers: int) -> None:
    server = serve("websocket", execution, workers=workers)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(opened(server, "/topics/a.b-c")) for _ in range(5)]
        other = stack.enter_context(opened(server, "/topics/other"))
        for number, client in enumerate(clients):
            client.send(f"event {number}")
        for client in clients:
            wanted = [client.recv(DEADLINE_S) for _ in clients]
            assert sorted(wanted) == [f"event {number}" for number in range(5)]
        other.send("elsewhere")
        assert other.recv(DEADLINE_S) == "elsewhere"


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_a_server_that_stops_says_that_it_goes_away(execution: str) -> None:
    with ServerProcess("websocket", execution, 1) as server:
        with opened(server) as client:
            client.send("x")
            client.recv(DEADLINE_S)
            server.stop()
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.stderr == ""


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_over_tls(serve: Serve, execution: str) -> None:
    server = serve("websocket", execution, tls="1.3")
    context = ssl.create_default_context(cafile=str(certificates().authority))
    context.set_alpn_protocols(["http/1.1"])
    url = f"wss://{server.address}/echo"
    with connect(url, ssl=context, server_hostname="localhost", proxy=None) as client:
        client.send(pattern(300_000))
        assert client.recv(DEADLINE_S) == pattern(300_000)
    assert client.close_code == 1000
    with (
        socket.create_connection((server.host, server.port), DEADLINE_S) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secure,
    ):
        secure.sendall(OPENING + encode_frame(FIN | TEXT, b"not masked"))
        answer = b"".join(iter(lambda: secure.recv(65536), b""))
    reader = Reader()
    reader.parse(answer.partition(HEAD_END)[2])
    assert reader.found == [("close", 1002)]
    assert server.stderr == ""


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_garbage_does_not_harm_the_others(serve: Serve, execution: str) -> None:
    server = serve("websocket", execution)
    source = random.Random(6455)
    with opened(server) as witness:
        for number in range(150):
            data = bytearray()
            for _ in range(source.randrange(1, 5)):
                first = source.choice((FIN, FIN, 0, FIN | RSV1)) | source.choice((0, 1, 1, 2, 2, 8, 9, 10, 3))
                data += frame(first, source.randbytes(source.choice((0, 3, 100, 200))))
            for _ in range(source.randrange(4)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
            if number % 10 == 0:
                data[:0] = source.randbytes(source.randrange(1, 50))
            with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:
                sock.sendall((OPENING if number % 5 else OPENING[: source.randrange(len(OPENING))]) + data)
                sock.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))  # and it does not hang
            head, _, frames = answer.partition(HEAD_END)
            if head.startswith(b"HTTP/1.1 101"):
                with contextlib.suppress(ProtocolError):
                    Reader().parse(frames)
            witness.send(data[:20])
            assert witness.recv(DEADLINE_S) == bytes(data[:20])
    assert server.stderr == ""
    assert server.events == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is counted otherwise elsewhere")
def test_connections_at_rest_take_little(serve: Serve) -> None:
    server = serve("websocket")
    count = 400
    process = psutil.Process(server.pid)

    def hold(held: contextlib.ExitStack) -> None:
        for _ in range(count):
            sock = held.enter_context(socket.create_connection((server.host, server.port), DEADLINE_S))
            sock.sendall(OPENING)
            assert sock.recv(1000).startswith(b"HTTP/1.1 101")

    with contextlib.ExitStack() as stack:
        hold(stack)
        before = process.memory_info().rss
        hold(stack)
        grown = process.memory_info().rss - before
    assert grown / count < 15 * 1024
