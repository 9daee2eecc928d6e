"""Workers that die: noticed, named, restarted where that is promised, and never a silent hole in the service."""

import os
import signal
import socket

import pytest

from bench import registry
from bench.errors import ServerFailedError
from bench.protocols import PROTOCOLS
from bench.serverprocess import Death, ServerProcess
from tests.servers.execution_helpers import DEADLINE_S, FORKING, Http, Serve, alive, doomed, fails, until


@pytest.fixture
def _faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "faulty", PROTOCOLS["tcp"])
    monkeypatch.setitem(registry.STACKS["lean"].servers, "faulty", "tests.servers.faulty:FaultyConnection")


def say(server: ServerProcess, word: str) -> bytes:
    """What the server answers to one word on a connection of its own; nothing if it closes, or resets."""
    with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:
        try:
            sock.sendall(word.encode() + b"\n")
            return sock.recv(100)
        except ConnectionResetError:
            return b""


def worker_pids(server: ServerProcess) -> list[int]:
    return [counts.pid for counts in server.stats()[0]]


@pytest.mark.parametrize("execution", FORKING)
def test_a_killed_worker_is_named_and_replaced(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2)
    for _ in range(20):
        with Http(server) as http:
            http.get("/health")
            http.answer()
    before = server.stats()[0]
    victim = before[1]
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: server.events, "the death is reported")
    assert server.events == [Death(1, "killed by SIGKILL", restarted=True)]
    until(lambda: all(worker_pids(server)), "its successor has started")
    with_successor, deaths = server.stats()
    assert deaths == server.events
    assert with_successor[1].pid != victim.pid
    assert set(server.pids()) == {server.pid, *(counts.pid for counts in with_successor)}
    asked = []

    def served_by_the_successor() -> bool:
        with Http(server) as http:
            http.get("/health")
            asked.append(http.answer())
        return server.stats()[0][1].requests > before[1].requests

    until(served_by_the_successor, "the successor serves, and counts on")
    after = server.stats()[0]
    assert sum(counts.requests for counts in after) == 20 + len(asked)
    assert after[1].cpu_ns is None or after[1].cpu_ns > (before[1].cpu_ns or 0)
    server.stop()
    assert server.stderr == ""


@pytest.mark.parametrize("execution", FORKING)
def test_connections_made_while_no_worker_lives_are_served(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=1)
    (pid,) = worker_pids(server)
    os.kill(pid, signal.SIGSTOP)  # it lives, but takes nothing
    waiting = [Http(server) for _ in range(10)]
    os.kill(pid, signal.SIGKILL)
    for http in waiting:
        with http:
            http.get("/health")
            assert http.answer().endswith(b"ok")
    assert [counts.requests for counts in server.stats()[0]] == [10]


@pytest.mark.parametrize("execution", FORKING)
def test_a_worker_that_cannot_live_ends_the_server(execution: str) -> None:
    with doomed("http1", execution, workers=2) as server:
        pids = server.pids()
        killed = 0
        with pytest.raises(ServerFailedError) as raised:  # noqa: PT012  by whichever call comes after the last death
            while True:
                pid = worker_pids(server)[1]
                if pid not in (0, killed):
                    os.kill(pid, signal.SIGKILL)
                    killed = pid
        assert raised.match("gave up: worker 1 died 5 times within 1 s of its start: killed by SIGKILL")
        assert server.events == [Death(1, "killed by SIGKILL", restarted=death < 4) for death in range(5)]
        until(lambda: not any(map(alive, pids)), "nothing is left")


@pytest.mark.usefixtures("_faulty")
class TestErrors:
    """Workers that end with an exception."""

    @pytest.mark.parametrize("execution", FORKING)
    def test_in_a_process(self, serve: Serve, execution: str) -> None:
        server = serve("faulty", execution, workers=2)
        assert say(server, "die later") == b""
        until(lambda: server.events, "the death is reported")
        (death,) = server.events
        assert death.reason == "exited with status 1: WorkerDies: told to"
        assert death.restarted
        assert say(server, "live") == b"alive\n"

    @pytest.mark.parametrize(
        ("execution", "word"),
        [
            ("threads", "die later"),
            ("accept-threads", "die later"),
            ("reuseport-threads", "die later"),
            ("dispatch", "die"),
        ],
    )
    def test_in_a_thread(self, execution: str, word: str) -> None:
        with doomed("faulty", execution, workers=2) as server:
            assert say(server, word) == b""
            until(lambda: server.events, "the death is reported")
            (death,) = server.events
            assert death == Death(death.worker, "ended with WorkerDies: told to", restarted=False)
            for _ in range(10):  # none is left to the dead thread
                assert say(server, "live") == b"alive\n"
            assert say(server, word) == b""
            fails(server, r"no worker is left: worker \d ended with WorkerDies: told to")

    @pytest.mark.parametrize("execution", ["thread-per-connection", "process-per-connection"])
    def test_in_what_serves_one_connection(self, serve: Serve, execution: str) -> None:
        server = serve("faulty", execution)
        assert say(server, "die") == b""
        until(lambda: server.events, "the death is reported")
        (death,) = server.events
        assert death.reason.endswith("WorkerDies: told to")
        assert not death.restarted
        assert say(server, "live") == b"alive\n"

    def test_in_the_only_thread(self) -> None:
        with doomed("faulty", "single") as server:
            assert say(server, "die later") == b""
            fails(server, "ended by itself with exit status 1: told to")


def test_a_killed_process_of_a_connection_is_named(serve: Serve) -> None:
    server = serve("http1", "process-per-connection")
    with Http(server) as http, Http(server) as other:
        http.get("/health")
        http.answer()
        other.get("/health")
        other.answer()
        os.kill(server.stats()[0][0].pid, signal.SIGSEGV)
        assert http.rest() == b""
        until(lambda: server.events, "the death is reported")
        assert server.events == [Death(0, "killed by SIGSEGV", restarted=False)]
        other.get("/health")
        assert other.answer().endswith(b"ok")
