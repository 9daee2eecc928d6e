"""The lean HTTP/2 client against nghttpd, and against our server."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client_driver import DEADLINE_S, drive
from http2_answering import ECHO, HEALTH

from bench.contract import Exchange, Opcode, exchange, foreign_exchange
from bench.serverprocess import ServerProcess
from clients.http2 import Http2Client


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
