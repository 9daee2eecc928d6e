"""Finds the capacity of a service, stage by stage, and keeps what was measured.

Search and confirmation for all objectives together; then for each by itself, on the same trials as far as they go; the
curve of latency against rate; closed loads of growing concurrency; the same search for each other number of workers or
execution model. Who is measured is known to `bench.subjects` alone.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from analysis.capacity import spread
from analysis.capacity_words import answer_line, facts
from bench.capacityfile import CapacityFile
from bench.errors import TargetError, UsageError
from bench.judging import Judge, length_ns
from bench.objectives import Objective, Outcome, Verdict, judge
from bench.quantities import (
    format_duration,
    format_rate,
    parse_duration_ns,
    parse_rate_per_s,
    parse_share,
    spell_rate,
)
from bench.ratesearch import Found, RateSearch, Reason, Stage, Step
from bench.schedule import parse_concurrency
from bench.subjects import Subject

Arrivals = Literal["constant", "poisson"]

CURVE = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.1)
"""Where the curve has points beside those of the search, as multiples of the capacity."""
_NEAR = 0.04
"""A point of the curve is not measured again if the search has one that near, relative to it."""
_CURVE_TRIES = 2
"""A point of the curve that was disturbed is measured again."""
_FEWEST = 3
_SHORTEST_NS = 500_000_000


@dataclass(frozen=True)
class Plan:
    """What a plan is made for: a rate, the share of each unit that is to stay free, and by how much the rate grows."""

    target_per_s: float
    headroom: float
    growth: float


@dataclass(frozen=True)
class Settings:
    """How a capacity is looked for."""

    objectives: tuple[Objective, ...]
    arrivals: Arrivals
    start_per_s: float
    max_per_s: float
    duration_ns: int
    """Of a trial of the search."""
    confirm_ns: int
    """Of a trial that confirms."""
    concurrencies: tuple[int, ...]
    """Of the sweep of closed loads."""
    plan: Plan | None = None

    def load(self, rate_per_s: float) -> str:
        """A rate as a load."""
        return f"{'open' if self.arrivals == 'constant' else 'poisson'}:{spell_rate(rate_per_s)}"

    def record(self) -> dict[str, Any]:
        """As capacity files hold it."""
        return {**asdict(self), "objectives": [objective.text for objective in self.objectives]}

    def length_ns(self, step: Step, judge: Judge) -> int:
        """How long the trial of a step measures: long enough for a few requests, or, if it confirms, for what the
        highest percentile still needs."""
        if step.stage is Stage.SEARCH:
            return max(self.duration_ns, round(_FEWEST / step.rate_per_s * 1e9))
        met = judge.confirming(step.rate_per_s)
        return max(self.confirm_ns, length_ns(self.objectives, met, step.rate_per_s))


def settings_of(
    objectives: tuple[Objective, ...],
    arrivals: Arrivals,
    start: str,
    max_rate: str,
    duration: str,
    confirm: str,
    connections: str,
    target: str | None,
    headroom: str,
    growth: str,
) -> Settings:
    """Settings from a command line. Raises UsageError."""
    start_per_s, max_per_s = parse_rate_per_s(start, "--from"), parse_rate_per_s(max_rate, "--max-rate")
    if start_per_s > max_per_s:
        raise UsageError(f"--from: {start} is more than --max-rate {max_rate}")
    lengths = {"--duration": duration, "--confirm": confirm}
    duration_ns, confirm_ns = (parse_duration_ns(text, option) for option, text in lengths.items())
    for option, asked_ns in zip(lengths, (duration_ns, confirm_ns), strict=True):
        if asked_ns < _SHORTEST_NS:
            raise UsageError(f"{option}: {lengths[option]!r} is too short to judge a rate by; the least is 500ms")
    plan = None
    if target is not None:
        shares = {"--headroom": headroom, "--growth": growth}
        kept, growing = (parse_share(text, option) for option, text in shares.items())
        if kept == 1:
            raise UsageError("--headroom: 100% leaves nothing to use")
        plan = Plan(parse_rate_per_s(target, "--target"), kept, growing)
    most = parse_concurrency(connections, "--connections").connections
    return Settings(
        objectives,
        arrivals,
        start_per_s,
        max_per_s,
        duration_ns,
        confirm_ns,
        tuple(1 << power for power in range(most.bit_length())),
        plan,
    )


class ServiceGoneError(Exception):
    """The service did not live through a trial, and there is no other."""


class CapacityRun:
    """The stages, one after the other. `tell` is given a line about each trial."""

    def __init__(self, settings: Settings, seed: int, file: CapacityFile, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._seeds = random.Random(seed)
        self._file = file
        self._tell = tell

    def run(self, subject: Subject, others: Sequence[Subject]) -> None:
        """All stages. Raises TargetError if the service is not there to begin with, OutputError."""
        try:
            start_per_s = self._settings.start_per_s
            found = self._search(subject, self._settings.objectives, start_per_s)
            judged = found.reason in (Reason.OBJECTIVE, Reason.UNMET, Reason.MAX_RATE)
            for objective in self._single() if judged else ():
                self._search(subject, (objective,), start_per_s)
            if found.rate_per_s is not None:
                self._curve(subject, found.rate_per_s)
                self._tell_facts("knee", "queue")
                self._concurrency(subject)
                self._tell_facts("scaling")
                for other in others:
                    self._search(other, self._settings.objectives, max(1.0, round(found.rate_per_s / 2)))
        except ServiceGoneError:
            pass
        self._file.finish("complete")

    def _single(self) -> tuple[Objective, ...]:
        """The objectives that are worth a search of their own: those of latency, where there are several."""
        latencies = [objective for objective in self._settings.objectives if objective.limit_ns is not None]
        return tuple(latencies) if len(latencies) > 1 else ()

    def _search(self, subject: Subject, objectives: Sequence[Objective], start_per_s: float) -> Found:
        """One search, on what is known of the subject already."""
        begun = time.monotonic()
        search = RateSearch(start_per_s, self._settings.max_per_s)
        judge = Judge(objectives)
        for entry in self._file.trials:
            if entry["subject"] == subject.name and entry["stage"] in tuple(Stage):
                taken, trial = Step(Stage(entry["stage"]), entry["rate_per_s"]), entry["trial"]
                search.tell(taken, judge.judge(taken, trial).outcome, trial["throughput_per_s"] or 0.0)
        try:
            while isinstance(step := search.next(), Step):
                load = self._settings.load(step.rate_per_s)
                trial = self._trial(subject, load, self._settings.length_ns(step, judge))
                verdict = judge.judge(step, trial)
                search.tell(step, verdict.outcome, trial["throughput_per_s"] or 0.0)
                self._keep(subject, step.stage, trial, step.rate_per_s, objectives, verdict)
        except ServiceGoneError as error:
            self._conclude(subject, judge, search, Found(None, None, Reason.DIED), str(error), begun)
            raise
        self._conclude(subject, judge, search, step, judge.why(step.missed_per_s), begun)
        return step

    def _conclude(
        self, subject: Subject, judge: Judge, search: RateSearch, found: Found, why: str, begun: float
    ) -> None:
        measured = [entry for entry in self._file.trials if entry["subject"] == subject.name]
        ended = {
            "subject": subject.name,
            "execution": subject.execution,
            "workers": subject.workers,
            "objectives": [objective.text for objective in judge.objectives],
            "rate_per_s": found.rate_per_s,
            "missed_per_s": found.missed_per_s,
            "met_per_s": search.highest_met_per_s(),
            "too_few_samples": judge.thin(found.rate_per_s),
            "busiest_share": spread(measured, subject.workers, subject.execution),
            "reason": str(found.reason),
            "why": why,
            "seconds": round(time.monotonic() - begun, 1),
        }
        self._file.conclude(ended)
        self._tell(f"capacity of {answer_line(ended)}")

    def _tell_facts(self, *names: str) -> None:
        """What has become known."""
        for name, words in facts(self._file.concluded()):
            if name in names:
                self._tell(f"{name}: {words}")

    def _curve(self, subject: Subject, rate_per_s: float) -> None:
        """Points between those of the search."""
        for share in CURVE:
            wanted = float(f"{rate_per_s * share:.3g}")
            near = [
                entry
                for entry in self._file.trials
                if entry["subject"] == subject.name and entry["rate_per_s"] is not None
                if abs(entry["rate_per_s"] / wanted - 1) < _NEAR
            ]
            if near:
                continue
            for _ in range(_CURVE_TRIES):
                trial = self._trial(subject, self._settings.load(wanted), self._settings.duration_ns)
                verdict = judge(self._settings.objectives, trial)
                self._keep(subject, "curve", trial, wanted, self._settings.objectives, verdict)
                if verdict.outcome is not Outcome.DISTURBED:
                    break

    def _concurrency(self, subject: Subject) -> None:
        """Closed loads: so many requests in flight, one on each connection."""
        for concurrency in self._settings.concurrencies:
            trial = self._trial(subject, f"closed:{concurrency}", self._settings.duration_ns)
            self._keep(subject, "concurrency", trial)

    def _trial(self, subject: Subject, load: str, duration_ns: int) -> dict[str, Any]:
        try:
            return subject.measure(load, duration_ns, self._seeds.getrandbits(32))
        except TargetError as error:
            if not self._file.trials:
                raise
            self._tell(f"{load}: {error}")
            raise ServiceGoneError(str(error)) from None

    def _keep(
        self,
        subject: Subject,
        stage: str,
        trial: dict[str, Any],
        rate_per_s: float | None = None,
        objectives: Sequence[Objective] = (),
        verdict: Verdict | None = None,
    ) -> None:
        entry = {
            "subject": subject.name,
            "stage": str(stage),
            "rate_per_s": rate_per_s,
            "objectives": [objective.text for objective in objectives],
            "outcome": None if verdict is None else str(verdict.outcome),
            "why": "" if verdict is None else verdict.why,
            "trial": trial,
        }
        self._file.add(entry)
        self._tell(line_of(entry))
        if trial["error"] is not None and not subject.outlives:
            raise ServiceGoneError(trial["error"])


def line_of(entry: dict[str, Any]) -> str:
    """A trial in a line."""
    trial = entry["trial"]
    latency = trial["latency_ns"]
    said = f"{entry['stage']}: {trial['scenario']['load']}: "
    if entry["outcome"] not in (None, str(Outcome.MET)):
        return f"{said}{entry['outcome']}: {entry['why']}"
    if trial["error"] is not None:
        return f"{said}failed: {trial['error']}"
    said += "met: " if entry["outcome"] else ""
    p99 = f", p99 {format_duration(latency['p99'])}" if latency else ""
    return f"{said}{format_rate(trial['throughput_per_s'])}{p99}"
