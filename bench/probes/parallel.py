"""What several workers compute together: threads share one lock of the interpreter (the GIL), processes do not."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

from bench.errors import UnsupportedError

_SECONDS = 0.5


def _compute(until_s: float) -> int:
    done = 0
    while time.monotonic() < until_s:
        sum(range(1000))
        done += 1
    return done


def measure(kind: str, count: int = 2) -> dict[str, float]:
    """So many workers for half a second, against one alone before."""
    if len(os.sched_getaffinity(0)) < count:
        raise UnsupportedError(
            f"{count} workers at once need {count} CPUs, and {len(os.sched_getaffinity(0))} may be used"
        )
    alone = _compute(time.monotonic() + _SECONDS)
    if kind == "thread":
        barrier = threading.Barrier(count)

        def work(_number: int) -> int:
            barrier.wait()
            return _compute(time.monotonic() + _SECONDS)

        with ThreadPoolExecutor(count) as threads:
            together = sum(threads.map(work, range(count)))
    else:
        with get_context("fork").Pool(count) as processes:
            processes.map(_compute, [0.0] * count)  # they are there
            until_s = time.monotonic() + _SECONDS
            together = sum(processes.map(_compute, [until_s] * count, chunksize=1))
    return {"speedup": together / alone}
