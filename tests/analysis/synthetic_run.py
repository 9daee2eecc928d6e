"""Result files of a machine that does not exist: seeded, shaped like real ones, with every kind of trouble in them."""

import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
SAMPLES = 1500
INTERVALS = 10

EXECUTIONS = {  # the share of a core's throughput that a model reaches here, and how it spreads requests
    "single": (1.0, "one"),
    "threads": (0.82, "even"),
    "dispatch": (0.61, "even"),
    "accept-threads": (0.80, "skewed"),
    "thread-per-connection": (0.55, "one"),
    "prefork": (1.72, "skewed"),
    "process-per-connection": (1.35, "one"),
    "reuseport": (1.78, "even"),
    "reuseport-threads": (0.83, "even"),
}
CAPACITY = {"http1": 42_000.0, "http2": 61_000.0, "tcp": 118_000.0, "udp": 69_000.0}
OTHERS = {"http3": 9_000.0, "websocket": 90_000.0, "sse": 20_000.0, "grpc": 15_000.0}
SUBSCRIBERS = 100


@dataclass(frozen=True)
class Plan:
    """A scenario of the made-up suite, and what is wrong with it: `troubles` are read in `_trial`."""

    group: str
    protocol: str
    execution: str = "single"
    load: str = "closed:64"
    payload_bytes: int = 64
    operation: str = "echo"
    troubles: frozenset[str] = field(default_factory=frozenset)
    stack: str = "lean"
    client: str = "lean"
    tls: str = "off"
    pattern: str = "request-response"

    def record(self) -> dict[str, Any]:
        workers = 1 if self.execution == "single" else 2
        spelled = f"×{workers}" if workers > 1 else ""
        return {
            "name": f"{self.protocol} {self.execution}{spelled} {self.load} {self.operation} {self.payload_bytes}B"
            f"{self.stack.replace('lean', '')}{self.tls.replace('off', '')}",
            "group": self.group,
            "protocol": self.protocol,
            "stack": self.stack,
            "client": self.client,
            "tls": self.tls,
            "tier": "lean" if self.stack == self.client == "lean" and self.protocol != "http3" else "library",
            "pattern": self.pattern,
            "operation": self.operation,
            "payload_bytes": self.payload_bytes,
            "execution": self.execution,
            "workers": workers,
            "load": self.load,
            "connections": "64",
            "link": "loopback",
            "warmup_ns": SECOND_NS // 2,
            "duration_ns": 2 * SECOND_NS,
            "timeout_ns": 5 * SECOND_NS,
            "queue_limit": 10_000,
        }


def suite() -> list[Plan]:
    """35 scenarios in four groups."""
    troubled = {
        "udp": frozenset({"saturated", "timeouts"}),
        "http2": frozenset({"noisy"}),
        "tcp": frozenset[str](),
        "http1": frozenset[str](),
    }
    return [
        *(Plan("protocols", protocol, troubles=troubled[protocol]) for protocol in CAPACITY),
        *(
            Plan(
                "execution",
                "http1",
                execution,
                troubles=frozenset(
                    {"prefork": {"death"}, "dispatch": {"failed"}, "threads": {"nulls"}}.get(execution, ())
                ),
            )
            for execution in EXECUTIONS
        ),
        *(Plan("payload", protocol, payload_bytes=size) for protocol in CAPACITY for size in (64, 1024, 16384)),
        *(
            Plan("rates", protocol, load=f"open:{rate}/s")
            for protocol in ("http1", "tcp")
            for rate in (5000, 10000, 20000, 40000, 80000)
        ),
    ]


def build_run(
    seed: int = 1, rounds: int = 5, plans: list[Plan] | None = None, noise: float = 0.02, name: str = "quick"
) -> dict[str, Any]:
    """A whole result file. `noise` is the standard deviation of the logarithm of what a round gives."""
    rng = np.random.default_rng(seed)
    shuffle = random.Random(seed)
    plans = suite() if plans is None else plans
    trials = []
    for number in range(rounds):
        drift = rng.normal(0, noise)
        order = list(plans)
        shuffle.shuffle(order)
        trials += [_trial(plan, number, rng, drift, noise) for plan in order]
    unsupported = Plan("execution", "udp", "thread-per-connection").record()
    return {
        "kind": "wirebench-run",
        "schema": 1,
        "suite": name,
        "description": "Protocols, execution models, payload sizes and a ladder of rates, each for two seconds.",
        "command": ["wirebench", "run", name, "--seed", str(seed)],
        "seed": seed,
        "rounds": rounds,
        "started": "2025-03-01T10:00:00Z",
        "finished": "2025-03-01T10:08:12Z",
        "status": "complete",
        "environment": {
            "cpu": {
                "model": "Example CPU 2.40GHz",
                "logical": 2,
                "governor": "unavailable",
                "flags": ["avx2", "sse4_2"],
            },
            "memory": {"total_bytes": 8_231_374_848},
            "kernel": {"release": "6.1.0-18-amd64", "system": "Linux"},
            "sysctls": {"net.core.somaxconn": 4096, "net.ipv4.tcp_congestion_control": "cubic"},
            "python": {"version": "3.11.2", "implementation": "CPython"},
            "packages": {"uvloop": "0.22.1", "httptools": "0.7.1"},
            "git": {"commit": "c7ebe81", "dirty": True},
            "placement": {"client": "0", "server": "1"},
            "gil": "on",
        },
        "unsupported": [
            {"scenario": unsupported, "why": "udp has no connections, so there is none to give a thread to"},
        ],
        "trials": trials,
    }


