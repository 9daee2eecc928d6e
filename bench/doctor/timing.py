"""How well this machine keeps time now: measured, in a third of a second."""

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import uvloop

from analysis.metrics import show_duration
from bench.doctor.check import Check
from bench.lab import probes
from bench.load.pacing import make_timer

_WAKES = 300
_PERIOD_NS = 1_000_000
_MAX_LATE_NS = 100_000
_CLOCK_READS = 50_000
_MAX_CLOCK_NS = 250
_MAX_STEAL = 0.02


def timing() -> Iterator[Check]:
    """All of it."""
    before = probes.host_load()
    late_ns = _lateness_ns()
    clock_ns = _clock_cost_ns()
    after = probes.host_load()
    p50, p99 = (float(np.percentile(late_ns, p)) for p in (50, 99))
    found = f"p50 {show_duration(p50)}, p99 {show_duration(p99)}, max {show_duration(float(late_ns.max()))} late"
    if p99 > _MAX_LATE_NS:
        fix = "stop other work; in a virtual machine, ask for CPUs of its own"
        yield Check(
            "timing", "timer wake-ups", "warn", f"{found} (p99 should be under {show_duration(_MAX_LATE_NS)})", fix
        )
    else:
        yield Check("timing", "timer wake-ups", "ok", found)
    if clock_ns > _MAX_CLOCK_NS:
        fix = "choose another clock source (see above)"
        yield Check("timing", "reading the clock", "warn", f"{clock_ns:.0f} ns, which is slow", fix)
    else:
        yield Check("timing", "reading the clock", "ok", f"{clock_ns:.0f} ns")
    total_s = after.total_s - before.total_s
    steal = (after.steal_s - before.steal_s) / total_s if total_s > 0 else 0.0
    if steal > _MAX_STEAL:
        fix = "use a machine whose CPUs are not shared"
        yield Check("timing", "stolen time", "warn", f"the hypervisor took {steal:.1%} of the CPU time just now", fix)
    else:
        yield Check("timing", "stolen time", "ok", f"{steal:.1%} just now")


def _lateness_ns() -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """How late each of many wake-ups was that a timer was set for, as open loads set theirs."""
    late: list[int] = []

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        due = time.monotonic_ns() + _PERIOD_NS

        def wake() -> None:
            nonlocal due
            now = time.monotonic_ns()
            if now < due:
                timer.arm(due)
                return
            late.append(now - due)
            if len(late) == _WAKES:
                done.set_result(None)
                return
            due = max(due, now) + _PERIOD_NS
            timer.arm(due)

        timer = make_timer(loop, wake)
        timer.arm(due)
        await done
        timer.close()

    uvloop.run(wait())
    return np.array(late, np.int64)


def _clock_cost_ns() -> float:
    clock = time.monotonic_ns
    begin = clock()
    for _ in range(_CLOCK_READS):
        clock()
    return (clock() - begin) / _CLOCK_READS
