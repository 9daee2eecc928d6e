"""What a worker costs that does nothing: a forked process, or a thread."""

import os
import threading
import time

import psutil

from bench.errors import UnsupportedError


def measure(kind: str, count: int = 16) -> dict[str, float]:
    """Start so many workers, and see what each took and holds. PSS counts shared pages by their share."""
    if not hasattr(psutil.Process().memory_full_info(), "pss"):
        raise UnsupportedError("this system does not tell the memory that processes share (PSS)")
    return _processes(count) if kind == "process" else _threads(count)


def _pss_bytes(pids: list[int]) -> int:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)


def _processes(count: int) -> dict[str, float]:
    before = _pss_bytes([os.getpid()])
    end_read, end_write = os.pipe()
    ready_read, ready_write = os.pipe()
    pids = []
    begun_ns = time.monotonic_ns()
    for _ in range(count):
        pid = os.fork()
        if not pid:
            os.close(end_write)
            os.write(ready_write, b"\0")
            os.read(end_read, 1)
            os._exit(0)
        pids.append(pid)
    for _ in range(count):
        os.read(ready_read, 1)
    took_ns = time.monotonic_ns() - begun_ns
    held = _pss_bytes([os.getpid(), *pids]) - before
    os.close(end_write)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"start_ns": took_ns / count, "pss_bytes": max(0, held) / count}


def _threads(count: int) -> dict[str, float]:
    before = _pss_bytes([os.getpid()])
    ready, end = threading.Semaphore(0), threading.Event()

    def work() -> None:
        ready.release()
        end.wait()

    begun_ns = time.monotonic_ns()
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    took_ns = time.monotonic_ns() - begun_ns
    held = _pss_bytes([os.getpid()]) - before
    end.set()
    for thread in threads:
        thread.join()
    return {"start_ns": took_ns / count, "pss_bytes": max(0, held) / count}
