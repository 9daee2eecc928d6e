"""Runs over time: what is kept of each, the series of figures that they make, and where these change.

A change point is where the level of a series moves: PELT (Killick, Fearnhead and Eckley 2012, from `ruptures`) on the
logarithms of the figures finds places, and each counts only if the runs on both sides of it differ by more than the
floor, and a rank test between them agrees. Noise is taken from the differences of runs that follow each other, so that
a change of level does not pass for noise.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis import shift, stats
from analysis.load_results import Run
from analysis.metrics import Metric, metric_named
from analysis.regression import METRICS, full_name, is_difference, scenario_hash
from analysis.summary import summaries
from bench.errors import UsageError

KIND, SCHEMA_VERSION = "wirebench-history", 1

FLOOR = 0.05
"""A change of level of less than this share is none."""

RECENT = 2000
"""Changes are sought among so many runs of a series, the last."""

LEAST_RUNS = 5
"""So many runs at least make a level."""

SIGNIFICANT = 0.01
_NEAR = 50
_PENALTY = 3.0

_MACHINE = {
    "cpu": ("model", "cores", "threads", "usable", "governor", "turbo_off", "hypervisor"),
    "kernel": ("system", "release", "machine"),
    "limits": ("cgroup_cpu",),
    "clock": ("source",),
    "python": ("version", "implementation", "gil"),
    "placement": ("server_cpus", "load_cpus"),
}
"""What of an environment makes figures incomparable if it differs."""


def machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's environment its figures depend on."""
    memory = environment.get("memory", {}).get("total_bytes")
    found: dict[str, Any] = {
        group: {name: environment.get(group, {}).get(name) for name in names} for group, names in _MACHINE.items()
    }
    # What the system keeps for itself differs a little from boot to boot.
    return {**found, "memory": {"gib": round(memory / 2**30) if isinstance(memory, int) else None}}


def fingerprint(environment: Mapping[str, Any]) -> str:
    """What a machine is called in histories."""
    return hashlib.sha256(json.dumps(machine(environment), sort_keys=True).encode()).hexdigest()[:12]


def entry(run: Run) -> dict[str, Any]:
    """What a history keeps of a run. Raises UsageError if the run has no valid trial."""
    scenarios = {}
    for summary in summaries(run):
        metrics = {}
        for metric in METRICS:
            if (found := stats.estimate(list(summary.valid_by_round(metric).values()))) is not None:
                metrics[metric.name] = asdict(found)
        if metrics:
            scenarios[scenario_hash(summary.scenario)] = {"name": full_name(summary.scenario), "metrics": metrics}
    if not scenarios:
        raise UsageError(f"{run.path}: no trial is valid, so there is nothing to keep")
    return {
        "kind": KIND,
        "schema": SCHEMA_VERSION,
        "machine": fingerprint(run.environment),
        "environment": machine(run.environment),
        "commit": (run.environment.get("service") or run.environment.get("wirebench", {})).get("commit"),
        "suite": run.suite,
        "started": run.started,
        "scenarios": scenarios,
    }


def read_entry(text: str | bytes, where: str) -> dict[str, Any]:
    """An entry of a history. Raises UsageError if it is none."""
    try:
        found = json.loads(text)
        kind, schema = found["kind"], found["schema"]
        complete = all(key in found for key in ("machine", "started", "scenarios"))
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{where}: not an entry of a history") from None
    if kind != KIND or not complete:
        raise UsageError(f"{where}: not an entry of a history")
    if schema > SCHEMA_VERSION:
        raise UsageError(f"{where}: written by a later version of wirebench; update wirebench")
    return dict(found)


@dataclass(frozen=True)
class Series:
    """A figure of one scenario on one machine, run after run."""

    machine: str
    scenario: str
    scenario_hash: str
    metric: Metric
    started: tuple[str, ...]
    values: tuple[float, ...]
    commits: tuple[str | None, ...]


