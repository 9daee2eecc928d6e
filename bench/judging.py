"""Judges the trials of one search, in the order in which they ran."""

from collections.abc import Sequence
from typing import Any

from bench.load.histogram import SAMPLES_BEYOND
from bench.objectives import Objective, Outcome, Verdict, judge
from bench.ratesearch import CONFIRMATIONS, Stage, Step

LONGEST_NS = 75_000_000_000
"""All trials that confirm a rate take no longer together because of a rare percentile: a search is to end in three
minutes."""


class Judge:
    """What trials show of the objectives. One that confirms is judged strictly, by itself as far as it has the samples;
    that which makes the number full, together with those that met at that rate before: so a rare percentile is seen in
    all of them, and none has to be as long as it needs."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        self._confirming: dict[float, list[dict[str, Any]]] = {}
        self._why: dict[float, str] = {}

    def judge(self, step: Step, trial: dict[str, Any]) -> Verdict:
        """What the trial of a step shows."""
        if step.stage is Stage.SEARCH:
            verdict = judge(self.objectives, trial)
        else:
            met = self._confirming.setdefault(step.rate_per_s, [])
            verdict = judge(self.objectives, trial, strict=True, others=met if len(met) + 1 >= CONFIRMATIONS else ())
            if verdict.outcome is Outcome.MET:
                met.append(trial)
        if verdict.outcome is not Outcome.MET:
            self._why[step.rate_per_s] = verdict.why
        return verdict

    def why(self, rate_per_s: float | None) -> str:
        """What the last trial of a rate showed that did not meet the objectives; empty where all did."""
        return self._why.get(rate_per_s, "") if rate_per_s is not None else ""

    def confirming(self, rate_per_s: float | None) -> Sequence[dict[str, Any]]:
        """The long trials of a rate that met the objectives."""
        return self._confirming.get(rate_per_s, ()) if rate_per_s is not None else ()

    def thin(self, rate_per_s: float | None) -> list[str]:
        """The objectives that those trials have too few samples for, even together."""
        trials = self.confirming(rate_per_s)
        rare = [one for one in self.objectives if one.within < 1 and round(one.may_miss(trials)) < SAMPLES_BEYOND]
        return [objective.text for objective in rare] if trials else []


def length_ns(objectives: Sequence[Objective], met: Sequence[dict[str, Any]], rate_per_s: float) -> int:
    """How long a trial that confirms has to be for the rarest percentile, given those that met it at that rate before:
    0 for the first, which is there to see whether the rate is worth more; the others share what is missing."""
    if not met:
        return 0
    rarest = min((1 - objective.within for objective in objectives if objective.within < 1), default=1.0)
    needed_ns = min(SAMPLES_BEYOND / rarest / rate_per_s * 1e9, LONGEST_NS)
    missing_ns: float = needed_ns - sum(trial["scenario"]["duration_ns"] for trial in met)
    return max(0, round(missing_ns / max(1, CONFIRMATIONS - len(met))))
