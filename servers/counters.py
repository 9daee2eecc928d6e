"""Counters of each worker, in memory that a server's processes share, so that reading them disturbs nobody.

A slot has one writer: the worker that owns it. Workers that come and go (a thread or process for each connection) take
a slot, add to what is there, and give it back.
"""

import mmap
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PID, TID, ACCEPTS, REQUESTS, CPU_NS = range(5)
_FIELDS = 8  # eight 8-byte fields: a cache line for each worker, so that writers do not slow each other
_SLOT_BYTES = _FIELDS * 8


@dataclass(frozen=True)
class WorkerCounts:
    """What one worker has done since the server started. `cpu_ns` is None where the system does not tell."""

    worker: int
    pid: int
    accepts: int
    requests: int
    cpu_ns: int | None


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
            pid, tid, accepts, requests, cpu_ns = slot.values[:5].tolist()
            if tid == 0:
                continue
            live = _thread_cpu_ns(pid, tid) if pid else 0
            yield WorkerCounts(worker, pid, accepts, requests, None if live is None else cpu_ns + live)


def _thread_cpu_ns(pid: int, tid: int) -> int | None:
    """Nanoseconds that a thread has run, from the scheduler's own account (Linux, Documentation/scheduler/sched-stats)."""
    try:
        return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_bytes().split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None
