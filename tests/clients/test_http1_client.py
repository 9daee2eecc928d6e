"""The lean HTTP/1.1 client against h11, nginx, and servers that misbehave."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import h11
import pytest
from client_driver import DEADLINE_S, drive
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contract import MAX_BODY_BYTES, Exchange, Opcode, exchange, foreign_exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from clients.http1 import Http1Client

ECHO = exchange(Opcode.ECHO, 64)
DATE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
GOOD = b"HTTP/1.1 200 OK\r\n" + DATE + b"content-length: 64\r\n\r\n" + ECHO.answer


def new_client(wanted: Exchange = ECHO, check_content: bool = True) -> Http1Client:
    return Http1Client(wanted, "127.0.0.1:80", check_content)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


class Parses:
    """Counts what goes through the full parser."""

    def __init__(self, client: Http1Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        parse = client.parse

        def counted(data: bytes | memoryview) -> None:
            self.count += 1
            parse(data)

        monkeypatch.setattr(client, "parse", counted)


# Requests


@pytest.mark.parametrize("wanted", [ECHO, exchange(Opcode.ECHO), exchange(Opcode.BYTES, 5), exchange(Opcode.UPLOAD, 9)])
def test_a_request_is_what_h11_reads(wanted: Exchange) -> None:
    client = new_client(wanted)
    server = h11.Connection(h11.SERVER)
    for count in (1, 3):
        _, pieces = client.request(count)
        server.receive_data(b"".join(pieces))
        for _ in range(count):
            request = server.next_event()
            assert isinstance(request, h11.Request)
            assert (request.method.decode(), request.target.decode()) == (wanted.method, wanted.path)
            assert (b"host", b"127.0.0.1:80") in request.headers
            body = b""
            while isinstance(event := server.next_event(), h11.Data):
                body += event.data
            assert isinstance(event, h11.EndOfMessage)
            assert body == wanted.body
            server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            server.send(h11.EndOfMessage())
            server.start_next_cycle()


def test_requests_together_are_the_request_many_times() -> None:
    client = new_client()
    (first,), (request,) = client.request(1)
    ids, pieces = client.request(5)
    assert b"".join(pieces) == request * 5
    assert len({first, *ids}) == 6


def test_many_large_requests_share_their_bytes() -> None:
    wanted = exchange(Opcode.UPLOAD, 1 << 20)
    _, (one,) = new_client(wanted).request(1)
    _, pieces = new_client(wanted).request(3)
    assert all(piece is one for piece in pieces)


# Answers, as h11 makes them

bodies = st.sampled_from([ECHO.answer, ECHO.answer[:-1], ECHO.answer + b"x", b"", ECHO.answer[::-1]])
answers = st.tuples(
    st.sampled_from([200, 200, 200, 200, 201, 404, 500]),
    bodies,
    st.sampled_from(["length", "chunked", "many chunks"]),
    st.integers(0, 2),
    st.lists(st.tuples(st.just("x-field"), st.text("abc", max_size=5)), max_size=3),
)


def encode_answers(client: Http1Client, made: list[tuple[int, bytes, str, int, list[tuple[str, str]]]]) -> bytes:
    """What an h11 server sends to the client's own requests."""
    server = h11.Connection(h11.SERVER)
    _, pieces = client.request(len(made))
    server.receive_data(b"".join(pieces))
    sent = []
    for status, body, framing, interims, fields in made:
        while not isinstance(server.next_event(), h11.EndOfMessage):
            pass
        length = [("content-length", str(len(body)))] if framing == "length" else []
        sent += [server.send(h11.InformationalResponse(status_code=103, headers=[])) for _ in range(interims)]
        sent.append(server.send(h11.Response(status_code=status, headers=[*fields, *length])))
        size = 7 if framing == "many chunks" else max(1, len(body))
        sent += [server.send(h11.Data(data=body[at : at + size])) for at in range(0, len(body), size)]
        sent.append(server.send(h11.EndOfMessage()))
        server.start_next_cycle()
    return b"".join(piece for piece in sent if piece)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(answers, min_size=1, max_size=6), st.lists(st.integers(0, 10**5), max_size=12))
