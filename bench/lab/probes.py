"""What processes cost, read from the outside: CPU time, memory, context switches. And how busy the host itself is."""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Usage:
    """Totals of a family of processes since they started. `cpu_s` is exact; what of it is `user_s` and `system_s` is
    known by samples at the kernel's clock tick alone (10 ms on most systems), and may not add up to it."""

    cpu_s: float
    user_s: float
    system_s: float
    context_switches_voluntary: int
    context_switches_involuntary: int


@dataclass(frozen=True)
class Spent:
    """What a family of processes used between two looks."""

    cpu_user_s: float
    cpu_system_s: float
    context_switches_voluntary: int
    context_switches_involuntary: int


@dataclass(frozen=True)
class Memory:
    """Memory of a family of processes now. PSS counts shared pages once; None where the system does not tell."""

    rss_bytes: int
    pss_bytes: int | None


@dataclass(frozen=True)
class HostLoad:
    """The whole machine: CPU seconds since boot, those that the hypervisor took, and threads that run or wait to, now
    (None where the system does not tell)."""

    total_s: float
    steal_s: float
    runnable_per_cpu: float | None


def usage(pids: Iterable[int]) -> Usage:
    """What the processes have used. The first is the parent of the others: what its ended children used is counted
    too."""
    cpu = user = system = 0.0
    voluntary = involuntary = 0
    for number, pid in enumerate(pids):
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu += _cpu_s(pid, times)
            switched = _context_switches(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
        user += times.user
        system += times.system
        if number == 0:
            cpu += times.children_user + times.children_system
            user += times.children_user
            system += times.children_system
        voluntary += switched[0]
        involuntary += switched[1]
    return Usage(cpu, user, system, voluntary, involuntary)


def spent(before: Usage, after: Usage) -> Spent:
    """The difference. The exact CPU time is split into user and system as the samples in between say, or, if there were
    none, those since the start."""
    cpu = max(0.0, after.cpu_s - before.cpu_s)
    user, system = max(0.0, after.user_s - before.user_s), max(0.0, after.system_s - before.system_s)
    if not user + system:
        user, system = after.user_s, after.system_s
    share = user / (user + system) if user + system else 0.5
    return Spent(
        cpu * share,
        cpu * (1 - share),
        after.context_switches_voluntary - before.context_switches_voluntary,
        after.context_switches_involuntary - before.context_switches_involuntary,
    )


def _cpu_s(pid: int, times: Any) -> float:
    """A process's CPU time. On Linux from its own clock, to the nanosecond, whose number is made as
    clock_getcpuclockid(3) makes it: the times of proc(5) come in ticks of 10 ms, too coarse for many small ones."""
    if sys.platform != "linux":
        return float(times.user + times.system)
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        raise ProcessLookupError(pid) from None


def _context_switches(process: psutil.Process) -> tuple[int, int]:
    """Voluntary and involuntary switches of all live threads (proc(5): a process's own status has its first
    thread's)."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.exists():
        switches = process.num_ctx_switches()
        return switches.voluntary, switches.involuntary
    voluntary = involuntary = 0
    for task in tasks.iterdir():
        try:
            status = (task / "status").read_bytes()
        except OSError:  # the thread has ended meanwhile
            continue
        fields = dict(line.split(b":\t", 1) for line in status.splitlines() if b"ctxt_switches" in line)
        voluntary += int(fields[b"voluntary_ctxt_switches"])
        involuntary += int(fields[b"nonvoluntary_ctxt_switches"])
    return voluntary, involuntary


def memory(pids: Iterable[int]) -> Memory:
    """What the processes hold in memory."""
    rss = 0
    pss: int | None = 0
    for pid in pids:
        try:
            full = psutil.Process(pid).memory_full_info()
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return Memory(sum(psutil.Process(p).memory_info().rss for p in pids), None)
        rss += full.rss
        pss = pss + full.pss if pss is not None and hasattr(full, "pss") else None
    return Memory(rss, pss)


def host_load() -> HostLoad:
    """How the machine's CPUs have spent their time."""
    times = psutil.cpu_times()
    try:
        runnable = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    except OSError:
        return HostLoad(sum(times), 0.0, None)
    return HostLoad(sum(times), getattr(times, "steal", 0.0), runnable / (psutil.cpu_count() or 1))
