"""Which of two scenarios is better, and how sure that is.

The effect is the ratio of their figures, paired by round: both trials of a round met the same state of the machine.
The ratio reported is the median over the rounds with its interval (see `analysis.stats`). The outcome is better or
worse only if the whole interval lies beyond the practical margin, and if Wilcoxon's signed-rank test, adjusted by
Holm over all the questions asked at once, agrees wherever so many rounds could let it: with five rounds its p cannot
go below 0.0625, so there the interval alone decides. Everything else is too close, and the answer to that is more
rounds.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from analysis import stats
from analysis.doubts import MEANINGS
from analysis.matching import UNMATCHED, are_matched
from analysis.metrics import Better, Metric
from analysis.stats import Estimate
from analysis.summary import Summary

MARGIN = 0.05
"""A difference of less than this share is of no practical use."""

SIGNIFICANT = 0.05


class Outcome(StrEnum):
    """What is known of the candidate against the baseline."""

    BETTER = "better"
    WORSE = "worse"
    TOO_CLOSE = "too close"
    NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline. `ratio` is candidate / baseline; `p` is of one question, `p_holm` of `family`
    questions; `why_not` says why there is no verdict."""

    better: Better
    margin: float
    ratio: Estimate | None
    p: float | None
    p_holm: float | None
    family: int
    why_not: str | None = None

    @property
    def outcome(self) -> Outcome:
        if self.why_not is not None or self.ratio is None or self.p_holm is None:
            return Outcome.NO_VERDICT
        if self.ratio.low is None or self.ratio.high is None:
            return Outcome.TOO_CLOSE
        attainable = stats.least_p(self.ratio.n) * self.family <= SIGNIFICANT
        if attainable and self.p_holm > SIGNIFICANT:
            return Outcome.TOO_CLOSE
        if self.ratio.low > 1 + self.margin:
            return Outcome.BETTER if self.better == "higher" else Outcome.WORSE
        if self.ratio.high < 1 / (1 + self.margin):
            return Outcome.WORSE if self.better == "higher" else Outcome.BETTER
        return Outcome.TOO_CLOSE

    @property
    def within_margin(self) -> bool:
        """Whether the interval rules out a difference beyond the margin: more rounds would not change that."""
        ratio = self.ratio
        if self.why_not is not None or ratio is None or ratio.low is None or ratio.high is None:
            return False
        return 1 / (1 + self.margin) <= ratio.low and ratio.high <= 1 + self.margin

    @property
    def rules_out_more(self) -> bool:
        """Whether the interval rules out that the candidate's figure is more than the baseline's by over the margin."""
        ratio = self.ratio
        return self.why_not is None and ratio is not None and ratio.high is not None and ratio.high <= 1 + self.margin

    @property
    def words(self) -> str:
        """The outcome as part of a sentence about the candidate."""
        match self.outcome:
            case Outcome.NO_VERDICT:
                return f"no verdict: {self.why_not}"
            case Outcome.TOO_CLOSE if self.within_margin:
                return f"no difference beyond {self.margin:.0%}"
            case Outcome.TOO_CLOSE:
                return "too close: take more rounds"
        return str(self.outcome)


def compare(
    baseline: Mapping[int, float], candidate: Mapping[int, float], better: Better, margin: float = MARGIN
) -> Comparison:
    """Compare figures by round: each mapping goes from the round to that round's figure. Only rounds in both count."""
    rounds = sorted(baseline.keys() & candidate.keys())
    pairs = [(baseline[r], candidate[r]) for r in rounds]
    if not pairs:
        return Comparison(better, margin, None, None, None, 1, "no round holds figures of both")
    if min(min(pair) for pair in pairs) <= 0:
        return Comparison(better, margin, None, None, None, 1, "a figure is zero, so there is no ratio")
    log_ratios = [math.log(after / before) for before, after in pairs]
    p = stats.signed_rank_p(log_ratios)
    return Comparison(better, margin, stats.ratio_estimate(log_ratios), p, p, 1)


def compare_summaries(baseline: Summary, candidate: Summary, metric: Metric, margin: float = MARGIN) -> Comparison:
    """Compare a figure of two scenarios of one run. A fatal doubt about a trial of either means no verdict, and so does
    what is not matched (see `analysis.matching`)."""
    if metric.better is None:
        raise ValueError(f"{metric.name} is neither better high nor better low")
    comparison = compare(baseline.by_round(metric), candidate.by_round(metric), metric.better, margin)
    if comparison.why_not is None and (why := baseline.why_no_verdict or candidate.why_no_verdict):
        return dataclasses.replace(comparison, why_not=why)
    if comparison.why_not is None and not are_matched((baseline.scenario, candidate.scenario)):
        return dataclasses.replace(comparison, why_not=MEANINGS[UNMATCHED].short)
    return comparison


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons as one family of questions: p values adjusted by Holm over those that have one."""
    asked = [comparison for comparison in comparisons if comparison.p is not None]
    adjusted = iter(stats.holm([comparison.p for comparison in asked if comparison.p is not None]))
    return [
        dataclasses.replace(comparison, p_holm=next(adjusted), family=len(asked))
        if comparison.p is not None
        else comparison
        for comparison in comparisons
    ]
