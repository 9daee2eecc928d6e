"""Is head worse than base? For each scenario and metric that two runs share: better, worse, same or unknown.

The effect is the ratio of the figures, head / base, with its interval (see `analysis.shift`); for shares of failed
requests, which may be zero, it is their difference. It is worse if the figures refuse that it is worse by the margin or
less; better likewise; the same if its interval lies within the margin on both sides; else unknown, and the answer to
that is more trials. All questions asked at once are one family (Holm), so that many of them make no false alarm.

Runs that were measured in pairs (`wirebench ab`) are compared by pair, and looked at several times while they go on.
ALPHA is shared out evenly among the looks (Bonferroni), which holds for whatever noise: a gate of two equal sides says
worse in at most ALPHA of all cases, and in far fewer as long as the margin is more than the noise.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np

from analysis import shift, stats
from analysis.load_results import Run, Scenario
from analysis.metrics import BY_NAME, FAILED, P50, P99, SERVER_CPU, THROUGHPUT, Metric, metric_named
from analysis.summary import Summary, summaries
from bench.errors import UsageError

ALPHA = 0.02
"""How often two equal sides may be told apart, in each direction."""

LOOKS = (12, 18, 26, 40, 60, 90, 130, 200)
"""After how many pairs a comparison is looked at: before the first, a rank test could decide nothing for five
metrics."""

PAIRED_MARGIN = 0.02
"""The default margin of what is measured in pairs."""

PAIRED_SUITE = "ab"
"""The suite of runs that were measured in pairs: trial by trial beside each other."""

METRICS = (THROUGHPUT, P50, P99, SERVER_CPU, FAILED)
"""What is compared unless something else is asked for."""


class Change(StrEnum):
    """What is known of head against base."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Question:
    """One metric of one scenario, by round on both sides. `why_not` says why no answer may rest on it."""

    scenario: Scenario
    metric: Metric
    base: Mapping[int, float]
    head: Mapping[int, float]
    why_not: str = ""


@dataclass(frozen=True)
class Answer:
    """A question with what came out. `base` and `head` are medians; `effect` is head / base, or head - base where the
    metric is a share that may be zero; `low` to `high` is its interval at `confidence`; `p_worse` is adjusted by Holm;
    `n` counts pairs, or the trials of the side that has fewer."""

    question: Question
    change: Change
    confidence: float
    base: float | None = None
    head: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_worse: float | None = None
    n: int = 0

    @property
    def scenario(self) -> str:
        return full_name(self.question.scenario)

    @property
    def metric(self) -> Metric:
        return self.question.metric

    @property
    def effect_words(self) -> str:
        """ "+4.1 % (+2.0 % to +6.3 %)": by how much head is more than base."""
        if self.effect is None:
            return ""
        one = 0.0 if is_difference(self.metric) else 1.0
        unit = " points" if is_difference(self.metric) else " %"
        spelled = f"{(self.effect - one) * 100:+.1f}{unit}"
        if self.low is None or self.high is None:
            return spelled
        return f"{spelled} ({(self.low - one) * 100:+.1f} to {(self.high - one) * 100:+.1f})"


@dataclass(frozen=True)
class RunComparison:
    """Two runs and what is known of the second against the first."""

    base: str
    head: str
    """What the sides are called: a file, or a revision."""
    margin: float
    paired: bool
    answers: tuple[Answer, ...]
    only_in_base: tuple[str, ...] = ()
    only_in_head: tuple[str, ...] = ()

    @property
    def change(self) -> Change:
        """Worse if any answer is, else better if any is, the same if all are, else unknown."""
        found = {answer.change for answer in self.answers}
        for change in (Change.WORSE, Change.BETTER):
            if change in found:
                return change
        return Change.SAME if found == {Change.SAME} else Change.UNKNOWN

    @property
    def is_valid(self) -> bool:
        """Whether anything was measured on both sides that an answer may rest on."""
        return any(answer.n and not answer.question.why_not for answer in self.answers)

    def record(self) -> dict[str, Any]:
        """The comparison as JSON holds it; results/README.md explains the fields."""
        return {
            "kind": "wirebench-comparison",
            "schema": 1,
            "base": self.base,
            "head": self.head,
            "margin": self.margin,
            "paired": self.paired,
            "change": str(self.change),
            "answers": [_answer_record(answer) for answer in self.answers],
            "only_in_base": list(self.only_in_base),
            "only_in_head": list(self.only_in_head),
        }


