"""Services that exist as arithmetic alone: c servers, one line, and trials of them as the harness records them."""

import heapq
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.load.histogram import Histogram, summarise

INTERVALS = 10
Service = Callable[[random.Random], float]
"""Draws the seconds that a request keeps a server busy."""


def fixed(seconds: float) -> Service:
    return lambda _chance: seconds


def exponential(seconds: float) -> Service:
    return lambda chance: chance.expovariate(1 / seconds)


def trial(
    servers: int,
    service: Service,
    rate_per_s: float,
    duration_s: float,
    seed: int,
    poisson: bool = False,
    noise: float = 0.0,
) -> dict[str, Any]:
    """A trial of an open load. With the probability `noise` the whole service pauses for 80 ms in its middle."""
    chance = random.Random(seed)
    warmup_s, at = 0.5, 0.0
    free = [0.0] * servers
    pause = (warmup_s + duration_s / 2, 0.08) if chance.random() < noise else None
    due, done = [], []
    number = 0
    while at < warmup_s + duration_s:
        begin = max(at, heapq.heappop(free))
        if pause and pause[0] <= begin < pause[0] + pause[1]:
            begin = pause[0] + pause[1]
        end = begin + service(chance)
        heapq.heappush(free, end)
        due.append(at)
        done.append(end)
        number += 1
        at = at + chance.expovariate(rate_per_s) if poisson else number / rate_per_s
    return record(rate_per_s, np.array(due) - warmup_s, np.array(done) - warmup_s, duration_s)


def record(rate_per_s: float, due_s: Any, done_s: Any, duration_s: float) -> dict[str, Any]:
    """A trial's record, as far as a search looks at it."""
    measured = due_s >= 0
    latency = np.rint((done_s - due_s) * 1e9).astype(np.int64)
    inside = measured & (done_s < duration_s)
    part = np.minimum((done_s * INTERVALS / duration_s).astype(int), INTERVALS - 1)
    count = int(measured.sum())
    answered_in_window = (done_s >= 0) & (done_s < duration_s)
    return {
        "error": None,
        "scenario": {"load": f"open:{rate_per_s}/s", "duration_ns": round(duration_s * 1e9)},
        "counts": {"offered": count, "sent": count, "completed": count, "errors": {}, "dropped": 0},
        "throughput_per_s": float(answered_in_window.sum()) / duration_s,
        "latency_ns": summarise(_histogram(latency[measured])),
        "service_ns": {"p50": int(np.median(latency[measured])) if count else 0},
        "lateness_ns": {"p99": 20_000},
        "intervals": [
            {
                "start_ns": round(n * duration_s * 1e9 / INTERVALS),
                "duration_ns": round(duration_s * 1e9 / INTERVALS),
                "completed": int((inside & (part == n)).sum()),
                "hdr": _histogram(latency[inside & (part == n)]).encode().decode("ascii")
                if (inside & (part == n)).any()
                else None,
            }
            for n in range(INTERVALS)
        ],
        "client": {"cpu_share_max": 0.2},
        "server": None,
        "doubts": [],
        "valid": True,
    }


def _histogram(latency: Any) -> Any:
    histogram = Histogram()
    histogram.record(latency)
    return histogram.to_hdr()
