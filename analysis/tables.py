"""Tables of medians with their 95 % intervals, for terminals and pages alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from analysis.headlines import show_interval
from analysis.metrics import (
    ACHIEVED,
    CONFIRM,
    FAILED,
    MAX,
    P50,
    P99,
    REACH,
    SERVER_CPU,
    THROUGHPUT,
    Metric,
    hop_added_latency,
    hop_cpu,
    tallied,
)
from analysis.stats import Estimate
from analysis.summary import Group, Summary

DAGGER = "†"
"""Marks what a fatal doubt keeps from any verdict."""


@dataclass(frozen=True)
class Column:
    """A figure and the short words over its column."""

    metric: Metric
    head: str


COLUMNS = (
    Column(THROUGHPUT, "answered"),
    Column(ACHIEVED, "of offered"),
    Column(P50, "p50"),
    Column(P99, "p99"),
    Column(MAX, "max"),
    Column(SERVER_CPU, "server CPU a request"),
    Column(FAILED, "failed"),
    Column(REACH, "reach"),
    Column(CONFIRM, "confirmed, p50"),
)
_PUSH_HEADS = {"answered": "delivered", "server CPU a request": "server CPU a delivery"}
"""What columns are called where events are pushed."""


@dataclass(frozen=True)
class Cell:
    """A figure in words: `text` its median, `interval` its 95 % interval ("" where there is none); `value` to sort
    by."""

    text: str
    interval: str
    value: float | None


@dataclass(frozen=True)
class Row:
    """A scenario of a table; `part` is that of its group (see `analysis.summary.Part`); `mark` is DAGGER if no verdict
    may rest on it; `doubts` are its kinds of doubt with how many of the rounds they were raised in, and `note` says the
    same in a sentence."""

    part: str
    label: str
    cells: tuple[Cell, ...]
    mark: str
    doubts: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; columns that nothing was measured for are left out."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def parts(self) -> list[tuple[str, list[Row]]]:
        """The rows that may be compared with one another, under what sets them apart from the others."""
        return [(words, list(rows)) for words, rows in groupby(self.rows, lambda row: row.part)]


def table(group: Group, columns: Sequence[Column] = COLUMNS) -> Table:
    """The figures of a group of scenarios, what their patterns count beside them, and what their hops cost."""
    columns = (*columns, *(Column(tallied(name), f"{name.replace('_', ' ')} each") for name in _tallies(group)))
    for number in range(_most_hops(group)):
        cpu, added = f"hop {number + 1} CPU a request", f"hop {number + 1} adds"
        columns = (*columns, Column(hop_cpu(number), cpu), Column(hop_added_latency(number), added))
    measured = tuple(
        column for column in columns if any(summary.estimate(column.metric) is not None for summary in group.summaries)
    )
    rows = tuple(_row(group, part.words, summary, measured) for part in group.parts for summary in part.summaries)
    if group.is_push:
        measured = tuple(replace(column, head=_PUSH_HEADS.get(column.head, column.head)) for column in measured)
    return Table(measured, rows)


def _tallies(group: Group) -> list[str]:
    """What the patterns of these scenarios count, by name."""
    trials = (trial for summary in group.summaries for trial in summary.trials)
    return list(dict.fromkeys(name for trial in trials for name, count in (trial.tally or {}).items() if count))


def _most_hops(group: Group) -> int:
    """How many hops the longest of the paths of these scenarios has."""
    return max((len(trial.hops) for summary in group.summaries for trial in summary.trials), default=0)


def _row(group: Group, part: str, summary: Summary, columns: tuple[Column, ...]) -> Row:
    lost = _lost(summary)
    doubts = [f"{t.kind} {len(t.rounds)}/{t.of}{f' {DAGGER}' if t.fatal else ''}" for t in summary.doubts]
    note = "; ".join([tally.words for tally in summary.doubts] + lost)
    cells = tuple(cell(column.metric, summary.estimate(column.metric)) for column in columns)
    return Row(part, group.label(summary), cells, DAGGER if summary.fatal else "", (*doubts, *lost), note)


def _lost(summary: Summary) -> list[str]:
    failed = len(summary.failures)
    return [f"no figures {failed}/{len(summary.trials)}"] if failed else []


def cell(metric: Metric, estimate: Estimate | None) -> Cell:
    """A figure of a scenario, in words."""
    if estimate is None:
        return Cell("not measured", "", None)
    interval = "" if estimate.low is None or estimate.low == estimate.high else show_interval(estimate, metric.show)
    return Cell(metric.show(estimate.value), interval, estimate.value)