def _trial(plan: Plan, number: int, rng: np.random.Generator, drift: float, noise: float) -> dict[str, Any]:
    record = {
        "scenario": plan.record(),
        "round": number,
        "seed": int(rng.integers(1 << 31)),
        "started": f"2025-03-01T10:{number:02d}:00.25Z",
        "wire": None,
        "doubts": [],
        "error": None,
        "valid": True,
    }
    if "failed" in plan.troubles and number == 1:
        return record | {
            "valid": False,
            "error": "the server did not start within 10 s",
            "counts": None,
            "offered_per_s": None,
            "throughput_per_s": None,
            "latency_ns": None,
            "service_ns": None,
            "lateness_ns": None,
            "intervals": [],
            "client": None,
            "server": None,
        }
    speed = EXECUTIONS[plan.execution][0]
    size_cost = 1 + plan.payload_bytes / (9000 if plan.protocol in ("http1", "tcp") else 5000)
    speed *= 0.3 if plan.stack != "lean" else 1.0
    capacity = {**CAPACITY, **OTHERS}[plan.protocol] * speed / size_cost * math.exp(drift + rng.normal(0, noise))
    offered = float(plan.load.removeprefix("open:").removesuffix("/s")) if plan.load.startswith("open") else None
    throughput = capacity if offered is None else min(offered * rng.uniform(0.999, 1.0), capacity)
    base_ns = 64 / capacity * 1e9 if offered is None else 1e9 / capacity * (4 + 2 / max(0.02, 1 - offered / capacity))
    scale = 1.0
    if offered is not None and offered > capacity:  # the queue grows for as long as the trial lasts
        base_ns, scale = (1 - capacity / offered) * 1e9, 2.0
    return record | _figures(plan, number, rng, throughput, offered, base_ns, scale)


