"""Objectives: what a service must still hold to at a rate, and whether a trial shows that it does.

A latency objective counts every request that was due: one that failed or was dropped was not answered in time. So
"p99<50ms" says that 99 % of the requests were answered rightly within 50 ms of when they were due. Beside what is asked
for, a service has to keep up: if latency grows all through a trial, the rate is above what it sustains, however short
the queue still is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from analysis.histograms import decode, merge
from bench.doubts import MAX_CLIENT_CPU, MAX_LATENESS_NS
from bench.errors import UsageError
from bench.load.histogram import SAMPLES_BEYOND
from bench.quantities import format_duration, parse_duration_ns, parse_share
from bench.thresholds import Threshold

EXAMPLES = "p99<50ms, p99.9<100ms or errors<1%"
ERRORS = "errors<1%"
"""What holds if no objective says how many requests may fail."""
DEFAULT = "p99<100ms"

_OBJECTIVE = re.compile(r"(p\d{1,2}(?:\.\d{1,3})?|errors)\s*<\s*(\S+)")
_WITHIN = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
"""The share of requests that thresholds on latency are about."""
_LATE_SHARE = 0.2
"""The generator was disturbed if it sent 1 % of the requests later than this share of the tightest latency limit."""
_CHANCE = 0.05
_MAX_GROWTH = 0.005
"""Seconds of latency a second. A queue in front of a server that is offered a share x too much grows by x."""
_MIN_GROWN_NS = 40_000_000
"""Over a whole trial; what disturbs a short one makes latency grow by less."""
_GROWTH_ERRORS = 3.0
_CAUGHT_UP = 1.05
"""More answers in an interval than this multiple of what was due in one: the service catches up with what a pause has
left, so it is not offered too much."""


class Outcome(StrEnum):
    """What a trial at a rate shows."""

    MET = "met"
    MISSED = "missed"
    SATURATED = "generator-saturated"
    """Missed, and the load generator had no CPU time left: it may be why."""
    DISTURBED = "disturbed"
    """Missed, and something kept the load generator from its CPU now and then: the trial says nothing."""
    DIED = "died"
    """There are no figures, for the service did not live through it."""


@dataclass(frozen=True)
class Verdict:
    """What a trial shows, and in words why."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Objective:
    """At least the share `within` of all requests is answered within `limit_ns`; or, if that is None, at all. If
    `request` is not empty, of those requests of a mix that have that name."""

    text: str
    within: float
    limit_ns: int | None
    request: str = ""

    def _seen(self, trial: dict[str, Any]) -> tuple[int, int, dict[str, Any] | None]:
        """How many of its requests were due, how many were answered rightly, and their latency."""
        if self.request:
            found = trial["requests"][self.request]
            return found["completed"] + sum(found["errors"].values()), found["completed"], found["latency_ns"]
        return trial["counts"]["offered"], trial["counts"]["completed"], trial["latency_ns"]

    def shortfall(self, trial: dict[str, Any]) -> int:
        """How many of the requests that were due did not do what the objective asks of them."""
        due, answered, latency = self._seen(trial)
        failed = due - answered
        if self.limit_ns is None or latency is None or latency["max"] < self.limit_ns:
            return failed
        histogram = decode(latency["hdr"], self.text)
        return failed + int(histogram.counts[histogram.values_ns >= self.limit_ns].sum())

    def may_miss(self, trials: Sequence[dict[str, Any]]) -> float:
        """How many of the requests that were due in the trials may miss it."""
        return (1 - self.within) * sum(self._seen(trial)[0] for trial in trials)

    def is_met(self, trials: Sequence[dict[str, Any]], strict: bool) -> bool:
        """Whether the shortfall of the trials together is allowed; where that is not `strict`, one that chance alone
        may be the reason of (at 5 %) is, for a short trial says little of a high percentile."""
        allowed = self.may_miss(trials)
        if not strict:
            from scipy.stats import binom

            due = sum(self._seen(trial)[0] for trial in trials)
            allowed = max(allowed, float(binom.ppf(1 - _CHANCE, due, 1 - self.within)))
        return bool(sum(self.shortfall(trial) for trial in trials) <= allowed)

    def seen(self, trials: Sequence[dict[str, Any]]) -> str:
        """What the trials together show of it: "p99 81.5 ms"."""
        found = [self._seen(trial) for trial in trials]
        due, answered = max(1, sum(one[0] for one in found)), sum(one[1] for one in found)
        name = self.text.partition("<")[0].strip()
        if self.limit_ns is None:
            return f"errors {sum(self.shortfall(trial) for trial in trials) / due:.2%}"
        latency = merge(decode(one[2]["hdr"], self.text) for one in found if one[2] is not None)
        if latency is None or answered < self.within * due:
            return f"{name} never: {1 - answered / due:.1%} were not answered rightly"
        value = latency.quantiles([min(1.0, self.within * due / answered)])[0]
        return f"{name} {format_duration(float(value)).replace(' us', ' µs')}"


