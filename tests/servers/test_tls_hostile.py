"""Clients that break TLS, or never begin it: the server goes on, and says nothing."""

import asyncio
import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from bench.certificates import certificates
from bench.serverprocess import ServerProcess
from servers import tls
from servers.execution.acceptor import Acceptor
from servers.execution.blocking import BlockingConnection
from servers.http1 import Http1Connection
from servers.service import Service
from servers.tcp import TcpConnection
from servers.worker import Deferrals, run_on_loop
from tests.servers.execution_helpers import DEADLINE_S, Serve
from tests.servers.make_worker import SPEC, make_worker
from tests.servers.tls_client import connect, context, get, received

MODELS = ("single", "thread-per-connection")
SECURE = replace(
    SPEC, tls="1.3", certificate=str(certificates().certificate), private_key=str(certificates().private_key)
)


def hello(version: str | None = None) -> bytes:
    """A good ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context(["h2", "http/1.1"], version).wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def answer_to(server: ServerProcess, data: bytes) -> bytes:
    """What the server says to bytes that are all that it gets."""
    with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:
        answer = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(65536):
                answer += more
    return answer


def still_serves(server: ServerProcess) -> None:
    with connect(server) as sock:
        get(sock, "/health")
        received(sock, b"ok")
    assert server.events == []
    server.stop()
    assert server.stderr == ""


@pytest.mark.parametrize("execution", MODELS)
def test_bytes_of_all_kinds(serve: Serve, execution: str) -> None:
    server = serve("http2", execution, tls="1.3")
    chance = random.Random(3)
    good = hello()
    for number in range(150):
        data = bytearray(good)
        match number % 3:
            case 0:
                data = bytearray(chance.randbytes(chance.randint(0, 400)))
            case 1:
                for _ in range(chance.randint(1, 8)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
            case 2:
                data = data[: chance.randrange(len(data))] + chance.randbytes(chance.randint(0, 50))
        answer_to(server, bytes(data))
    still_serves(server)


@pytest.mark.parametrize("execution", MODELS)
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff" + b"\x01\xff\xff\xff" + bytes(70_000),
        b"\x17\x03\x03\x00\x10" + bytes(16),
        b"\x15\x03\x03\x00\x02\x02\x28",
    ],
)
def test_what_is_no_handshake_gets_an_alert_or_nothing(serve: Serve, execution: str, data: bytes) -> None:
    server = serve("http2", execution, tls="1.3")
    answer = answer_to(server, data)
    assert answer == b"" or (answer[0] == 21 and len(answer) == 7)
    still_serves(server)


@pytest.mark.parametrize("execution", MODELS)
def test_noise_after_the_handshake(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, tls="1.3")
    chance = random.Random(4)
    for _ in range(20):
        raw = socket.socket(fileno=connect(server).detach())
        with raw, contextlib.suppress(OSError):
            raw.settimeout(DEADLINE_S)
            raw.sendall(b"\x17\x03\x03\x00\x30" + chance.randbytes(48))
            while raw.recv(65536):
                pass
    still_serves(server)


class Slot:
    values = [0] * 8

    def take(self) -> None:
        """Nobody counts."""

    give_back = take


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.05)


def secure_context() -> ssl.SSLContext:
    return context(Http1Connection.alpn)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_thread_does_not_wait_for_ever_for_a_handshake(begun: bytes) -> None:
    ours, theirs = socket.socketpair()
    slot: Any = Slot()
    blocking = BlockingConnection(Http1Connection, Service(), slot, SECURE, ours)
    thread = threading.Thread(target=blocking.run)
    thread.start()
    with theirs:
        theirs.settimeout(DEADLINE_S)
        theirs.sendall(begun)
        assert theirs.recv(100) == b""
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("connection", [Http1Connection, TcpConnection])
def test_a_loop_does_not_wait_for_ever_for_a_handshake(connection: type[Any]) -> None:
    async def serve_one() -> None:
        loop = asyncio.get_running_loop()
        worker = make_worker(run_on_loop(loop, Deferrals()), loop.call_later, Slot())
        worker.spec = SECURE
        acceptor = Acceptor(worker, connection)
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            acceptor.adopt(ours)
            await loop.sock_sendall(theirs, b"\x16")
            assert await asyncio.wait_for(loop.sock_recv(theirs, 100), DEADLINE_S) == b""
        assert worker.connections == set()
        await acceptor.stop(0.0)

    uvloop.run(serve_one())


def test_the_time_for_a_handshake_is_no_limit_for_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does a thread watch the clock once it is over, which costs a system call for each request."""
    cancelled = threading.Event()
    later = BlockingConnection._later

    def watched(self: BlockingConnection, delay_s: float, callback: Callable[[], None]) -> Any:
        timer = later(self, delay_s, callback)
        cancel = timer.cancel

        class Watched:
            def cancel(self) -> None:
                cancel()
                assert timer.heap == []
                cancelled.set()

        return Watched()

    monkeypatch.setattr(BlockingConnection, "_later", watched)
    ours, theirs = socket.socketpair()
    slot: Any = Slot()
    blocking = BlockingConnection(Http1Connection, Service(), slot, SECURE, ours)
    thread = threading.Thread(target=blocking.run)
    thread.start()
    theirs.settimeout(DEADLINE_S)
    with secure_context().wrap_socket(theirs, server_hostname="localhost") as sock:
        assert cancelled.wait(DEADLINE_S)
        get(sock, "/health")
        received(sock, b"ok")
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
