"""What processes cost, read from the outside: CPU time, memory, context switches. And how busy the host itself is."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Usage:
    """Totals of a family of processes since they started."""

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
    user = system = 0.0
    voluntary = involuntary = 0
    for number, pid in enumerate(pids):
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            switched = _context_switches(process)
        except psutil.NoSuchProcess:
            continue
        user += times.user + (times.children_user if number == 0 else 0.0)
        system += times.system + (times.children_system if number == 0 else 0.0)
        voluntary += switched[0]
        involuntary += switched[1]
    return Usage(user, system, voluntary, involuntary)


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