def parse_objectives(texts: Sequence[str], timeout_ns: int, where: str = "--objective") -> tuple[Objective, ...]:
    """Objectives as users spell them, with a bound on errors if none was given. Raises UsageError."""
    found: dict[str, Objective] = {}
    for text in (piece.strip() for given in texts for piece in given.split(",")):
        objective = _parse(text, where)
        found[objective.text] = objective
    return _whole(tuple(found.values()), timeout_ns, where)


def from_thresholds(
    thresholds: Sequence[Threshold], timeout_ns: int, where: str
) -> tuple[tuple[Objective, ...], tuple[Threshold, ...]]:
    """The thresholds of a service as objectives, the usual ones where there are none; and those that are none, for they
    say nothing of a share of requests: rates, means, least latencies and numbers of errors. Raises UsageError."""
    made = {threshold: _of_threshold(threshold) for threshold in thresholds}
    objectives = tuple(objective for objective in made.values() if objective is not None)
    left_out = tuple(threshold for threshold, objective in made.items() if objective is None)
    return _whole(objectives or (_parse(DEFAULT, where),), timeout_ns, where), left_out


def _of_threshold(threshold: Threshold) -> Objective | None:
    within = _WITHIN.get(threshold.metric)
    if not threshold.is_upper:
        return None
    if within is not None:
        limit_ns = round(threshold.limit) + (threshold.comparison == "<=")
        return Objective(threshold.text, within, limit_ns, threshold.request)
    if threshold.metric == "errors" and threshold.unit == "share":
        return Objective(threshold.text, 1 - threshold.limit, None, threshold.request)
    return None


def _whole(objectives: tuple[Objective, ...], timeout_ns: int, where: str) -> tuple[Objective, ...]:
    """With a bound on all errors, if there is none. Raises UsageError for a latency that no answer may have."""
    for objective in objectives:
        if objective.limit_ns is not None and objective.limit_ns > timeout_ns:
            raise UsageError(
                f"{where}: {objective.text!r}: an answer that takes longer than --timeout {format_duration(timeout_ns)}"
                " counts as none; raise --timeout, or lower the objective"
            )
    bounded = any(objective.limit_ns is None and not objective.request for objective in objectives)
    return objectives if bounded else (*objectives, _parse(ERRORS, where))


def _parse(text: str, where: str) -> Objective:
    match = _OBJECTIVE.fullmatch(text)
    if match is None:
        raise UsageError(f"{where}: {text!r} is not an objective; write one like {EXAMPLES}")
    name, limit = match.groups()
    if name == "errors":
        share = parse_share(limit, where)
        if share == 0:
            raise UsageError(f"{where}: {text!r}: nothing is below 0%; write errors<1% or errors<0.1%")
        return Objective(f"errors<{limit}", 1 - share, None)
    within = float(name[1:]) / 100
    limit_ns = parse_duration_ns(limit, where)
    if limit_ns == 0 or within == 0:
        raise UsageError(f"{where}: {text!r} asks for nothing that can be measured; write one like {EXAMPLES}")
    return Objective(f"{name}<{limit}", within, limit_ns)


