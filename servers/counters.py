"""Counters of each worker, in memory that a server's processes share, so that reading them disturbs nobody.

A slot has one writer: the worker that owns it. Workers that come and go (a thread or process for each connection) take
a slot, add to what is there, and give it back.
"""

import mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

PID, TID, ACCEPTS, REQUESTS, CPU_NS, DROPPED, DISCONNECTED, HELD = range(8)
_FIELDS = 8  # eight 8-byte fields: a cache line for each worker, so that writers do not slow each other
_SLOT_BYTES = _FIELDS * 8


@dataclass(frozen=True)
class WorkerCounts:
    """What one worker has done since the server started. `pid` is 0 if it does not run now; `cpu_ns` is None where the
    system does not tell. What slow subscribers have come to (see `servers.topics`) is that of a whole process."""

    worker: int
    pid: int
    accepts: int
    requests: int
    cpu_ns: int | None
    dropped: int
    disconnected: int
    held: int


class Slot:
    """One worker's counters; `values` is indexed by ACCEPTS and REQUESTS on the hot path."""

    def __init__(self, values: memoryview) -> None:
        self.values = values

    def take(self) -> None:
        """The calling thread becomes the slot's owner."""
        self.values[TID] = threading.get_native_id()
        self.values[PID] = os.getpid()

    def give_back(self) -> None:
        """The calling thread ends: its CPU time is added to the slot's total."""
        self.values[CPU_NS] += time.thread_time_ns()
        self.values[PID] = 0

    def reclaim(self, pid: int, cpu_ns: int) -> None:
        """The process has ended and used that much CPU: does what it could not do itself if it was killed."""
        if self.values[PID] == pid:
            self.values[CPU_NS] += cpu_ns
            self.values[PID] = 0


class Counters:
    """The slots of all workers of one server."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, slots * _SLOT_BYTES)
        view = memoryview(self._memory).cast("Q")
        self._slots = [Slot(view[i * _FIELDS : (i + 1) * _FIELDS]) for i in range(slots)]

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, worker: int) -> Slot:
        return self._slots[worker]

    def __iter__(self) -> Iterator[WorkerCounts]:
        """The counts of every slot that has ever been used."""
        for worker, slot in enumerate(self._slots):
            if slot.values[TID] == 0:
                continue
            pid, tid, accepts, requests, cpu_ns, *slow = slot.values.tolist()
            live = _live_cpu_ns(pid, tid) if pid else 0
            if live is None and slot.values[PID] != pid:  # it ended just now
                pid, live, cpu_ns = 0, 0, slot.values[CPU_NS]
            yield WorkerCounts(worker, pid, accepts, requests, None if live is None else cpu_ns + live, *slow)


def _live_cpu_ns(pid: int, tid: int) -> int | None:
    """Nanoseconds of CPU that a thread of this process, or another process (whose workers are one thread each), has
    used. The clock's number is made as clock_getcpuclockid(3) and pthread_getcpuclockid(3) make it on Linux."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime_ns((~tid << 3) | 6 if pid == os.getpid() else (~pid << 3) | 2)
    except OSError:
        return None
