"""The servers of raw TCP and raw UDP, spoken to by sockets with frames made and read as their page documents."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import servers.udp
from bench.contract import MAX_BODY_BYTES, Opcode, exchange, pattern
from bench.serverprocess import ServerProcess
from bench.wire.frames import FATAL, MAX_DATAGRAM_PAYLOAD_BYTES, MORE, encode_frame
from servers.service import Route
from servers.tcp import MAX_IN_FLIGHT, TcpConnection
from servers.udp import UdpEndpoint
from servers.worker import Connection, Worker, answer_blocking
from tests.servers.make_worker import make_worker

Serve = Callable[..., ServerProcess]
Answer = tuple[int, int, bytes, bytes]
"""Flags, status, id, payload."""

DEADLINE_S = 10.0
OPERATIONS = [
    exchange(Opcode.HEALTH),
    exchange(Opcode.ECHO),
    exchange(Opcode.ECHO, 64),
    exchange(Opcode.BYTES),
    exchange(Opcode.BYTES, 1000),
    exchange(Opcode.UPLOAD, 5000),
    exchange(Opcode.WORK, a=50, b=1),
    exchange(Opcode.READ_TODOS, a=10),
    exchange(Opcode.READ_TODOS_STREAM, a=1),
]


def frame_id(number: int) -> bytes:
    return number.to_bytes(4, "big")


def connect(server: ServerProcess) -> socket.socket:
    sock = socket.create_connection((server.host, server.port), DEADLINE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def decode(data: bytes) -> Answer:
    assert data[0] == 0x57
    assert data[1] >> 4 == 1
    assert int.from_bytes(data[4:8], "big") == len(data) - 20
    assert data[8:16] == bytes(8)
    return data[1] & 15, int.from_bytes(data[2:4], "big"), data[16:20], data[20:]


def answers(sock: socket.socket) -> Iterator[Answer]:
    """The frames that come, until the server closes; a reset fails."""
    with sock.makefile("rb") as stream:
        while header := stream.read(20):
            yield decode(header + stream.read(int.from_bytes(header[4:8], "big")))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def requests_counted(server: ServerProcess) -> int:
    return sum(counts.requests for counts in server.stats()[0])


# TCP


def test_tcp_answers_every_operation(serve: Serve) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        found = answers(sock)
        for number, wanted in enumerate(OPERATIONS):
            sock.sendall(encode_frame(wanted.opcode, frame_id(number), wanted.body, wanted.a, wanted.b))
            assert next(found) == (0, 200, frame_id(number), wanted.answer)


def test_tcp_answers_requests_sent_together_and_counts_them(serve: Serve) -> None:
    server = serve(protocol="tcp")
    with closing(connect(server)) as sock:
        sock.sendall(b"".join(encode_frame(Opcode.ECHO, frame_id(n), b"%d" % n) for n in range(5000)))
        found = answers(sock)
        assert [next(found) for _ in range(5000)] == [(0, 200, frame_id(n), b"%d" % n) for n in range(5000)]
    (counts,), _ = server.stats()
    assert (counts.accepts, counts.requests) == (1, 5000)


def test_tcp_answers_what_is_done_first(serve: Serve) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(encode_frame(Opcode.WORK, b"slow", b"", 0, 150) + encode_frame(Opcode.HEALTH, b"fast", b""))
        found = answers(sock)
        assert [next(found)[2], next(found)[2]] == [b"fast", b"slow"]


def test_tcp_bounds_what_one_connection_has_in_flight(serve: Serve) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        works = b"".join(encode_frame(Opcode.WORK, frame_id(n), b"", 0, 100) for n in range(MAX_IN_FLIGHT))
        # Those behind are many, so that running them must not nest.
        rest = b"".join(encode_frame(Opcode.HEALTH, frame_id(n), b"") for n in range(MAX_IN_FLIGHT, 4 * MAX_IN_FLIGHT))
        sock.sendall(works + rest)
        found = answers(sock)
        ids = [next(found)[2] for _ in range(4 * MAX_IN_FLIGHT)]
    assert ids[0] == frame_id(0)  # a health would have overtaken it
    assert sorted(ids) == [frame_id(n) for n in range(4 * MAX_IN_FLIGHT)]


@pytest.mark.parametrize(("size", "pieces"), [(0, 1), (3, 1), (4, 1), (5, 2), (8, 2), (1001, 251)])
def test_tcp_sends_an_answer_in_pieces(serve: Serve, size: int, pieces: int) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(encode_frame(Opcode.BYTES, b"abcd", b"", size, 4) + encode_frame(Opcode.HEALTH, b"next", b""))
        found = answers(sock)
        got = [next(found) for _ in range(pieces + 1)]
    assert got.pop() == (0, 200, b"next", b"ok")
    assert [flags for flags, *_ in got] == [MORE] * (pieces - 1) + [0]
    assert {(status, id_) for _, status, id_, _ in got} == {(200, b"abcd")}
    assert b"".join(payload for *_, payload in got) == pattern(size)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (encode_frame(98, b"abcd", b"ignored"), 404),
        (encode_frame(99, b"abcd", b""), 404),
        (encode_frame(5, b"abcd", b"{}"), 501),
        (encode_frame(7, b"abcd", b"{}"), 400),
        (encode_frame(Opcode.BYTES, b"abcd", b"", MAX_BODY_BYTES + 1), 400),
        (encode_frame(Opcode.WORK, b"abcd", b"", 2**32 - 1), 400),
    ],
)
def test_tcp_refuses_a_request_and_goes_on(serve: Serve, request_: bytes, status: int) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(request_ + encode_frame(Opcode.HEALTH, b"next", b""))
        found = answers(sock)
        flags, got, id_, message = next(found)
        assert (flags, got, id_) == (0, status, b"abcd")
        assert message
        assert next(found) == (0, 200, b"next", b"ok")


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"\x57\x20" + bytes(18), 400),
        (encode_frame(Opcode.ECHO, b"abcd", b"x", flags=MORE), 400),
        (encode_frame(200, b"abcd", b"x"), 400),
        (b"\x57\x10\x00\x01" + (MAX_BODY_BYTES + 1).to_bytes(4, "big") + bytes(12), 413),
    ],
)
def test_tcp_says_why_it_closes_and_finishes_what_is_in_flight(serve: Serve, garbage: bytes, status: int) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(encode_frame(Opcode.WORK, b"work", b"", 0, 50) + garbage)
        *done, last = answers(sock)
    assert done == [(0, 200, b"work", b"done")]
    assert last[:3] == (FATAL, status, bytes(4))
    assert last[3]


def test_tcp_does_not_reset_a_client_that_goes_on_sending(serve: Serve) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(bytes(16 << 20))
        assert [flags for flags, *_ in answers(sock)] == [FATAL]


def test_tcp_answers_a_client_that_has_closed_its_side(serve: Serve) -> None:
    with closing(connect(serve(protocol="tcp"))) as sock:
        sock.sendall(encode_frame(Opcode.WORK, b"work", b"", 0, 50) + encode_frame(Opcode.ECHO, b"half", b"12345")[:-2])
        sock.shutdown(socket.SHUT_WR)
        assert list(answers(sock)) == [(0, 200, b"work", b"done")]


def test_tcp_takes_the_largest_bodies_without_keeping_an_upload(serve: Serve) -> None:
    server = serve(protocol="tcp")
    with closing(connect(server)) as sock:
        found = answers(sock)
        process = psutil.Process(server.pid)
        before_bytes = process.memory_info().rss
        wanted = exchange(Opcode.UPLOAD, MAX_BODY_BYTES)
        request = encode_frame(wanted.opcode, b"abcd", wanted.body)
        sock.sendall(request[:-1])
        during_bytes = process.memory_info().rss
        sock.sendall(request[-1:])
        assert next(found) == (0, 200, b"abcd", wanted.answer)
        assert during_bytes - before_bytes < MAX_BODY_BYTES / 4

        wanted = exchange(Opcode.ECHO, MAX_BODY_BYTES)
        sending = threading.Thread(target=sock.sendall, args=(encode_frame(wanted.opcode, b"echo", wanted.body),))
        sending.start()
        assert next(found) == (0, 200, b"echo", wanted.answer)
        sending.join()


def test_tcp_stops_reading_from_a_client_that_does_not_read(serve: Serve) -> None:
    server = serve(protocol="tcp")
    count, size = 400, 1 << 20
    with closing(connect(server)) as sock:
        requests = b"".join(encode_frame(Opcode.BYTES, frame_id(n), b"", size) for n in range(count))
        sock.sendall(requests)
        until(lambda: requests_counted(server) == count)
        with closing(connect(server)) as other:  # answered after what the server does with the first one's requests
            other.sendall(encode_frame(Opcode.HEALTH, b"abcd", b""))
            assert next(answers(other))[3] == b"ok"
        assert psutil.Process(server.pid).memory_info().rss < 200 << 20  # half of what was asked for
        # The server is no longer reading: far more than sockets hold does not get through.
        rest = memoryview(encode_frame(Opcode.UPLOAD, b"more", bytes(MAX_BODY_BYTES)))
        sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while rest:
                rest = rest[sock.send(rest) :]
        assert len(rest) > MAX_BODY_BYTES / 2
        sock.settimeout(DEADLINE_S)
        found = answers(sock)
        for number in range(count):
            flags, status, id_, payload = next(found)
            assert (flags, status, id_, len(payload)) == (0, 200, frame_id(number), size)
        sock.sendall(rest)  # and now it reads again
        assert next(found)[2] == b"more"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_stops_answers_what_is_in_flight(serve: Serve, protocol: str) -> None:
    server = serve(protocol=protocol)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect((server.host, server.port))
        sock.sendall(encode_frame(Opcode.WORK, b"work", b"", 0, 200))
        until(lambda: requests_counted(server) == 1)
        server.stop()
        assert decode(sock.recv(65536)) == (0, 200, b"work", b"done")
        if protocol == "tcp":
            assert sock.recv(1) == b""


class BlockingTransport:
    """What a connection may use of a transport that is no event loop's."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def blocking_connection() -> tuple[TcpConnection, Worker, BlockingTransport]:
    def later(_seconds: float, _callback: Callable[[], None]) -> None:
        raise AssertionError("nothing to wait for")

    def run(connection: Connection, token: Any, route: Any, body: bytes) -> None:
        connection.answer(token, route, answer_blocking(route, body))

    slot: Any = SimpleNamespace(values=[0] * 8)
    worker = make_worker(run, later, slot)
    transport = BlockingTransport()
    made: Any = transport
    connection = TcpConnection(worker)
    connection.connection_made(made)
    return connection, worker, transport