def test_answers_in_any_form_and_any_pieces_are_told_apart(
    made: list[tuple[int, bytes, str, int, list[tuple[str, str]]]], cuts: list[int]
) -> None:
    client = new_client()
    data = encode_answers(client, made)
    completed = [number for piece in split(data, cuts) for number in client.feed(piece)]
    kinds = ["" if s == 200 and b == ECHO.answer else "content" if s == 200 else "status" for s, b, *_ in made]
    assert completed == [number for number, kind in enumerate(kinds) if not kind]
    assert client.failures == [(number, kind) for number, kind in enumerate(kinds) if kind]
    assert not client.closing


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.sampled_from(["length", "chunked"]), st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 10**5)
)
def test_alike_answers_complete_whatever_arrives_together(framing: str, counts: list[int], cut: int) -> None:
    client = new_client()
    data = encode_answers(client, [(200, ECHO.answer, framing, 0, [])] * sum(counts))
    size = len(data) // sum(counts)
    edges = [0]
    for count in counts:
        edges.append(edges[-1] + count * size)
    if cut % 3 == 0:
        edges = sorted([*edges, cut % len(data)])
    completed = [number for start, end in pairwise(edges) if end > start for number in client.feed(data[start:end])]
    assert completed == list(range(sum(counts)))


# The template


@pytest.mark.parametrize("count", [1, 4])
def test_what_is_known_is_not_parsed_again(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client = new_client()
    client.request(3 * count)
    parses = Parses(client, monkeypatch)
    assert list(client.feed(GOOD * count)) == list(range(count))
    learning = parses.count
    assert learning > 0
    assert list(client.feed(GOOD * count)) == list(range(count, 2 * count))
    assert list(client.feed(GOOD * count)) == list(range(2 * count, 3 * count))
    assert parses.count == learning


def test_a_new_date_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    client = new_client()
    client.request(100)
    parses = Parses(client, monkeypatch)
    later = GOOD.replace(b"08:49:37", b"08:49:38")
    assert len(client.feed(GOOD)) == 1
    assert len(client.feed(GOOD * 3 + later * 5)) == 8
    parses.count = 0
    assert len(client.feed(later)) == 1
    assert len(client.feed(later * 4)) == 4
    learning = parses.count
    assert learning > 0
    assert len(client.feed(later * 4)) == 4
    assert parses.count == learning


def test_what_ends_inside_an_answer_is_not_learned() -> None:
    client = new_client()
    answer = encode_answers(client, [(200, ECHO.answer, "chunked", 0, [])])
    client.request(3)
    for first in (0, 2):
        assert list(client.feed(answer + answer[:30])) == [first]
        assert list(client.feed(answer[30:])) == [first + 1]


def test_a_body_that_looks_like_an_answer_is_none() -> None:
    client = new_client()
    client.request(2)
    assert list(client.feed(GOOD)) == [0]
    client.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(GOOD))
    assert not client.feed(GOOD)
    assert client.failures == [(1, "content")]


def flips() -> list[tuple[int, int]]:
    return [(at, bit) for at in range(len(GOOD)) for bit in (0x01, 0x20, 0x80)]


