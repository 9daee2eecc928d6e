"""What trials say of a claim: its rules, each against each condition, and the verdict that follows.

A rule is stated before anything is measured. One that compares two sides takes the paired ratio of their figures (see
`analysis.compare`): it holds if the whole interval lies beyond the margin in the direction that the claim says, and is
contradicted if it lies beyond it in the other, or wholly within it, where the difference is of no practical use. One
that says that nothing is gained holds if the whole interval lies before the margin, however much is lost, and is
contradicted if it lies beyond. One that expects a value takes the interval of the median: it holds if all of that lies
within the tolerance, and is contradicted if none of it does. Everything between is undecided, and the answer to that is
more rounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Literal

from analysis import stats
from analysis.compare import Comparison, Outcome, adjust, compare
from analysis.stats import Estimate

Kind = Literal["less", "more", "no-more", "same", "equals", "above", "below"]
"""Less, more, no-more and same compare with another side; equals, above and below with a value."""

ROUNDS = 5
"""How many rounds a claim takes that does not say."""


@dataclass(frozen=True)
class Mode:
    """How much is measured for verdicts."""

    name: str
    rounds: int | None
    """Before a claim is judged; None for as many as the claim says."""
    most: int
    """How many times as many it may take to decide."""
    limit_s: float
    """No more rounds are begun for a run of claims that would end later than this."""

    def rounds_of(self, said: int = ROUNDS) -> int:
        """The rounds of a claim that says so many, before it is judged."""
        return self.rounds or said


MODES = {
    mode.name: mode
    for mode in (
        Mode("quick", 3, 4, 25 * 60),
        Mode("normal", None, 2, math.inf),
        Mode("thorough", 10, 3, 3 * 3600),
    )
}

COMPARING = ("less", "more", "no-more", "same")


@dataclass(frozen=True)
class Rule:
    """One sentence that figures can contradict."""

    say: str
    metric: str
    of: str
    """The side whose figure it is."""
    kind: Kind
    against: str = ""
    """The side that it is compared with."""
    value: float = 0.0
    """What it is compared with, in the metric's unit."""
    margin: float = 0.0
    """Less, more: the least difference that counts, as a share. No-more, same: the most that does not. Equals: how far
    from the value the figure may be, in the metric's unit."""
    conditions: tuple[str, ...] = ()
    """Where it is to hold; everywhere if none is named."""


class Standing(StrEnum):
    """How a rule stands."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


class Verdict(StrEnum):
    """What is known of a claim."""

    UPHELD = "upheld"
    REFUTED = "refuted"
    CONDITIONAL = "conditional"
    """It holds under some conditions, and is contradicted under others."""
    UNDECIDED = "undecided"
    UNSUPPORTED = "unsupported here"


@dataclass(frozen=True)
class Finding:
    """A rule under a condition. `measured` is the figure, or for rules that compare the ratio of both sides."""

    rule: Rule
    condition: str
    standing: Standing
    measured: Estimate | None
    comparison: Comparison | None = None
    why_not: str = ""
    """Why nothing can be said, where that is so."""
    set_aside: int = 0
    """Rounds that do not count, because a trial of theirs is in serious doubt."""


@dataclass(frozen=True)
class Crossing:
    """Between two conditions the difference changes its sign: about here, on the scale of the conditions."""

    rule: Rule
    at: float


@dataclass(frozen=True)
class Judged:
    """A claim's verdict and what it rests on."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    crossings: tuple[Crossing, ...] = ()
    why: str = ""
    """What is missing, where it is unsupported here."""


ByRound = Mapping[int, float]


def judge_rule(
    rule: Rule, condition: str, figures: ByRound, against: ByRound | None = None, why_not: str | None = None
) -> Finding:
    """How a rule stands, by the figures of its side by round, and those of the side it is compared with. `why_not` says
    why no verdict may rest on them."""
    if rule.kind in COMPARING:
        found = compare(against or {}, figures, "higher" if rule.kind in ("more", "no-more") else "lower", rule.margin)
        if why_not is not None and found.why_not is None:
            found = replace(found, why_not=why_not)
        return _of_comparison(rule, condition, found)
    measured = stats.estimate(list(figures.values()))
    if why_not is not None or measured is None:
        return Finding(rule, condition, Standing.UNDECIDED, measured, why_not=why_not or "it was not measured")
    return Finding(rule, condition, _against_value(rule, measured), measured)


