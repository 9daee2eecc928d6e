"""Every execution model with every protocol that it can carry: who serves, and what is counted."""

import contextlib
import os
import resource
import sys
from pathlib import Path

import pytest

from bench.contract import Opcode, exchange
from bench.errors import UnsupportedError, UsageError
from bench.serverprocess import ServerProcess
from tests.servers.execution_helpers import (
    COMBINATIONS,
    DEADLINE_S,
    FORKING,
    MODELS,
    SOCKET_PROTOCOLS,
    Http,
    Serve,
    Talker,
    requests_counted,
    until,
)

ECHO = exchange(Opcode.ECHO, 64)
UNSUPPORTED = {("udp", "threads"), ("udp", "thread-per-connection"), ("udp", "process-per-connection")}


def test_only_what_makes_no_sense_is_unsupported() -> None:
    every = {(protocol, execution) for protocol in SOCKET_PROTOCOLS for execution in MODELS}
    assert every - set(COMBINATIONS) == UNSUPPORTED


@pytest.mark.parametrize(("protocol", "execution"), sorted(UNSUPPORTED))
def test_an_unsupported_combination_says_why_and_starts_nothing(protocol: str, execution: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{protocol} under {execution} is not supported: .*; use ") as raised:
        ServerProcess(protocol, execution).__enter__()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("protocol", "execution"), COMBINATIONS)
def test_serves_and_counts(serve: Serve, protocol: str, execution: str) -> None:
    server = serve(protocol, execution, workers=2)
    talkers = [Talker(server, ECHO) for _ in range(4)]
    for talker in talkers:
        with talker:
            talker.exchange(3)
    workers, deaths = server.stats()
    assert sum(counts.requests for counts in workers) == 12
    if protocol != "udp":
        assert sum(counts.accepts for counts in workers) == 4
    assert all(counts.cpu_ns is not None and counts.cpu_ns > 0 for counts in workers) or sys.platform != "linux"
    numbers = [counts.worker for counts in workers]
    match execution:
        case "single":
            assert numbers == [0]
        case "dispatch":
            assert numbers == [0, 1, 2]
        case "thread-per-connection" | "process-per-connection":
            assert set(numbers) <= {0, 1, 2, 3}
        case _:
            assert numbers == [0, 1]
    if execution in FORKING:
        assert set(server.pids()) == {server.pid, *(counts.pid for counts in workers)}
        assert server.pid not in {counts.pid for counts in workers}
    assert deaths == []
    server.stop()
    assert server.stderr == ""


@pytest.mark.parametrize("execution", MODELS)
def test_large_bodies_both_ways(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=2)
    with Talker(server, exchange(Opcode.ECHO, 8 << 20)) as talker:
        talker.ask(1)
        talker.collect(1)


def test_threads_take_connections_in_turn(serve: Serve) -> None:
    server = serve("http1", "threads", workers=3)
    for _ in range(9):
        with Talker(server, ECHO) as talker:
            talker.exchange(1)
    assert [counts.accepts for counts in server.stats()[0]] == [3, 3, 3]


@pytest.mark.parametrize("execution", ["reuseport", "reuseport-threads"])
def test_the_kernel_spreads_connections_over_sockets(serve: Serve, execution: str) -> None:
    server = serve("http1", execution, workers=3)
    for _ in range(60):  # the chance that a worker gets none of 60 is under 1e-10
        with Talker(server, ECHO) as talker:
            talker.exchange(1)
    assert all(counts.accepts > 0 for counts in server.stats()[0])


@pytest.mark.parametrize("execution", ["reuseport", "reuseport-threads"])
def test_the_kernel_spreads_datagrams_over_sockets(serve: Serve, execution: str) -> None:
    server = serve("udp", execution, workers=3)
    for _ in range(60):
        with Talker(server, ECHO) as talker:
            talker.exchange(1)
    assert all(counts.requests > 0 for counts in server.stats()[0])


def test_dispatch_gives_each_request_to_the_worker_with_the_fewest(serve: Serve) -> None:
    server = serve("http1", "dispatch", workers=3, grace_s=0.0)
    talkers = [Talker(server, exchange(Opcode.WORK, b=30_000)) for _ in range(3)]
    for talker in talkers:
        talker.ask(1)
    until(lambda: requests_counted(server) == 3, "all three run")
    *workers, listener = server.stats()[0]
    assert [(counts.accepts, counts.requests) for counts in workers] == [(0, 1), (0, 1), (0, 1)]
    assert (listener.accepts, listener.requests) == (3, 0)
    for talker in talkers:
        talker.sock.close()


