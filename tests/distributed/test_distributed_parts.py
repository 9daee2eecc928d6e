"""The pieces of a distributed load: clocks, seconds, shares, and what is refused before anything starts."""

import json
import socket
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.childprocess import ChildProcess
from bench.distributed.clocks import Clock, drifted, read_clock
from bench.distributed.seconds import Clerk, Reported, Together, times_ms
from bench.distributed.worker import _Part, _Worker
from bench.load.histogram import Histogram, decode, new_hdr
from bench.load.recorder import Recorder
from bench.load.spec import LoadSpec, Request
from bench.schedule import due_times, parse_concurrency, parse_load

MS = 1_000_000

SPEC = LoadSpec(
    "http1", "clients.http1:Http1Client", "127.0.0.1", 1, Request(), "poisson:500/s", "13", 0, 2_000 * MS, 1, 1, 10, 7
)


@given(st.integers(-(10**18), 10**18), st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=1))
@settings(derandomize=True, max_examples=100)
def test_a_clock_is_within_its_error(offset_ns: int, ways_ns: list[tuple[int, int]]) -> None:
    samples = []
    now = 5_000
    for there_ns, back_ns in ways_ns:
        samples.append((now, now + there_ns + offset_ns, now + there_ns + back_ns))
        now += there_ns + back_ns + 17
    clock = read_clock(samples)
    assert abs(clock.offset_ns - offset_ns) <= clock.error_ns
    assert clock.error_ns <= (min(map(sum, ways_ns)) + 1) // 2


def test_what_a_clock_drifts_is_part_of_its_error() -> None:
    assert drifted(Clock(1_000, 50), Clock(1_300, 20)) == Clock(1_000, 350)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2_000))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_parts_of_a_share_are_that_share(workers: int, others: int, since_ms: int) -> None:
    """What a lost worker had to do from then on, its heirs have to do between them: each request, each connection."""
    load, concurrency = parse_load(SPEC.load, "load"), parse_concurrency(SPEC.connections, "connections")

    def due(spec: LoadSpec) -> list[int]:
        chunks = due_times(load, spec.warmup_ns, spec.duration_ns, spec.seed, (spec.process, spec.processes))
        return [ns for ns in np.concatenate(list(chunks)).tolist() if ns >= spec.since_ns]

    for process in range(workers):
        lost = LoadSpec(**{**vars(SPEC), "process": process, "processes": workers})
        parts = lost.parts(others, since_ms * MS)
        wanted = [ns for ns in due(lost) if ns >= since_ms * MS]
        assert sorted(ns for part in parts for ns in due(part)) == wanted
        shares = [concurrency.share(part.process, part.processes).connections for part in parts]
        assert sum(shares) == concurrency.share(process, workers).connections
        if others <= sum(shares):
            assert min(shares) >= 1