def _answer_record(answer: Answer) -> dict[str, Any]:
    return {
        "scenario": answer.scenario,
        "scenario_hash": scenario_hash(answer.question.scenario),
        "metric": answer.metric.name,
        "better": answer.metric.better,
        "change": str(answer.change),
        "base": answer.base,
        "head": answer.head,
        "effect": answer.effect,
        "effect_is": "difference" if is_difference(answer.metric) else "ratio",
        "low": answer.low,
        "high": answer.high,
        "confidence": answer.confidence,
        "p_worse": answer.p_worse,
        "n": answer.n,
        "why_not": answer.question.why_not or None,
    }


def scenario_hash(scenario: Scenario) -> str:
    """What a scenario is called in histories: the same for the same choice, whatever its name, and for files that were
    written before a field existed."""
    chosen = {
        field.name: value
        for field in fields(scenario)
        if field.name != "name"
        and ((value := getattr(scenario, field.name)) != field.default or field.default is MISSING)
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def full_name(scenario: Scenario) -> str:
    """What a scenario is called among all of a run: two groups may hold one of the same name, unless that says its
    group."""
    plain = scenario.group in ("run", "load") or scenario.group in scenario.name
    return scenario.name if plain else f"{scenario.group}: {scenario.name}"


def choose_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of these names, or the usual ones. Raises UsageError."""
    chosen = []
    for name in names:
        metric = metric_named(name)
        if metric is None or metric.better is None:
            known = ", ".join(name for name, metric in BY_NAME.items() if metric.better is not None)
            raise UsageError(f"--metric: {name!r:.60} is no metric that has a better and a worse; known are {known}")
        chosen.append(metric)
    return tuple(dict.fromkeys(chosen)) or METRICS


def is_difference(metric: Metric) -> bool:
    """Whether two figures are compared by their difference, as shares that may be zero are."""
    return metric.name in (FAILED.name, "errors")


def compare_runs(
    base: Run, head: Run, metrics: Sequence[Metric] = METRICS, margin: float = PAIRED_MARGIN, looks: int = 1
) -> RunComparison:
    """Head against base. `looks` is how often these runs are looked at in all. Raises UsageError if they share no
    scenario."""
    paired = base.suite == head.suite == PAIRED_SUITE and base.seed == head.seed
    of_base, of_head = ({scenario_hash(s.scenario): s for s in summaries(run)} for run in (base, head))
    both = [key for key in of_base if key in of_head]
    if not both:
        raise UsageError(f"{base.path} and {head.path} share no scenario, so there is nothing to compare")
    questions = [q for key in both for q in _questions(of_base[key], of_head[key], metrics)]
    return RunComparison(
        base.description if paired else str(base.path),
        head.description if paired else str(head.path),
        margin,
        paired,
        answer(questions, margin, paired, ALPHA / looks),
        tuple(full_name(s.scenario) for key, s in of_base.items() if key not in of_head),
        tuple(full_name(s.scenario) for key, s in of_head.items() if key not in of_base),
    )


def _questions(base: Summary, head: Summary, metrics: Sequence[Metric]) -> Iterator[Question]:
    for metric in metrics:
        if metric is THROUGHPUT and not base.scenario.is_closed:
            continue  # it is what was offered
        if not any(side.by_round(metric) for side in (base, head)):
            continue
        of_base, of_head = _figures(base, metric), _figures(head, metric)
        why_not = _why_not("base", base, metric, of_base) or _why_not("head", head, metric, of_head)
        yield Question(base.scenario, metric, of_base, of_head, why_not)


def _figures(side: Summary, metric: Metric) -> dict[int, float]:
    """The figures of valid trials. How many requests failed is known of the others too."""
    return side.by_round(metric) if is_difference(metric) else side.valid_by_round(metric)


def _why_not(name: str, side: Summary, metric: Metric, figures: Mapping[int, float]) -> str:
    if not figures:
        why = side.why_no_verdict or (str(side.failures[0].error) if side.failures else "it was not measured")
        return f"{name}: {why}"
    if not is_difference(metric) and min(figures.values()) <= 0:
        return f"{name}: a figure is zero, so there is no ratio"
    return ""


def answer(questions: Sequence[Question], margin: float, paired: bool, alpha: float) -> tuple[Answer, ...]:
    """What is known of each, all of them being one family, at the one-sided level `alpha`."""
    shifts = [_shift(question, paired) for question in questions]
    bounds = [_bounds(question.metric, margin) for question in questions]
    worse, better = (
        iter(stats.holm([_p(s, q, b, sign) for s, q, b in zip(shifts, questions, bounds, strict=True) if s]))
        for sign in (1, -1)
    )
    return tuple(
        Answer(question, Change.UNKNOWN, 1 - 2 * alpha)
        if found is None
        else _answer(question, found, bound, paired, alpha, next(worse), next(better))
        for question, found, bound in zip(questions, shifts, bounds, strict=True)
    )


def _bounds(metric: Metric, margin: float) -> float:
    return margin if is_difference(metric) else math.log1p(margin)


def _shift(question: Question, paired: bool) -> shift.Shift | None:
    if question.why_not:
        return None
    of = float if is_difference(question.metric) else math.log
    if not paired:
        return shift.of_samples([of(v) for v in question.base.values()], [of(v) for v in question.head.values()])
    shared = sorted(question.base.keys() & question.head.keys())
    return shift.of_pairs([of(question.head[n]) - of(question.base[n]) for n in shared]) if shared else None


def _p(found: shift.Shift, question: Question, bound: float, sign: int) -> float:
    """One-sided p that head is worse (`sign` 1) or better (-1) by the bound or less."""
    up = (question.metric.better == "lower") == (sign == 1)
    return found.p_above(bound) if up else found.p_below(-bound)


def _answer(
    question: Question, found: shift.Shift, bound: float, paired: bool, alpha: float, p_worse: float, p_better: float
) -> Answer:
    interval = found.interval(alpha)
    change = Change.UNKNOWN
    if p_worse <= alpha:
        change = Change.WORSE
    elif p_better <= alpha:
        change = Change.BETTER
    elif interval is not None and -bound <= interval[0] and interval[1] <= bound:
        change = Change.SAME
    spell = float if is_difference(question.metric) else math.exp
    low, high = (None, None) if interval is None else map(spell, interval)
    sizes = len(question.base.keys() & question.head.keys()), min(len(question.base), len(question.head))
    return Answer(
        question,
        change,
        1 - 2 * alpha,
        float(np.median(list(question.base.values()))),
        float(np.median(list(question.head.values()))),
        spell(found.estimate),
        low,
        high,
        p_worse,
        sizes[0] if paired else sizes[1],
    )


def is_decided(answers: Sequence[Answer]) -> bool:
    """Whether more pairs would change nothing: something is worse, or nothing is unknown that could become known."""
    changes = [one.change for one in answers]
    return Change.WORSE in changes or (bool(changes) and Change.UNKNOWN not in changes)


def looks_until(most: int) -> tuple[int, ...]:
    """The looks of a comparison of that many pairs: the last is at its end."""
    return (*(n for n in LOOKS if n < most), most)