def judge(
    objectives: Sequence[Objective],
    trial: dict[str, Any],
    strict: bool = False,
    others: Sequence[dict[str, Any]] = (),
) -> Verdict:
    """Whether the trial meets all objectives, and keeps up; and whether it meets them together with `others` of that
    rate. `strict` leaves nothing to chance that the trial has the samples for; trials together leave it nothing."""
    if trial["error"] is not None:
        return Verdict(Outcome.DIED, why=trial["error"])
    if deaths := (trial["server"] or {}).get("deaths"):
        return Verdict(Outcome.DIED, why=f"worker {deaths[0]['worker']} {deaths[0]['reason']}")
    if not trial["counts"]["offered"]:
        return Verdict(Outcome.DISTURBED, "no request was due")
    alone, together = [trial], [*others, trial]
    missed = [
        one for one in objectives if not one.is_met(alone, strict and round(one.may_miss(alone)) >= SAMPLES_BEYOND)
    ]
    reasons = [f"{objective.seen(alone)} ({objective.text})" for objective in missed]
    growth = backlog_growth(trial)
    if growth > _MAX_GROWTH:
        reasons.append(f"latency grew by {growth * 1000:.0f} ms a second")
    if not reasons and others:
        missed = [one for one in objectives if not one.is_met(together, strict=True)]
        reasons = [f"{one.seen(together)} in {len(together)} trials together ({one.text})" for one in missed]
    if not reasons:
        return Verdict(Outcome.MET)
    if growth > _MAX_GROWTH or any(_most_too_slow(objective, trial) for objective in missed):
        outcome, guilty = _exhausted(trial)  # from one end to the other: that is no disturbance
    else:
        outcome, guilty = _generator([one for one in missed if one.limit_ns is not None] or objectives, trial)
    return Verdict(outcome, "; ".join([*reasons, *guilty]))


def _most_too_slow(objective: Objective, trial: dict[str, Any]) -> bool:
    """Whether the median request took too long even from when it was sent."""
    service = trial["service_ns"]
    return service is not None and objective.limit_ns is not None and bool(service["p50"] >= objective.limit_ns)


def _generator(objectives: Sequence[Objective], trial: dict[str, Any]) -> tuple[Outcome, list[str]]:
    """What a trial that missed comes to, by what the load generator had to do with that."""
    limits = [objective.limit_ns for objective in objectives if objective.limit_ns is not None]
    outcome, guilty = _exhausted(trial)
    lateness = trial["lateness_ns"]
    late = lateness and limits and lateness["p99"] > max(MAX_LATENESS_NS, _LATE_SHARE * min(limits))
    if outcome is Outcome.MISSED and late:
        duration = format_duration(lateness["p99"])
        return Outcome.DISTURBED, [f"the generator sent 1 % of the requests {duration} or more late"]
    return outcome, guilty


def _exhausted(trial: dict[str, Any]) -> tuple[Outcome, list[str]]:
    share = trial["client"]["cpu_share_max"]
    if share is not None and share > MAX_CLIENT_CPU:
        return Outcome.SATURATED, [f"a load process used {share:.0%} of its core"]
    return Outcome.MISSED, []


def backlog_growth(trial: dict[str, Any]) -> float:
    """By how many seconds latency grew in each second of the trial, where that is more than its scatter and the service
    did not catch up meanwhile; else 0.

    The slope of a line through the mean latencies of the intervals of the measured window (least squares).
    """
    points = [
        (part["start_ns"] + part["duration_ns"] / 2, _mean_ns(part["hdr"]))
        for part in trial["intervals"]
        if part["hdr"]
    ]
    due = trial["counts"]["offered"] / len(trial["intervals"])
    if len(points) < 4 or any(part["completed"] > _CAUGHT_UP * due for part in trial["intervals"]):
        return 0.0
    at, latency = np.array(points).T
    length_ns = float(sum(part["duration_ns"] for part in trial["intervals"]))
    at -= at.mean()
    slope = float((at * latency).sum() / (at * at).sum())
    residual = latency - latency.mean() - slope * at
    error = float(np.sqrt((residual**2).sum() / (len(points) - 2) / (at * at).sum()))
    is_clear = slope > _GROWTH_ERRORS * error and slope * length_ns > _MIN_GROWN_NS
    return slope if is_clear else 0.0


def _mean_ns(hdr: str) -> float:
    histogram = decode(hdr, "interval")
    return float((histogram.values_ns * histogram.counts).sum() / histogram.total)