@dataclass(frozen=True)
class ChangePoint:
    """From the run at `index` on, a series has another level: `ratio` times that before."""

    index: int
    before: float
    after: float
    ratio: float
    is_worse: bool


def series(
    entries: Iterable[Mapping[str, Any]], scenario: str = "", metrics: Sequence[Metric] = METRICS
) -> list[Series]:
    """The series that entries make, which come by time. `scenario` is part of a name, or the beginning of a hash."""
    found: dict[tuple[str, str, str], list[tuple[str, float, str | None]]] = {}
    names: dict[str, str] = {}
    wanted = [metric.name for metric in metrics]
    for one in entries:
        for key, kept in one["scenarios"].items():
            if scenario and scenario not in kept["name"] and not key.startswith(scenario):
                continue
            names[key] = kept["name"]
            for name in wanted:
                if (figure := kept["metrics"].get(name)) is not None:
                    point = (one["started"], figure["value"], one.get("commit"))
                    found.setdefault((one["machine"], key, name), []).append(point)
    made = []
    for (on, key, name), points in sorted(found.items(), key=lambda item: (item[0][0], names[item[0][1]])):
        metric = metric_named(name)
        assert metric is not None  # it is one of those that were asked for
        started, values, commits = zip(*points, strict=True)
        made.append(Series(on, names[key], key, metric, started, values, commits))
    return made


def change_points(of: Series, floor: float = FLOOR) -> list[ChangePoint]:
    """Where the level of a series changes by more than `floor`, among its RECENT last runs. A share that may be zero
    has none: it has no ratio."""
    values = of.values[-RECENT:]
    first = len(of.values) - len(values)
    if len(values) < 2 * LEAST_RUNS or is_difference(of.metric) or min(values) <= 0:
        return []
    logs = np.log(np.asarray(values, float))
    bounds = [0, *_places(logs), len(logs)]
    while (weakest := _weakest(logs, bounds, floor)) is not None:
        del bounds[weakest]
    return [
        _change_point(of.metric, *_sides(logs, start, place, end), first + place)
        for start, place, end in zip(bounds, bounds[1:], bounds[2:], strict=False)
    ]


def _places(logs: Any) -> list[int]:
    """Where PELT divides the series."""
    import ruptures

    noise = float(np.median(np.abs(np.diff(logs)))) / 0.6745 / math.sqrt(2)  # of a normal distribution
    search = ruptures.KernelCPD(kernel="linear", min_size=LEAST_RUNS).fit(logs.reshape(-1, 1))
    found = search.predict(pen=_PENALTY * math.log(len(logs)) * max(noise, 1e-6) ** 2)
    return [int(place) for place in found[:-1]]


def _weakest(logs: Any, bounds: Sequence[int], floor: float) -> int | None:
    """The place that is a change the least, if it is none: both sides are then one level."""
    weak = []
    for number in range(1, len(bounds) - 1):
        found = shift.of_samples(*_sides(logs, *bounds[number - 1 : number + 2]))
        p = min(found.p_above(0), found.p_below(0)) * 2 * len(logs)  # it could have been found at any place
        if p > SIGNIFICANT or abs(found.estimate) < math.log1p(floor):
            weak.append((-p, abs(found.estimate), number))
    return min(weak)[2] if weak else None


def _sides(logs: Any, start: int, place: int, end: int) -> tuple[Any, Any]:
    """The runs next to a place on both sides, within the levels that it divides."""
    return logs[max(start, place - _NEAR) : place], logs[place : min(end, place + _NEAR)]


def _change_point(metric: Metric, before: Any, after: Any, index: int) -> ChangePoint:
    levels = (math.exp(float(np.median(before))), math.exp(float(np.median(after))))
    ratio = math.exp(shift.of_samples(before, after).estimate)
    return ChangePoint(index, *levels, ratio, (ratio > 1) == (metric.better == "lower"))
