"""What the page of a claim says, as data for the template."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.export.tables_csv import figures_csv
from analysis.load_claims import ClaimsRun, Record, effects_of, has_changed
from analysis.load_results import Run, load_run
from analysis.metrics import PROBED, Metric, metric_named
from analysis.plots import OF_CLAIMS
from analysis.report import pages
from analysis.report.chapter import Doubted, Failed, doubted, failures
from analysis.report.ladders import Way, lead, ways
from analysis.report.picture import Picture, in_columns
from analysis.sides import Sides, sides_of
from analysis.tables import COLUMNS, Column, Table, table
from analysis.verdict_words import (
    EVERYWHERE,
    crossing_words,
    expected_words,
    figure_words,
    finding_words,
    set_aside_words,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from analysis.plots import crossing, rounds
    from analysis.plots.style import Plot


@dataclass(frozen=True)
class Row:
    """A rule under a condition: what was expected beside what was measured. `mark` is a ratio with its interval, drawn;
    empty where there is none."""

    say: str
    condition: str
    expected: str
    measured: str
    interval: str
    mark: Markup
    standing: str
    why_not: str
    """Why nothing can be said, or why not all rounds count."""


@dataclass(frozen=True)
class Measured:
    """What a claim's result file holds."""

    sides: Sides
    pictures: Sequence[Picture]
    table: Table
    ways: Sequence[Way]
    doubts: Sequence[Doubted]
    failures: Sequence[Failed]
    csv: str

    anchor = "figures"
    title = "the sides"

    @property
    def columns(self) -> tuple[list[Picture], list[Picture]]:
        """All pictures, in two columns."""
        return in_columns(self.pictures)

    @property
    def ways_lead(self) -> str:
        """What the ladders say together."""
        return lead(self.ways)


@dataclass(frozen=True)
class Claim:
    """A claim. `effects` tell its verdict, each a mark (see `Row`) and a line; `trouble` says why nothing of its result
    file can be shown, and is empty if it can."""

    record: Record
    changed: bool
    effects: Sequence[tuple[Markup, str]]
    rows: Sequence[Row]
    command: str
    measured: Measured | None
    trouble: str

    @property
    def note_head(self) -> str:
        """What the note answers: it was written about the verdict that is known."""
        if self.record["verdict"] == self.record["expected"] or self.record["expected"] is None:
            return "Why that is right"
        return (
            "Why that was known to come out otherwise"
            if self.changed
            else f"Why it is known as {self.record['expected']}"
        )

    @property
    def crossings(self) -> list[str]:
        """Where rules change, in words."""
        return [crossing_words(self.record, crossing) for crossing in self.record["crossings"]]

    @property
    def has_conditions(self) -> bool:
        return any(row.condition for row in self.rows)

    @property
    def has_ratios(self) -> bool:
        return any(row.mark for row in self.rows)


def claim_of(run: ClaimsRun, record: Record) -> Claim:
    """A claim of a run with all that is shown of it."""
    measured, trouble = None, ""
    if record["file"] is not None:
        try:
            measured = _measured(record, run.folder / record["file"])
        except UsageError as error:
            trouble = str(error).replace(f"{run.folder}/", "")
    return Claim(
        record=record,
        changed=has_changed(record),
        effects=[(_mark(finding), finding_words(finding)) for finding in effects_of(record)],
        rows=[_row(finding) for finding in record["findings"]],
        command=run.again([record["id"]]),
        measured=measured,
        trouble=trouble,
    )


def plots_of(run: ClaimsRun, record: Record) -> Iterator["Plot"]:
    """The plots of a claim's page: every round of its rules, its sides along its conditions, its scenarios. None of a
    claim that was not measured. Raises UsageError if its result file cannot be read."""
    if record["file"] is not None:
        yield from _plots(record, _sides(record, load_run(run.folder / record["file"])))


def _plots(record: Record, sides: Sides) -> Iterator["Plot"]:
    yield from _rounds(record, sides)
    yield from _crossings(record, sides)
    yield from pages.plots_of(sides, OF_CLAIMS)


def _sides(record: Record, run: Run) -> Sides:
    return sides_of(run, [each["name"] for each in record.get("conditions", ())], record.get("sides", ()))


def _measured(record: Record, path: Path) -> Measured:
    run = load_run(path)
    sides = _sides(record, run)
    every = list(sides.summaries)
    return Measured(
        sides=sides,
        pictures=[pages.inline(plot, "plot", order) for order, plot in enumerate(_plots(record, sides))],
        table=table(sides, _columns(record, sides)),
        ways=ways(every, "packets", pages.draw_ladder),
        doubts=doubted(every),
        failures=failures(every),
        csv=figures_csv([run]),
    )


def _columns(record: Record, sides: Sides) -> list[Column]:
    """The figures that the rules are about first; then those of every load, or of the probe."""
    names = dict.fromkeys(finding["metric"] for finding in record["findings"])
    for summary in sides.summaries:
        names |= dict.fromkeys(f"{PROBED}{name}" for trial in summary.trials for name in trial.figures or ())
    heads = {column.metric.name: column.head for column in COLUMNS}
    asked = [
        Column(metric, heads.get(name, metric.title)) for name in names if (metric := metric_named(name)) is not None
    ]
    return [*asked, *(column for column in COLUMNS if column.metric.name not in names)]


