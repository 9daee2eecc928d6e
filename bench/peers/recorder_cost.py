"""What recording a request costs: the calls that the engine makes for each answer of a closed load, timed alone."""

import time
from array import array
from collections.abc import Sequence
from statistics import median

from bench.load.recorder import Recorder
from bench.peers.process import pinned

_BLOCK = 8192
"""Records between two digests: what the engine lets gather before it digests."""
_BLOCKS = 40


def record_ns(cpus: Sequence[int]) -> float:
    """Nanoseconds a record: reading the clock, keeping sent and done time, and the record's share of a digest.

    Median over blocks; the loop around the calls is timed without them and taken off.
    """
    recorder = Recorder(is_open=False)
    start_ns = time.monotonic_ns()
    recorder.set_window(start_ns, start_ns + 600_000_000_000, 10)
    with pinned(cpus):
        return median(_block_ns(recorder) - _empty_block_ns() for _ in range(_BLOCKS)) / _BLOCK


def _block_ns(recorder: Recorder) -> int:
    clock = time.monotonic_ns
    now = clock()
    sent = array("q", range(now - 1_000_000, now - 1_000_000 + _BLOCK * 100, 100))
    record_sent, record_done = recorder.sent.append, recorder.done.append
    begin_ns = time.perf_counter_ns()
    for sent_ns in sent:
        now = clock()
        record_sent(sent_ns)
        record_done(now)
    recorder.digest()
    return time.perf_counter_ns() - begin_ns


def _empty_block_ns() -> int:
    sent = array("q", range(_BLOCK))
    begin_ns = time.perf_counter_ns()
    for _ in sent:
        pass
    return time.perf_counter_ns() - begin_ns
