"""How servers end: in order when asked to, and completely however they or their starter end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from bench.serverprocess import ServerProcess
from tests.servers.execution_helpers import (
    DEADLINE_S,
    MODELS,
    Http,
    Serve,
    alive,
    doomed,
    fails,
    requests_counted,
    until,
)


def _ask(server: ServerProcess) -> None:
    server.stop()


def _terminate(server: ServerProcess) -> None:
    os.kill(server.pid, signal.SIGTERM)


def _interrupt_group(server: ServerProcess) -> None:
    """What a terminal does on Ctrl-C."""
    os.killpg(server.pid, signal.SIGINT)


def _terminate_group(server: ServerProcess) -> None:
    os.killpg(server.pid, signal.SIGTERM)


def assert_nothing_left(server: ServerProcess, pids: list[int]) -> None:
    until(lambda: not any(map(alive, pids)), "every process of the server has ended")
    until(lambda: _can_listen(server), "the port can be had again")


def _can_listen(server: ServerProcess) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            sock.bind((server.host, server.port))
            sock.listen()
            return True
    return False


@pytest.mark.parametrize("execution", MODELS)
def test_requests_in_flight_finish_and_idle_connections_close(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2)
    with Http(server) as idle, Http(server) as busy:
        idle.get("/health")
        assert idle.answer().endswith(b"ok")
        busy.get("/work?wait_ms=150")
        until(lambda: requests_counted(server) == 2, "the request is in flight")
        pids = server.pids()
        _interrupt_group(server)
        assert idle.rest() == b""
        answer = busy.answer()
        assert answer.endswith(b"done")
        assert busy.rest() == b""
    server.stop()
    assert server.events == []
    assert server.stderr == ""
    assert_nothing_left(server, pids)


@pytest.mark.parametrize("execution", MODELS)
def test_a_request_that_is_arriving_is_answered(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2)
    with Http(server) as http:
        http.get("/health")
        http.answer()
        http.sock.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\nexpect: 100-continue\r\n\r\nabc")
        assert http.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # so it has been read
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: _refuses(server), "the server has begun to stop")
        http.sock.sendall(b"def")
        answer = http.answer()
        assert answer.endswith(b"abcdef")
        # Elsewhere the socket may be closed a moment before the connection's own worker hears of it.
        assert b"\r\nconnection: close\r\n" in answer or execution != "single"
        assert http.rest() == b""


def _refuses(server: ServerProcess) -> bool:
    try:
        socket.create_connection((server.host, server.port), DEADLINE_S).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("stop", [_ask, _terminate, _terminate_group])
@pytest.mark.parametrize("execution", ["single", "threads", "dispatch", "prefork", "process-per-connection"])
def test_every_way_to_ask(serve: Serve, execution: str, stop: Callable[[ServerProcess], None]) -> None:
    server = serve("http1", execution, workers=2)
    with Http(server) as http:
        http.get("/health")
        http.answer()
        pids = server.pids()
        stop(server)
        assert http.rest() == b""
    server.stop()
    assert server.events == []
    assert server.stderr == ""
    assert_nothing_left(server, pids)


@pytest.mark.parametrize("execution", MODELS)
def test_the_grace_has_an_end(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2, grace_s=0.0)
    with Http(server) as http:
        http.get("/work?wait_ms=60000")
        until(lambda: requests_counted(server) == 1, "the request is in flight")
        pids = server.pids()
        server.stop()
        assert http.rest() == b""
    assert server.stderr == ""
    assert_nothing_left(server, pids)


@pytest.mark.parametrize("execution", MODELS)
def test_a_client_that_does_not_read_holds_no_server_up(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2, grace_s=0.0)
    with Http(server) as http:
        http.get("/bytes/60000000")
        until(lambda: requests_counted(server) == 1, "the answer is being sent")
        server.stop()
    assert server.stderr == ""


_STARTER = """
import contextlib
import json, sys
from bench.serverprocess import ServerProcess
with ServerProcess("http1", sys.argv[1], workers=2) as server:
    print(json.dumps([server.port, server.pids()]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("execution", MODELS)
def test_nothing_outlives_the_starter(execution: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, execution], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        server = ServerProcess("http1", execution)
        server.port, pids = json.loads(starter.stdout.readline())
        with Http(server) as http:
            http.get("/health")
            http.answer()
            starter.kill()
            assert http.rest() == b""
        assert_nothing_left(server, pids)


@pytest.mark.parametrize("execution", MODELS)
def test_nothing_outlives_the_main_process(execution: str) -> None:
    with doomed("http1", execution, workers=2) as server, Http(server) as http:
        http.get("/health")
        http.answer()
        pids = server.pids()
        os.kill(server.pid, signal.SIGKILL)
        assert http.rest() == b""
        assert_nothing_left(server, pids)
        fails(server, "was killed by SIGKILL")


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _cycles(count: int) -> None:
    for number in range(count):
        with ServerProcess("http1", MODELS[number % len(MODELS)], workers=2) as server, Http(server) as http:
            http.get("/health")
            http.answer()


def _leak_nothing(cycles: int) -> None:
    _cycles(1)
    children, fds = _children(), psutil.Process().num_fds()
    _cycles(cycles)
    assert _children() <= children  # those of other tests may end meanwhile
    assert psutil.Process().num_fds() <= fds


def test_starting_and_stopping_leaks_nothing() -> None:
    _leak_nothing(9)


@pytest.mark.long
def test_starting_and_stopping_a_hundred_times_leaks_nothing() -> None:
    _leak_nothing(100)