def _row(finding: Record) -> Row:
    measured, interval = figure_words(finding)
    return Row(
        say=finding["say"],
        condition="" if finding["condition"] == EVERYWHERE else finding["condition"],
        expected=expected_words(finding),
        measured=measured,
        interval=interval,
        mark=_mark(finding),
        standing=finding["standing"],
        why_not=finding["why_not"] or set_aside_words(finding),
    )


# Pictures of what rules are about


def _by_metric(record: Record) -> Iterator[tuple[Metric, list[Record]]]:
    found: dict[str, list[Record]] = {}
    for finding in record["findings"]:
        found.setdefault(finding["metric"], []).append(finding)
    for name, findings in found.items():
        if (metric := metric_named(name)) is not None:
            yield metric, findings


def _rounds(record: Record, sides: Sides) -> Iterator["Plot"]:
    from analysis.plots import rounds

    for number, (metric, findings) in enumerate(_by_metric(record)):
        bouts = []
        for finding in findings:
            names = [finding["of"], finding["against"]] if finding["against"] else [finding["of"]]
            lanes = [_lane(sides, finding["condition"], name, metric) for name in names]
            if any(lane.figures for lane in lanes):
                condition = "" if finding["condition"] == EVERYWHERE else finding["condition"]
                bouts.append(rounds.Bout(finding["say"], condition, tuple(lanes), _limits(finding)))
        if bouts:
            yield rounds.plot(f"rounds-{number}", metric, bouts)


def _lane(sides: Sides, condition: str, name: str, metric: Metric) -> "rounds.Lane":
    from analysis.plots import rounds

    summary = sides.find(condition, name)
    if summary is None:
        return rounds.Lane(name, 0, {})
    return rounds.Lane(name, sides.names.index(name), summary.by_round(metric), summary.doubtful_rounds())


def _limits(finding: Record) -> tuple[float | None, float | None] | None:
    """What a rule lets a figure be; None where it is compared with another side's."""
    value, margin = finding["value"], finding["margin"]
    limits: Mapping[str, tuple[float | None, float | None]] = {}
    if value is not None:
        limits = {"equals": (value - margin, value + margin), "above": (value, None), "below": (None, value)}
    return limits.get(finding["kind"])


def _crossings(record: Record, sides: Sides) -> Iterator["Plot"]:
    """Where conditions lie on a scale: each figure that is compared, against that scale."""
    from analysis.plots import crossing

    scale = {each["name"]: each["at"] for each in record.get("conditions", ()) if each["at"] is not None}
    for number, (metric, findings) in enumerate(_by_metric(record)):
        compared = [finding for finding in findings if finding["against"] and finding["condition"] in scale]
        compared_names = {name for finding in compared for name in (finding["of"], finding["against"])}
        names = [name for name in sides.names if name in compared_names]
        places = sorted({finding["condition"] for finding in compared}, key=lambda name: scale[name])
        tracks = [track for track in (_track(sides, metric, name, places, scale) for name in names) if track.points]
        if len({scale[name] for name in places}) > 1 and tracks:
            says = {finding["say"] for finding in compared}
            crosses = [each["at"] for each in record["crossings"] if each["say"] in says]
            conditions = [(name, scale[name]) for name in places]
            yield crossing.plot(f"crossing-{number}", metric, tracks, conditions, crosses)


def _track(
    sides: Sides, metric: Metric, name: str, places: Sequence[str], scale: Mapping[str, float]
) -> "crossing.Track":
    from analysis.plots import crossing

    points = []
    for condition in places:
        summary = sides.find(condition, name)
        estimate = None if summary is None else summary.estimate(metric)
        if summary is not None and estimate is not None:
            points.append(crossing.Point(scale[condition], estimate, tuple(summary.by_round(metric).values())))
    return crossing.Track(name, sides.names.index(name), tuple(points))


# A ratio as a small mark in a table

_WIDEST = 3.0
"""The powers of two that the mark of a ratio reaches to in both directions."""
_WIDTH, _HEIGHT, _EDGE = 144.0, 20.0, 4.0


def _mark(finding: Record) -> Markup:
    """A ratio and its interval on a logarithmic scale, with 1 in the middle and the margin around it; empty if the
    finding is none."""

    def x(ratio: float) -> float:
        power = max(-_WIDEST, min(_WIDEST, math.log2(ratio)))
        return _EDGE + (power + _WIDEST) / (2 * _WIDEST) * (_WIDTH - 2 * _EDGE)

    measured, middle = finding["measured"], _HEIGHT / 2
    if not finding["against"] or measured is None:
        return Markup()
    low, high = x(1 / (1 + finding["margin"])), x(1 + finding["margin"])
    line = ""
    if measured["low"] is not None:
        line = (
            f'<line x1="{x(measured["low"]):.1f}" x2="{x(measured["high"]):.1f}" y1="{middle}" y2="{middle}"'
            ' stroke="currentColor" stroke-width="2"/>'
        )
    words, interval = figure_words(finding)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{words}, {interval or "no interval"}">'
        f'<rect x="{low:.1f}" y="2" width="{high - low:.1f}" height="{_HEIGHT - 4:g}" fill="var(--grid)"/>'
        f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="0" y2="{_HEIGHT:g}" stroke="var(--muted)"/>{line}'
        f'<circle cx="{x(measured["value"]):.1f}" cy="{middle}" r="3.5" fill="currentColor"/></svg>'
    )
