"""Thresholds: what the figures of a trial must be, like "p99 < 20ms". They speak of the measured window: warm-up and
drain are in none of its figures.

    p50 p90 p99 p99.9 min mean max   latency, from when a request was due, as a duration
    errors dropped                   a share of the requests that were due ("0.1%"), or how many; dropped are errors too
    rate                             answers a second, as a rate

Each may be of one request of a mix: "p99 of checkout < 50ms".
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from bench.doubts import MAX_CLIENT_CPU, DoubtKind
from bench.errors import UsageError
from bench.quantities import parse_duration_ns, parse_rate_per_s, parse_share, parse_whole

_LATENCIES = {"min": "min", "p50": "p50", "p90": "p90", "p99": "p99", "p99.9": "p999", "max": "max", "mean": "mean"}
"""Names of thresholds, and of the fields of a distribution; all but the mean in ascending order."""

METRICS = (*_LATENCIES, "errors", "dropped", "rate")
FORMS = "p99 < 20ms, errors <= 0.1%, rate > 500/s or p99 of NAME < 50ms"

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SPELLING = re.compile(r"\s*(\S+)(?:\s+of\s+(.+?))?\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Threshold:
    """One threshold, as it was written in `text`."""

    text: str
    metric: str
    request: str
    """The name of the request that it is about; empty for all of them."""
    comparison: str
    limit: float
    """In nanoseconds, as a share, in requests, or per second: see `unit`."""
    unit: str
    """ns, share, count or per_s."""

    @property
    def is_upper(self) -> bool:
        """Whether figures must be below it."""
        return self.comparison in ("<", "<=")


def parse_threshold(text: str, where: str) -> Threshold:
    """Reads a threshold as users write it. Raises UsageError."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise UsageError(f"{where}: {text!r:.80} is not a threshold; write one like {FORMS}")
    metric, request, comparison, value = match.groups()
    if metric not in METRICS:
        raise UsageError(f"{where}: {text!r:.80}: there is no figure {metric}; those there are: {', '.join(METRICS)}")
    limit, unit = _limit(metric, value, f"{where}: {text!r:.80}")
    threshold = Threshold(text.strip(), metric, request or "", comparison, limit, unit)
    if comparison == "<" and limit == 0:
        raise UsageError(f"{where}: {text!r:.80} can never hold: nothing is less than 0; write <= 0")
    if comparison == ">" and unit == "share" and limit == 1:
        raise UsageError(f"{where}: {text!r:.80} can never hold: nothing is more than all")
    if metric == "dropped" and request:
        raise UsageError(f"{where}: {text!r:.80}: what is dropped was never one request or another; leave out its name")
    return threshold


def _limit(metric: str, value: str, where: str) -> tuple[float, str]:
    if metric in _LATENCIES:
        return float(parse_duration_ns(value, where)), "ns"
    if metric == "rate":
        return parse_rate_per_s(value, where), "per_s"
    if value.endswith("%"):
        return parse_share(value, where), "share"
    return float(parse_whole(value, 0, 10**12, where)), "count"


def check_together(thresholds: Sequence[Threshold], where: str) -> None:
    """Raise UsageError for two that no trial can meet at once, like p99 < 10ms and p50 > 20ms."""
    for one, other in combinations_with_replacement(thresholds, 2):
        low, high = (one, other) if other.is_upper else (other, one)
        if low.is_upper or not high.is_upper or not _is_never_above(low, high):
            continue
        strict = low.comparison == ">" or high.comparison == "<"
        if low.limit > high.limit or (low.limit == high.limit and strict):
            raise UsageError(f"{where}: {low.text!r} and {high.text!r} contradict each other: no trial can meet both")


def _is_never_above(low: Threshold, high: Threshold) -> bool:
    """Whether the figure of `low` is never above that of `high`."""
    if low.request != high.request or low.unit != high.unit:
        return False
    if low.metric == high.metric or (low.metric, high.metric) == ("dropped", "errors"):
        return True
    if "mean" in (low.metric, high.metric):
        return (low.metric, high.metric) in (("min", "mean"), ("mean", "max"))
    order = list(_LATENCIES)
    return low.unit == "ns" and order.index(low.metric) < order.index(high.metric)


def judge(thresholds: Sequence[Threshold], trial: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each, as result files hold it. `held` is None where the figure was not measured, as p99.9 of too
    few samples is not."""
    judged = []
    for threshold in thresholds:
        value = _figure(threshold, trial)
        held = None if value is None else _OPERATORS[threshold.comparison](value, threshold.limit)
        judged.append({"threshold": threshold.text, "unit": threshold.unit, "value": value, "held": held})
    return judged


def _figure(threshold: Threshold, trial: dict[str, Any]) -> float | None:
    counts = trial["counts"]
    if counts is None:
        return None
    about = trial["requests"][threshold.request] if threshold.request else None
    errors = counts["errors"] if about is None else about["errors"]
    completed: int = counts["completed"] if about is None else about["completed"]
    failed: int = sum(errors.values())
    match threshold.metric:
        case "rate":
            throughput: float | None = trial["throughput_per_s"]
            return throughput if about is None else completed / (trial["measured_ns"] / 1e9)
        case "errors" | "dropped":
            dropped: int = 0 if about is not None else counts["dropped"]
            number = dropped if threshold.metric == "dropped" else failed + dropped
            due = completed + failed + dropped
            return float(number) if threshold.unit == "count" else number / due if due else None
        case _:
            latency: dict[str, float | None] | None = trial["latency_ns"] if about is None else about["latency_ns"]
            return None if latency is None else latency[_LATENCIES[threshold.metric]]


def exit_code(trial: dict[str, Any]) -> int:
    """0 if every threshold held, 1 if one did not, 3 if the trial cannot tell.

    A service that fails requests, or takes fewer than it is offered, is what thresholds are for: that is a fatal doubt
    about its latency, and none about a threshold that did not hold. What it is about is a threshold that held, unless
    that is on the errors themselves.
    """
    if trial["error"] is not None:
        return 3
    judged = trial["thresholds"]
    fatal = {doubt["kind"] for doubt in trial["doubts"] if doubt["fatal"]}
    if any(threshold["threshold"].split()[0] == "errors" for threshold in judged):
        fatal.discard(DoubtKind.ERRORS)
    answered = {DoubtKind.ERRORS}
    if trial["client"]["cpu_share_max"] <= MAX_CLIENT_CPU:
        answered.add(DoubtKind.GENERATOR_SATURATED)  # not by itself: the service leaves a backlog
    if any(threshold["held"] is False for threshold in judged) and fatal <= answered:
        return 1
    return 3 if fatal or any(threshold["held"] is None for threshold in judged) else 0