def _of_comparison(rule: Rule, condition: str, found: Comparison) -> Finding:
    standing = Standing.UNDECIDED
    if rule.kind == "same":
        if found.within_margin:
            standing = Standing.HOLDS
        elif found.outcome in (Outcome.BETTER, Outcome.WORSE):
            standing = Standing.CONTRADICTED
    elif rule.kind == "no-more":
        if found.rules_out_more:
            standing = Standing.HOLDS
        elif found.outcome is Outcome.BETTER:
            standing = Standing.CONTRADICTED
    elif found.outcome is Outcome.BETTER:
        standing = Standing.HOLDS
    elif found.outcome is Outcome.WORSE or found.within_margin:
        standing = Standing.CONTRADICTED
    return Finding(rule, condition, standing, found.ratio, found, found.why_not or "")


def _against_value(rule: Rule, measured: Estimate) -> Standing:
    if measured.low is None or measured.high is None:
        return Standing.UNDECIDED
    low, high = {
        "equals": (rule.value - rule.margin, rule.value + rule.margin),
        "above": (math.nextafter(rule.value, math.inf), math.inf),
        "below": (-math.inf, math.nextafter(rule.value, -math.inf)),
    }[rule.kind]
    if low <= measured.low and measured.high <= high:
        return Standing.HOLDS
    if measured.high < low or measured.low > high:
        return Standing.CONTRADICTED
    return Standing.UNDECIDED


def judge(findings: Sequence[Finding], scale: Mapping[str, float]) -> Judged:
    """The verdict on a claim. `scale` says where a condition lies, for those that lie on a line (a round-trip time, a
    rate)."""
    standing: dict[str, set[Standing]] = {}
    for finding in findings:
        standing.setdefault(finding.condition, set()).add(finding.standing)
    contradicted = [condition for condition, found in standing.items() if Standing.CONTRADICTED in found]
    held = [condition for condition, found in standing.items() if found == {Standing.HOLDS}]
    if standing and len(held) == len(standing):
        verdict = Verdict.UPHELD
    elif standing and len(contradicted) == len(standing):
        verdict = Verdict.REFUTED
    elif contradicted and len(contradicted) + len(held) == len(standing):
        verdict = Verdict.CONDITIONAL
    else:
        verdict = Verdict.UNDECIDED
    return Judged(verdict, tuple(findings), tuple(_crossings(findings, scale)))


def _crossings(findings: Sequence[Finding], scale: Mapping[str, float]) -> list[Crossing]:
    """Where the logarithm of a ratio goes through zero between two conditions that are beside each other, if both of
    them are sure of their sign: on the straight line between them."""
    found = []
    for rule in dict.fromkeys(finding.rule for finding in findings if finding.comparison is not None):
        points = sorted(
            (scale[finding.condition], math.log(ratio.value))
            for finding in findings
            if (ratio := finding.measured) is not None
            and finding.rule == rule
            and finding.condition in scale
            and _is_sure(ratio)
        )
        for (x1, y1), (x2, y2) in pairwise(points):
            if y1 * y2 < 0:
                found.append(Crossing(rule, x1 + (x2 - x1) * y1 / (y1 - y2)))
    return found


def _is_sure(ratio: Estimate) -> bool:
    """Whether the interval of a ratio lies on one side of 1."""
    return ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high


def adjusted(judged: Mapping[str, Judged], scales: Mapping[str, Mapping[str, float]]) -> dict[str, Judged]:
    """The verdicts on all claims of a run, as one family of questions (Holm): a rank test that could reach a level
    alone may not reach it among many."""
    asked = [
        (claim, number)
        for claim, one in judged.items()
        for number, finding in enumerate(one.findings)
        if finding.comparison is not None
    ]
    comparisons = adjust([c for claim, n in asked if (c := judged[claim].findings[n].comparison) is not None])
    again = {claim: list(one.findings) for claim, one in judged.items()}
    for (claim, number), comparison in zip(asked, comparisons, strict=True):
        before = again[claim][number]
        again[claim][number] = _of_comparison(before.rule, before.condition, comparison)
    return {
        claim: one if one.verdict is Verdict.UNSUPPORTED else judge(again[claim], scales.get(claim, {}))
        for claim, one in judged.items()
    }
