"""What plots of whole distributions share: which scenarios are curves of one plot, and the histograms of each."""

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.histograms import Histogram, decode, merge
from analysis.summary import Group, Summary

MOST_WITH_ROUNDS = 5
"""Where more curves share a plot, the lines of single rounds would hide them."""

_MOST_CURVES = 12


@dataclass(frozen=True)
class Curve:
    """A scenario's trials and their merge; `max_ns` is the exact maximum."""

    label: str
    trials: tuple[Histogram, ...]
    merged: Histogram
    max_ns: float


def sets(group: Group) -> Iterator[tuple[str, list[Curve]]]:
    """What sets curves apart from the others of a group, and the curves: those of each ladder of rates; else those
    that did the same work."""
    parts = [(ladder.label, ladder.rungs) for ladder in group.ladders] or [
        (contest.work, contest.members) for contest in group.contests
    ]
    shown = {id(summary) for _, members in parts for summary in members}
    rest = tuple(summary for summary in group.summaries if id(summary) not in shown)
    parts += [("others" if parts else "", rest[at : at + _MOST_CURVES]) for at in range(0, len(rest), _MOST_CURVES)]
    for what, members in parts:
        curves = [curve for curve in (_curve(group, summary) for summary in members) if curve is not None]
        if curves:
            yield what, curves


def _curve(group: Group, summary: Summary) -> Curve | None:
    measured = [(trial, trial.latency_ns) for trial in summary.trials if trial.latency_ns is not None]
    histograms = [decode(latency.hdr, trial.where) for trial, latency in measured if latency.hdr is not None]
    merged = merge(histograms)
    if merged is None:
        return None
    return Curve(group.label(summary), tuple(histograms), merged, max(latency.max for _, latency in measured))