def _figures(
    plan: Plan,
    number: int,
    rng: np.random.Generator,
    throughput: float,
    offered: float | None,
    base_ns: float,
    scale: float,
) -> dict[str, Any]:
    completed = int(throughput * 2)
    slow = rng.random(SAMPLES) < 0.004
    values = base_ns * rng.lognormal(0, 0.18 * scale, SAMPLES) * np.where(slow, rng.uniform(3, 9, SAMPLES), 1)
    latency = _distribution(values, max(1, completed // SAMPLES))
    intervals = [
        {
            "start_ns": index * 2 * SECOND_NS // INTERVALS,
            "duration_ns": 2 * SECOND_NS // INTERVALS,
            "completed": completed // INTERVALS,
            "errors": 0,
            "hdr": hdr_blob(part, 1),
        }
        for index, part in enumerate(np.array_split(values, INTERVALS))
    ]
    errors = {"timeout": 7 + number} if "timeouts" in plan.troubles else {}
    dropped = int((offered - throughput) * 2) if offered and throughput < offered * 0.98 else 0
    doubts, deaths = [], []
    if "saturated" in plan.troubles and number in (0, 2, 3):
        doubts.append(
            _doubt("generator-saturated", True, f"a load process used {91 + number} % of a core (limit 85 %)")
        )
    if errors:
        doubts.append(_doubt("errors", False, f"{sum(errors.values())} requests failed: timeout"))
    if "noisy" in plan.troubles and number == 4:
        doubts.append(_doubt("noisy-host", False, "6.2 % of the CPU time was stolen by other machines"))
    if "death" in plan.troubles and number == 3:
        doubts.append(_doubt("server-restarted", True, "worker 1 was killed by signal 9 and was restarted"))
        deaths.append({"worker": 1, "reason": "killed by signal 9", "restarted": True})
    if offered and throughput < offered * 0.98:
        doubts.append(_doubt("generator-saturated", False, f"achieved {throughput / offered:.3f} of the offered rate"))
    nulls = "nulls" in plan.troubles
    cpu_s = 2 * min(2.0, 0.97 * EXECUTIONS[plan.execution][0]) * rng.uniform(0.96, 1.0)
    rss = int(rng.normal(42e6, 4e5)) * (2 if plan.execution in ("prefork", "reuseport") else 1)
    return {
        "valid": not any(doubt["fatal"] for doubt in doubts),
        "counts": {
            "offered": completed + sum(errors.values()) + dropped,
            "sent": completed + sum(errors.values()),
            "completed": completed,
            "errors": errors,
            "dropped": dropped,
        },
        "offered_per_s": offered,
        "throughput_per_s": throughput,
        "latency_ns": latency,
        "service_ns": latency,
        "lateness_ns": None if offered is None else _distribution(values / 100, 1),
        "intervals": intervals,
        "client": {
            "processes": 1,
            "cpu_user_s": 1.1 * rng.uniform(0.9, 1.1),
            "cpu_system_s": 0.5,
            "cpu_share_max": 0.8,
            "rss_bytes": 61_000_000,
            "pss_bytes": 55_000_000,
            "context_switches_voluntary": 9000,
            "context_switches_involuntary": 120,
        },
        "server": {
            "cpu_user_s": cpu_s * 0.7,
            "cpu_system_s": cpu_s * 0.3,
            "rss_bytes": rss,
            "pss_bytes": None if nulls else int(rss * 0.8),
            "context_switches_voluntary": None if nulls else 12_000,
            "context_switches_involuntary": None if nulls else 90,
            "workers": _workers(plan.execution, completed, rng, nulls),
            "deaths": deaths,
        },
        "doubts": doubts,
        "delivery": _delivery(completed) if plan.pattern == "push" else None,
    }


def _delivery(completed: int) -> dict[str, Any]:
    return {
        "subscribers": SUBSCRIBERS,
        "published": completed // SUBSCRIBERS + 1,
        "expected": completed + SUBSCRIBERS,
        "delivered": completed,
        "duplicates": 3,
        "reach": completed / (completed + SUBSCRIBERS),
    }


def protocol_facts(*protocols: str) -> dict[str, Any]:
    """What a run says of its protocols."""
    declared = {"data_format": "binary frames", "flow_control": "none", "default_port": "80, with TLS 443"}
    counted = [
        _counted("off", {"sent_bytes": 130, "received_bytes": 180}, {"sent_bytes": 130.0, "received_bytes": 180.5}, 99),
        _counted("1.3", None, None, 0) | {"why_not": "its server did not start"},
    ]
    return {protocol: {"declared": declared, "counted": counted} for protocol in protocols}


def _counted(tls: str, first: Any, later: Any, exchanges: int) -> dict[str, Any]:
    return {"tls": tls, "first": first, "later": later, "exchanges": exchanges, "why_not": None}


def _workers(execution: str, completed: int, rng: np.random.Generator, nulls: bool) -> list[dict[str, Any]]:
    spread = EXECUTIONS[execution][1]
    first = {"one": 1.0, "even": rng.uniform(0.48, 0.52), "skewed": rng.uniform(0.55, 0.7)}[spread]
    shares = [first] if spread == "one" else [first, 1 - first]
    return [
        {
            "worker": index,
            "pid": 4000 + index,
            "accepts": round(64 * share),
            "requests": round(completed * share),
            "cpu_s": None if nulls else 1.9 * share,
        }
        for index, share in enumerate(shares)
    ]


def _doubt(kind: str, fatal: bool, detail: str) -> dict[str, Any]:
    return {"kind": kind, "fatal": fatal, "detail": detail}


def _distribution(values: NDArray[np.float64], weight: int) -> dict[str, Any]:
    p50, p90, p99, p999 = np.quantile(values, [0.5, 0.9, 0.99, 0.999], method="inverted_cdf").tolist()
    return {
        "count": len(values) * weight,
        "mean": float(values.mean()),
        "min": float(values.min()),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "p999": p999,
        "max": float(values.max()),
        "hdr": hdr_blob(values, weight),
    }


def hdr_blob(values: NDArray[np.float64], weight: int) -> str:
    """Each value `weight` times, as result files hold histograms. Value by value, the package would take seconds."""
    hdr = HdrHistogram(1, 3_600_000_000_000, 3)
    whole = values.astype(np.int64)
    bucket = np.maximum(np.floor(np.log2(np.maximum(whole, 1))).astype(np.int64) - 10, 0)
    np.add.at(np.frombuffer(hdr.counts, np.int64), (bucket << 10) + (whole >> bucket), weight)
    hdr.total_count, hdr.min_value, hdr.max_value = len(whole) * weight, int(whole.min()), int(whole.max())
    return str(hdr.encode().decode())