def test_tcp_connection_runs_on_a_blocking_transport() -> None:
    connection, _, transport = blocking_connection()
    connection.data_received(encode_frame(Opcode.WORK, b"work", b"", 0, 1) + encode_frame(Opcode.ECHO, b"echo", b"12"))
    assert transport.written == encode_frame(200, b"work", b"done") + encode_frame(200, b"echo", b"12")
    assert not transport.closed


@pytest.mark.parametrize("arrived_bytes", [0, 7, 21])
def test_tcp_connection_that_drains_takes_the_request_that_is_arriving(arrived_bytes: int) -> None:
    connection, worker, transport = blocking_connection()
    request = encode_frame(Opcode.ECHO, b"echo", b"12")
    connection.data_received(request + request[:arrived_bytes])
    worker.drain()
    assert transport.closed == (arrived_bytes == 0)
    connection.data_received(request[arrived_bytes:] + request)
    assert transport.closed
    assert transport.written == encode_frame(200, b"echo", b"12") * (2 if arrived_bytes else 1)


# UDP


@pytest.fixture
def udp(serve: Serve) -> Iterator[tuple[ServerProcess, socket.socket]]:
    server = serve(protocol="udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect((server.host, server.port))
        yield server, sock


Udp = tuple[ServerProcess, socket.socket]


def ask(sock: socket.socket, datagram: bytes) -> Answer:
    sock.send(datagram)
    return decode(sock.recv(65536))


def test_udp_answers_every_operation(udp: Udp) -> None:
    server, sock = udp
    for number, wanted in enumerate(OPERATIONS):
        answer = ask(sock, encode_frame(wanted.opcode, frame_id(number), wanted.body, wanted.a, wanted.b))
        assert answer == (0, 200, frame_id(number), wanted.answer)
    (counts,), _ = server.stats()
    assert (counts.accepts, counts.requests) == (0, len(OPERATIONS))


def test_udp_answers_each_client_what_it_asked(udp: Udp) -> None:
    server, sock = udp
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.settimeout(DEADLINE_S)
        other.connect((server.host, server.port))
        sock.send(encode_frame(Opcode.WORK, b"same", b"", 0, 50))
        assert ask(other, encode_frame(Opcode.ECHO, b"same", b"other")) == (0, 200, b"same", b"other")
        assert decode(sock.recv(65536)) == (0, 200, b"same", b"done")


def test_udp_carries_the_largest_datagram_and_refuses_a_larger_answer(udp: Udp) -> None:
    _, sock = udp
    body = pattern(MAX_DATAGRAM_PAYLOAD_BYTES)
    assert ask(sock, encode_frame(Opcode.ECHO, b"abcd", body)) == (0, 200, b"abcd", body)
    too_long = encode_frame(Opcode.BYTES, b"abcd", b"", MAX_DATAGRAM_PAYLOAD_BYTES + 1)
    assert ask(sock, too_long)[1:3] == (413, b"abcd")


def test_udp_refuses_a_bad_request(udp: Udp) -> None:
    _, sock = udp
    assert ask(sock, encode_frame(97, b"abcd", b""))[1:3] == (404, b"abcd")
    assert ask(sock, encode_frame(Opcode.WORK, b"abcd", b"", 2**32 - 1))[1:3] == (400, b"abcd")


def test_udp_bounds_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.udp, "MAX_IN_FLIGHT", 2)
    sent: list[tuple[int, bytes]] = []
    held: list[Callable[[], None]] = []

    class Transport(asyncio.DatagramTransport):
        def sendto(self, data: Any, addr: Any = None) -> None:
            sent.append(decode(data)[1:3])

    def hold(connection: Connection, token: Any, route: Route, body: bytes) -> None:
        held.append(lambda: connection.answer(token, route, body))

    slot: Any = SimpleNamespace(values=[0] * 8)
    endpoint = UdpEndpoint(make_worker(hold, lambda _seconds, _callback: None, slot))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        endpoint.connection_made(Transport({"socket": sock}))
    for number in range(3):
        endpoint.datagram_received(encode_frame(Opcode.ECHO, frame_id(number), b""), ("127.0.0.1", 1))
    assert sent == [(503, frame_id(2))]
    held[0]()
    endpoint.datagram_received(encode_frame(Opcode.ECHO, frame_id(3), b""), ("127.0.0.1", 1))
    assert sent == [(503, frame_id(2)), (200, frame_id(0))]
    assert len(held) == 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"x",
        bytes(20),
        encode_frame(Opcode.HEALTH, b"abcd", b"")[:-1],
        encode_frame(Opcode.ECHO, b"abcd", b"body")[:-1],
        encode_frame(Opcode.ECHO, b"abcd", b"body") + b"x",
        encode_frame(Opcode.ECHO, b"abcd", b"body") * 2,
        encode_frame(Opcode.ECHO, b"abcd", b"body", flags=MORE),
        encode_frame(200, b"abcd", b"an answer"),
        encode_frame(404, b"abcd", b"an answer"),
    ],
)
def test_udp_never_answers_garbage(udp: Udp, garbage: bytes) -> None:
    server, sock = udp
    sock.send(garbage)
    # Datagrams over loopback stay in order, so an answer to the first would be here before this one.
    assert ask(sock, encode_frame(Opcode.HEALTH, b"next", b"")) == (0, 200, b"next", b"ok")
    assert requests_counted(server) == 1