def test_what_is_reported_second_by_second_adds_up_bit_for_bit() -> None:
    clerk, reported, whole = Clerk(), Reported(), Histogram()
    random = np.random.default_rng(3)
    together = Together()

    def take_up(second: dict[str, Any]) -> None:
        latency = decode(second["hdr"])
        reported.add(second, latency)
        together.add(second, latency)

    for half in range(7):
        recorder = Recorder(is_open=False)
        recorder.set_window(0, 1 << 60, 1)
        latencies = random.lognormal(12, 2, 3_000).astype(np.int64)
        recorder.sent.extend([1] * len(latencies))
        recorder.done.extend((latencies + 1).tolist())
        clerk.add(half // 2, recorder.progress())
        whole.record(latencies)
        for second in clerk.take(half // 2):
            take_up(json.loads(json.dumps(second)))
    for second in clerk.take():
        take_up(second)
    assert list(clerk.take()) == []
    assert reported.until == 4
    assert reported.hdr.encode().decode() == whole.encode()
    shown = [progress for _, progress in together.take(1 << 40)]
    assert [progress.completed for progress in shown] == [6_000, 6_000, 6_000, 3_000]
    total = new_hdr()
    for progress in shown:
        total.add(progress.hdr)
    assert total.encode().decode() == whole.encode()
    assert reported.partial_result(True, 10)["latency"] == whole.encode()


class Pretended:
    """A process that has said all of these already."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events = list(events)
        self._ends = socket.socketpair()
        self._ends[1].send(b".")
        self.told: list[dict[str, Any]] = []
        self.ended = False

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def next_event(self, _timeout_s: float) -> dict[str, Any] | None:
        return self._events.pop(0) if self._events else None

    def send(self, told: dict[str, Any]) -> None:
        self.told.append(told)

    def kill(self) -> None:
        self.ended = True
        for end in self._ends:
            end.close()


def test_a_load_that_is_stopped_when_it_has_something_to_say_is_not_heard() -> None:
    """As when a worker stood still, and finds what both the master and its load process have said meanwhile."""
    locust = Pretended(*({"event": "message", "data": {"say": said}} for said in ("stop", "done")))
    load = Pretended({"event": "progress"})
    worker = _Worker(cast("ChildProcess", locust), lambda _line: None)
    worker._parts = {cast("ChildProcess", load): _Part({}, None)}
    worker.serve()
    locust.kill()
    assert load.ended
    assert [told["send"]["say"] for told in locust.told] == ["stopped"]


def test_a_second_that_comes_late_counts_for_the_next() -> None:
    together, latency = Together(), Histogram()
    latency.record(np.array([5], np.int64))
    for number in (0, 0, 1):
        together.add({"second": number, "completed": 1, "errors": 2}, latency.to_hdr())
    assert [(n, p.completed, p.errors) for n, p in together.take(1)] == [(0, 2, 4)]
    together.add({"second": 0, "completed": 1, "errors": 0}, latency.to_hdr())
    assert [(n, p.completed, p.hdr.total_count) for n, p in together.take(9)] == [(1, 2, 2)]


def test_locust_gets_parts_of_milliseconds() -> None:
    latency = Histogram()
    latency.record(np.array([123_456, 123_457, 1_500_000, 2_345_678_901], np.int64))
    assert times_ms(latency.to_hdr()) == [(0.123, 2), (1.5, 1), (2350.0, 1)]
    assert times_ms(Histogram().to_hdr()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--expect-workers", "2"], ["--expect-workers: only --distributed has workers"]),
        (["--distributed", "--load-processes", "2"], ["--load-processes", "start more workers"]),
        (["--distributed", "--lost-workers", "ignore"], ["--lost-workers: 'ignore'", "share or stop"]),
        (["--distributed", "--bind", "a b"], ["--bind: 'a b' is no address", "like 10.0.0.5:5557"]),
        (["--distributed", "--web", "127.0.0.1:70000"], ["--web", "is no address"]),
        (["--distributed", "--wait", "soon"], ["--wait", "'soon'"]),
        (
            ["--distributed", "--load", "closed:2", "--expect-workers", "3"],
            ["3 workers cannot share 2 connections", "each needs one"],
        ),
        (["--distributed", "--link", "rtt=1ms"], ["--link: a lab is on one machine"]),
        (["--distributed", "--bind", "192.0.2.1:5"], ["--bind: cannot listen at 192.0.2.1:5"]),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Callable[..., str], arguments: list[str], words: list[str]) -> None:
    message = refused("load", "http://127.0.0.1:1/", *arguments)
    for word in words:
        assert word in message


def test_a_place_that_is_taken_is_refused(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused("load", "http://127.0.0.1:1/", "--distributed", "--web", place)
    assert f"--web: cannot listen at {place}: Address already in use" in message


def test_masters_that_cannot_be_are_refused(refused: Callable[..., str]) -> None:
    assert "--master: 'a b' is no address" in refused("worker", "--master", "a b")
    assert "the host no.such.host.invalid cannot be found" in refused(
        "worker", "--master", "no.such.host.invalid", "--wait", "0s"
    )