def test_dispatch_counts_in_the_listener_what_it_answers_itself(serve: Serve) -> None:
    server = serve("http1", "dispatch", workers=1)
    with Http(server) as http:
        http.get("/nothing")
        assert http.answer().startswith(b"HTTP/1.1 404")
    assert [counts.requests for counts in server.stats()[0]] == [0, 1]


@pytest.mark.parametrize("execution", [model for model in MODELS if model != "single"])
def test_requests_wait_side_by_side(serve: Serve, execution: str) -> None:
    """Under models whose workers block as under those that do not: no request waits for another's sleep."""
    server = serve("http1", execution, workers=2, grace_s=0.0)
    with Talker(server, exchange(Opcode.WORK, b=30_000)) as sleeper, Talker(server, ECHO) as quick:
        sleeper.ask(1)
        if execution == "dispatch":
            until(lambda: requests_counted(server) == 1, "the first request runs")
        quick.exchange(5)


@pytest.mark.parametrize("execution", ["thread-per-connection", "process-per-connection"])
def test_slots_are_given_back(serve: Serve, execution: str) -> None:
    server = serve("http1", execution)
    for _ in range(30):
        with Talker(server, ECHO) as talker:
            talker.exchange(2)
        until(lambda: all(counts.pid == 0 for counts in server.stats()[0]), "the connection's worker has ended")
    workers = server.stats()[0]
    assert len(workers) < 10  # one, but for a connection that comes before the slot of the last is back
    assert sum(counts.accepts for counts in workers) == 30
    assert sum(counts.requests for counts in workers) == 60


def test_no_more_than_1024_connections_have_a_thread(serve: Serve) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 1200:
        pytest.skip("this process may not open 1,200 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = serve("http1", "thread-per-connection")
    with contextlib.ExitStack() as stack:
        *served, last = [stack.enter_context(Http(server)) for _ in range(1025)]
        for http in served:
            http.get("/health")
            assert http.answer().endswith(b"ok")
        last.get("/health")
        last.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            last.answer()
        assert len(server.stats()[0]) == 1024
        served[500].sock.close()
        last.sock.settimeout(DEADLINE_S)
        assert last.answer().endswith(b"ok")
    assert sum(counts.requests for counts in server.stats()[0]) == 1025


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads")
class TestPinning:
    @pytest.mark.parametrize("execution", MODELS)
    def test_every_thread_is_kept_on_the_cpus_named(self, serve: Serve, execution: str) -> None:
        cpu = max(os.sched_getaffinity(0))
        server = serve("http1", execution, workers=2, cpus=(cpu,))
        with Talker(server, ECHO) as talker:
            talker.exchange(1)
            for pid in server.pids():
                for task in Path(f"/proc/{pid}/task").iterdir():
                    assert os.sched_getaffinity(int(task.name)) == {cpu}

    @pytest.mark.parametrize("execution", ["accept-threads", "prefork"])
    def test_workers_take_the_cpus_in_turn(self, serve: Serve, execution: str) -> None:
        cpus = sorted(os.sched_getaffinity(0))[:2]
        if len(cpus) < 2:
            pytest.skip("this machine has one CPU")
        server = serve("http1", execution, workers=4, cpus=cpus)
        tasks = [int(task.name) for pid in server.pids() for task in Path(f"/proc/{pid}/task").iterdir()]
        assert sorted(map(sorted, map(os.sched_getaffinity, tasks))) == sorted([cpus, *([cpu] for cpu in cpus * 2)])

    def test_a_cpu_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UsageError, match="CPU 4095 cannot be had; those available here are 0"):
            ServerProcess("http1", cpus=(4095,)).__enter__()


@pytest.mark.parametrize("protocol", ["http1", "udp"])
def test_a_port_in_use_is_the_users_to_change(serve: Serve, protocol: str) -> None:
    # That of a reuseport server too: to share it would go unnoticed, and take a part of what the other is sent.
    for occupant, executions in {
        "single": [execution for each, execution in COMBINATIONS if each == protocol],
        "reuseport": ["single", "reuseport", "reuseport-threads"],
    }.items():
        port = serve(protocol, occupant).port
        for execution in executions:
            with pytest.raises(UsageError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: the port is in use"):
                ServerProcess(protocol, execution, port=port).__enter__()


@pytest.mark.parametrize("execution", MODELS)
def test_a_port_can_be_had_again_at_once(serve: Serve, execution: str) -> None:
    port = 0
    for _ in range(2):
        server = serve("http1", execution, workers=2, port=port)
        with Talker(server, ECHO) as talker:
            talker.exchange(1)
            server.stop()  # closes first, so that the connection lingers in TIME_WAIT on the server's port
        port = server.port
