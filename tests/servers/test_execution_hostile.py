"""Clients that misbehave and systems that are short of something: the server goes on, and says nothing."""

import contextlib
import socket
import struct
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.serverprocess import ServerProcess
from tests.servers.execution_helpers import DEADLINE_S, MODELS, Http, Serve, requests_counted, until

PIECES = [
    b"",
    b"GET /hea",
    b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc",
    b"GET /bytes/8000000 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /work?wait_ms=20 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
"""What a client says before it goes: nothing, half a head, half a body, a request whose answer it does not read, one
that it does not wait for, and the start of TLS."""


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("execution", MODELS)
def test_clients_that_go_without_a_word(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2)
    for leave in (reset, socket.socket.close):
        for piece in PIECES:
            sock = socket.create_connection((server.host, server.port), DEADLINE_S)
            sock.sendall(piece)
            if piece.startswith(b"GET /bytes"):
                assert sock.recv(1)
            leave(sock)
    with Http(server) as http:
        http.get("/health")
        assert http.answer().endswith(b"ok")
    until(lambda: sum(counts.accepts for counts in server.stats()[0]) >= 11, "all have been accepted")
    assert server.events == []
    server.stop()
    assert server.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of another process")
@pytest.mark.parametrize("execution", ["single", "threads", "accept-threads", "thread-per-connection", "prefork"])
def test_no_descriptors_left(serve: Serve, execution: str) -> None:
    import resource

    server = serve("http1", execution, workers=2)
    for pid in server.pids():
        used = psutil.Process(pid).num_fds()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http(server)) for _ in range(60)]
        clients[0].get("/health")
        assert clients[0].answer().endswith(b"ok")
        before_s = cpu_s(server)
        time.sleep(0.25)  # not a wait for something: what is measured is that nothing is done meanwhile
        assert cpu_s(server) - before_s < 0.1
    until(lambda: is_served(server), "it has descriptors again")
    assert server.events == []
    server.stop()
    assert server.stderr == ""


def is_served(server: ServerProcess) -> bool:
    try:
        with Http(server) as http:
            http.get("/health")
            return http.answer().endswith(b"ok")
    except (AssertionError, OSError):  # accepted, and closed for want of a descriptor
        return False


def cpu_s(server: ServerProcess) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in server.pids())


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
@pytest.mark.parametrize("execution", MODELS)
def test_a_client_that_does_not_read_costs_little_memory(serve: Serve, execution: str) -> None:
    """10,000 answers of 1 MB each are asked for at once; none is made before there is room for it."""
    server = serve("http1", execution, workers=2, grace_s=0.0)
    with Http(server) as http:
        http.sock.settimeout(0.2)
        request = b"GET /bytes/1000000 HTTP/1.1\r\nhost: x\r\n\r\n"
        with contextlib.suppress(TimeoutError):
            http.sock.sendall(request * 10_000)
        until(lambda: requests_counted(server) > 0, "the first request runs")
        peak = max(peak_bytes(pid) for pid in server.pids())
        assert peak < 64_000_000
        server.stop()


def peak_bytes(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