def says_the_same(flipped: bytes) -> bool:
    """Whether an answer that differs from GOOD still has status 200, that body, and ends where GOOD does."""
    oracle = h11.Connection(h11.CLIENT)
    oracle.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    oracle.send(h11.EndOfMessage())
    try:
        oracle.receive_data(flipped)
        head = oracle.next_event()
        if not isinstance(head, h11.Response) or head.status_code != 200:
            return False
        body = b""
        while isinstance(event := oracle.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return False
    return isinstance(event, h11.EndOfMessage) and body == ECHO.answer and not oracle.trailing_data[0]


@pytest.mark.parametrize("before", [0, 2], ids=["first", "between"])
def test_no_answer_with_a_flipped_byte_counts_unless_it_says_the_same(before: int) -> None:
    same = 0
    for at, bit in flips():
        flipped = bytearray(GOOD)
        flipped[at] ^= bit
        client = new_client()
        client.request(2 * before + 2)
        if before:
            assert list(client.feed(GOOD)) == [0]
        try:
            completed = [*client.feed(GOOD * (before - 1) + bytes(flipped) + GOOD * before)]
        except ProtocolError:
            completed = []
        if before in completed:
            assert says_the_same(bytes(flipped)), bytes(flipped)
            same += 1
    assert 30 < same < len(flips()) / 2  # a flip inside the Date does not matter, one in the status or body does


# Ends and errors


@pytest.mark.parametrize("fields", [b"", b"transfer-encoding: identity\r\n", b"connection: close\r\n"])
def test_an_answer_without_length_ends_with_the_connection(fields: bytes) -> None:
    client = new_client()
    client.request(1)
    assert not client.feed(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + ECHO.answer)
    assert list(client.feed_eof()) == [0]
    assert client.closing


@pytest.mark.parametrize(
    "cut_off",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + ECHO.answer[:63],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n" + ECHO.answer + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_not_complete(cut_off: bytes) -> None:
    client = new_client()
    client.request(1)
    if cut_off:
        assert not client.feed(cut_off)
    assert not client.feed_eof()
    assert not client.failures


def test_an_answer_that_is_cut_off_without_a_length_has_the_wrong_content() -> None:
    client = new_client()
    client.request(1)
    client.feed(b"HTTP/1.0 200 OK\r\n\r\n" + ECHO.answer[:-1])
    assert not client.feed_eof()
    assert client.failures == [(0, "content")]


def test_connection_close_takes_no_further_request() -> None:
    client = new_client()
    client.request(2)
    assert list(client.feed(GOOD)) == [0]
    assert not client.closing
    assert list(client.feed(GOOD.replace(DATE, b"connection: close\r\n"))) == [1]
    assert client.closing


@pytest.mark.parametrize("length", [b"content-length: 64\r\n", b""])
def test_what_is_behind_connection_close_was_not_processed(length: bytes) -> None:
    client = new_client()
    client.request(4)
    last = b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + length + b"\r\n" + ECHO.answer
    completed = [*client.feed(GOOD), *client.feed(last), *client.feed_eof()]
    assert (completed, client.closing) == ([0, 1], True)
    assert client.failures == [(2, "unprocessed"), (3, "unprocessed")]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x57\x10\x00\xc8",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\ncontent-length: 65\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000,
    ],
)
def test_garbage_is_an_error_of_the_protocol(garbage: bytes) -> None:
    client = new_client()
    client.request(1)
    with pytest.raises(ProtocolError):
        client.feed(garbage)


def test_answers_before_garbage_count_and_the_rest_has_failed() -> None:
    client = new_client()
    client.request(4)
    assert list(client.feed(GOOD * 2 + b"garbage")) == [0, 1]
    assert client.failures == [(2, "protocol"), (3, "protocol")]
    assert client.closing


@pytest.mark.parametrize("known", [False, True])
def test_an_answer_that_nothing_asked_for_is_an_error(known: bool) -> None:
    client = new_client()
    if known:
        client.request(1)
        client.feed(GOOD)
    with pytest.raises(ProtocolError):
        client.feed(GOOD)


def test_more_answers_than_requests_are_an_error() -> None:
    client = new_client()
    client.request(3)
    assert list(client.feed(GOOD)) == [0]
    assert list(client.feed(GOOD * 3)) == [1, 2]
    assert client.closing


def test_a_server_of_somebody_elses_is_checked_for_its_status_only() -> None:
    client = new_client(foreign_exchange("GET", "/"), check_content=False)
    client.request(5)
    assert list(client.feed(GOOD)) == [0]
    assert list(client.feed(GOOD)) == [1]
    assert list(client.feed(GOOD.replace(b"200 OK", b"204 No").replace(b"content-length: 64", b"x: 1")[:-64])) == [2]
    assert list(client.feed(GOOD.replace(b"200 OK", b"302 Found"))) == [3]
    assert not client.feed(GOOD.replace(b"200 OK", b"404 Not Found"))
    assert client.failures == [(4, "status")]


