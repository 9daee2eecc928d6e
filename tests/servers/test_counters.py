"""Counters that workers of several processes write and one reads."""

import os
import sys
import time

import pytest

from servers.counters import ACCEPTS, PID, REQUESTS, Counters


def burn(cpu_ns: int) -> None:
    until = time.thread_time_ns() + cpu_ns
    while time.thread_time_ns() < until:
        pass


def test_only_slots_that_were_used_are_told() -> None:
    counters = Counters(3)
    assert list(counters) == []
    counters[1].take()
    counters[1].values[ACCEPTS] += 2
    counters[1].values[REQUESTS] += 3
    (counts,) = counters
    assert (counts.worker, counts.pid, counts.accepts, counts.requests) == (1, os.getpid(), 2, 3)
    assert counts.cpu_ns is None or counts.cpu_ns > 0 or sys.platform != "linux"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the CPU of a live worker is not told")
def test_cpu_grows_while_the_worker_lives() -> None:
    counters = Counters(1)
    counters[0].take()
    (before,) = counters
    burn(20_000_000)
    (after,) = counters
    assert before.cpu_ns is not None
    assert after.cpu_ns is not None
    assert 20_000_000 <= after.cpu_ns - before.cpu_ns < 500_000_000


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # pytest-xdist has threads; the child uses none
def test_successive_owners_add_up() -> None:
    counters = Counters(1)
    totals = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            counters[0].take()
            counters[0].values[REQUESTS] += 5
            burn(5_000_000)
            counters[0].give_back()
            os._exit(0)
        os.waitpid(pid, 0)
        (counts,) = counters
        assert counts.pid == 0
        totals.append((counts.requests, counts.cpu_ns))
    assert [requests for requests, _ in totals] == [5, 10]
    first_ns, both_ns = (cpu_ns for _, cpu_ns in totals)
    assert first_ns is not None
    assert both_ns is not None
    assert 5_000_000 <= first_ns <= both_ns - 5_000_000


def test_the_cpu_of_a_killed_worker_is_reclaimed_once() -> None:
    counters = Counters(1)
    counters[0].take()
    counters[0].values[PID] = 1  # init's: it lives, and is not this process
    counters[0].reclaim(2, 7_000)
    (counts,) = counters
    assert counts.pid == 1
    for _ in range(2):
        counters[0].reclaim(1, 7_000)
        (counts,) = counters
        assert (counts.pid, counts.cpu_ns) == (0, 7_000)