def test_giving_up_on_an_answer_ends_the_connection() -> None:
    client = new_client()
    ids, _ = client.request(2)
    assert client.abandon(ids[0]) is False


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
    server = serve(protocol="http1")
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(Http1Client(wanted, server.address, True), sock, total=100, in_flight=16)
    assert outcome.completed == list(range(100))
    assert not outcome.failures


@pytest.mark.parametrize("opcode", [Opcode.ECHO, Opcode.UPLOAD, Opcode.BYTES])
def test_the_largest_bodies(serve: Serve, opcode: Opcode) -> None:
    server = serve(protocol="http1")
    wanted = exchange(opcode, MAX_BODY_BYTES)
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(Http1Client(wanted, server.address, True), sock, total=1)
    assert outcome.completed == [0]


_NGINX = """
daemon off; master_process off; pid {root}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 100000;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root};
  scgi_temp_path {root};
  server {{
    listen unix:{root}/socket;
    location /echo {{ return 200 "ok"; }}
    location /page {{ root {root}; }}
    location /chunks {{ root {root}; ssi on; ssi_types *; default_type text/html; }}
    location /short {{ keepalive_requests 7; root {root}; }}
  }}
}}
"""


@pytest.fixture
def nginx(need: Callable[[str], str]) -> Iterator[Callable[[], socket.socket]]:
    """Gives a function that connects to an nginx, which listens in a folder of its own: no port to fight over."""
    program = need("nginx")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for page in ("page", "chunks", "short"):
            (root / page).write_bytes(ECHO.answer)
        (root / "conf").write_text(_NGINX.format(root=root))
        with subprocess.Popen(
            [program, "-p", name, "-c", "conf", "-e", "stderr"], stderr=subprocess.PIPE, text=True
        ) as process:

            def connect() -> socket.socket:
                sock = socket.socket(socket.AF_UNIX)
                deadline = time.monotonic() + DEADLINE_S
                while sock.connect_ex(str(root / "socket")):
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    assert time.monotonic() < deadline, "nginx does not listen"
                    time.sleep(0.01)
                return sock

            try:
                yield connect
            finally:
                process.terminate()


def page(path: str, answer: bytes) -> Exchange:
    return Exchange("GET", path, Opcode.ECHO, 0, 0, b"", answer)


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (page("/page", ECHO.answer), None),
        (page("/chunks", ECHO.answer), None),
        (Exchange("POST", "/echo", Opcode.ECHO, 0, 0, bytes(100_000), b"ok"), None),
        (page("/page", ECHO.answer[::-1]), "content"),
        (page("/missing", b""), "status"),
        (Exchange("HEAD", "/page", Opcode.ECHO, 0, 0, b"", b""), None),
        (Exchange("HEAD", "/chunks", Opcode.ECHO, 0, 0, b"", b""), None),
        (Exchange("HEAD", "/missing", Opcode.ECHO, 0, 0, b"", b""), "status"),
    ],
)
@pytest.mark.parametrize("in_flight", [1, 16])
def test_exchanges_with_nginx(
    nginx: Callable[[], socket.socket], wanted: Exchange, kind: str | None, in_flight: int
) -> None:
    with nginx() as sock:
        outcome = drive(Http1Client(wanted, "localhost", True), sock, 200, in_flight)
    if kind is None:
        assert outcome.completed == list(range(200))
    else:
        assert outcome.failures == [(number, kind) for number in range(200)]


def test_nginx_that_closes_a_connection_is_believed(nginx: Callable[[], socket.socket]) -> None:
    with nginx() as sock:
        client = Http1Client(page("/short", ECHO.answer), "localhost", True)
        outcome = drive(client, sock, 50)
        assert client.closing
    assert outcome.completed == list(range(7))
    assert not outcome.failures
    assert not outcome.closed  # it was told, and did not find out by sending
