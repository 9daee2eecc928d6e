"""Strips: one row for each scenario, with its label, its value in words, and a dot for each round on a common scale.

The plots of throughput, latency, CPU, memory and workers are strips; each decides what its rows show.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from analysis.metrics import Metric
from analysis.plots import style
from analysis.plots.style import GRID, INK, MUTED, SERIES, SURFACE
from analysis.stats import Estimate
from analysis.summary import Group, Summary

ROW_PX = 38.0
_SIDE_PX = 18.0
_PART_ROWS = 0.6
"""The height of the words above a part, in heights of a row."""
LOG_FROM = 15.0
"""Figures further apart than this factor get a logarithmic scale."""
_DECADES_ONLY_FROM = 150.0
"""Figures further apart than this factor get ticks at 1, 10, 100 and no longer at 3, 30, 300."""


@dataclass(frozen=True)
class Marks:
    """What one row shows of one figure: a dot for each value, hollow where it is in doubt, and the interval."""

    values: tuple[float, ...]
    doubtful: tuple[bool, ...]
    estimate: Estimate | None
    series: int = 0


@dataclass(frozen=True)
class Row:
    """A scenario: what it is called, its value in words, and what is drawn. `part` is that of its group (see
    `analysis.summary.Part`)."""

    label: str
    value: str
    marks: tuple[Marks, ...]
    part: str


def marks(summary: Summary, metric: Metric, series: int = 0) -> Marks:
    """The marks of a figure of a scenario."""
    values = summary.by_round(metric)
    doubtful = summary.doubtful_rounds()
    return Marks(
        tuple(values.values()), tuple(number in doubtful for number in values), summary.estimate(metric), series
    )


def rows(group: Group, metrics: Sequence[Metric], only: Callable[[Summary], bool] = lambda _: True) -> list[Row]:
    """A row for each scenario of a group that has at least one of the figures; one series for each figure."""
    made = []
    for summary in filter(only, group.summaries):
        estimates = [(metric, summary.estimate(metric)) for metric in metrics]
        if any(estimate is not None for _, estimate in estimates):
            value = " · ".join(metric.show(estimate.value) for metric, estimate in estimates if estimate is not None)
            every = tuple(marks(summary, metric, index) for index, metric in enumerate(metrics))
            made.append(Row(group.label(summary), value + (" †" if summary.fatal else ""), every, group.part(summary)))
    return made


def draw(
    rows: Sequence[Row],
    axis: str,
    show: Callable[[float], str],
    legend: Sequence[str] = (),
    reference: float | None = None,
    unit: float = 1.0,
) -> Figure:
    """The strips of `rows`. `axis` names the scale, `show` spells its ticks, which are round numbers of `unit`;
    `legend` names the series where there are several; `reference` is a value that every row is seen against."""
    top = 22.0 if legend else 4.0
    bottom = 38.0
    places, end = _places(rows)
    height = top + ROW_PX * end + bottom
    figure = style.new_figure(height)
    axes = style.add_axes(figure, _SIDE_PX, top, _SIDE_PX, bottom)
    axes.set_ylim(end, 0)
    axes.set_yticks([])
    logarithmic = scale(axes, [v for row in rows for m in row.marks for v in _extent(m)], show, unit)
    axes.set_xlabel(axis + (", logarithmic" if logarithmic else ""))
    axes.grid(axis="x")
    if reference is not None:
        axes.axvline(reference, color=MUTED.light, linewidth=1, dashes=(3, 2))
    part = ""
    for place, row in zip(places, rows, strict=True):
        if row.part != part:
            part = row.part
            _write_part(axes, place, part)
        write_label(axes, place, row.label, row.value)
        for each in row.marks:
            _draw_marks(axes, place + 0.68, each)
    x = _SIDE_PX + 4
    for index, name in enumerate(legend):
        style.write_key(axes, x, height - 10, name, style.Line(SERIES[index].light, marker=style.MARKERS[index]))
        x += len(name) * 6.4 + 30
    return figure


def _places(rows: Sequence[Row]) -> tuple[list[float], float]:
    """Where each row begins, and where the last ends, in heights of a row: each part begins with its words."""
    places, at, part = [], 0.0, ""
    for row in rows:
        if row.part != part:
            part = row.part
            at += _PART_ROWS
        places.append(at)
        at += 1
    return places, at


def _write_part(axes: Axes, place: float, words: str) -> None:
    if place > _PART_ROWS:
        axes.axhline(place - _PART_ROWS, color=MUTED.light, linewidth=0.8)
    box = {"facecolor": SURFACE.light, "edgecolor": "none", "pad": 1.0}
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False, "bbox": box}
    axes.text(0, place - _PART_ROWS / 2, style.clip(words, 64), color=MUTED.light, fontsize=style.SMALL_PX, **where)


def write_label(axes: Axes, place: float, label: str, value: str, at: float = 0.28) -> None:
    """The line of words above a row's strip, on a ground that keeps grid lines off it; the row begins at `place`, and
    `at` is where in the row the words stand."""
    transform = axes.get_yaxis_transform()
    if place:
        axes.axhline(place, color=GRID.light, linewidth=0.8)
    room = max(12, 56 - len(value))
    box = {"facecolor": SURFACE.light, "edgecolor": "none", "pad": 1.0}
    words: dict[str, Any] = {"transform": transform, "va": "center", "clip_on": False, "bbox": box}
    axes.text(0, place + at, style.clip(label, room), ha="left", color=INK.light, **words)
    axes.text(1, place + at, value, ha="right", color=INK.light, **words)


def scale(axes: Axes, values: Sequence[float], show: Callable[[float], str], unit: float = 1.0) -> bool:
    """Set the scale of the x axis for these values: from zero, or from the least where that is below it; logarithmic
    (True) where they lie far apart and none is zero."""
    low, high = min(values), max(values) or 1.0
    logarithmic = low > 0 and high / low > LOG_FROM
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * 1.25)
        digits = (1,) if high / low > _DECADES_ONLY_FROM else (1, 3)
        ticks = [digit * 10.0**power for power in range(-9, 13) for digit in digits]
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(min(0.0, low * 1.05), high * 1.05)
        ticks = list(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(min(0.0, low) / unit, high * 1.05 / unit))
    left, right = axes.get_xlim()
    axes.set_xticks([tick * unit for tick in ticks if left <= tick * unit <= right])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value) if value else "0"))
    return logarithmic


def _extent(each: Marks) -> Iterator[float]:
    yield from each.values
    if each.estimate is not None and each.estimate.low is not None and each.estimate.high is not None:
        yield from (each.estimate.low, each.estimate.high)


def _draw_marks(axes: Axes, y: float, each: Marks) -> None:
    colour, marker = SERIES[each.series].light, style.MARKERS[each.series]
    estimate = each.estimate
    if estimate is not None:
        if estimate.low is not None and estimate.high is not None:
            line = axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=5, alpha=0.28)
            line[0].set(solid_capstyle="butt", clip_on=False)
        axes.plot([estimate.value], [y], marker="|", markersize=15, markeredgewidth=2, color=colour, clip_on=False)
    # A fixed spread, first round on top: dots that coincide stay countable.
    offsets = np.linspace(-0.11, 0.11, len(each.values)) if len(each.values) > 1 else np.zeros(len(each.values))
    for hollow in (False, True):
        chosen = [index for index, doubtful in enumerate(each.doubtful) if doubtful is hollow]
        if chosen:
            axes.plot(
                [each.values[index] for index in chosen],
                [y + offsets[index] for index in chosen],
                linestyle="none",
                marker=marker,
                markersize=4.6,
                color=SURFACE.light if hollow else colour,
                markeredgecolor=colour,
                markeredgewidth=1.1 if hollow else 0,
                alpha=1.0 if hollow else 0.85,
                clip_on=False,
            )


def draw_line(
    axes: Axes, rungs: Sequence[Summary], metric: Metric, drawn: style.Line, at: Callable[[Summary], float]
) -> None:
    """One figure of scenarios that differ in one thing: a line through the medians, each `at` its place on the x axis,
    with intervals, and rounds if the line has a marker for them."""
    points = [(at(rung), rung, estimate) for rung in rungs if (estimate := rung.estimate(metric)) is not None]
    axes.plot(
        [rate for rate, _, _ in points],
        [estimate.value for _, _, estimate in points],
        color=drawn.colour,
        linestyle=drawn.dashes,
        linewidth=1.6,
    )
    for rate, rung, estimate in points:
        if estimate.low is not None and estimate.high is not None:
            width = 4 if drawn.marker else 2
            axes.plot([rate, rate], [estimate.low, estimate.high], color=drawn.colour, linewidth=width, alpha=0.28)
        if drawn.marker:
            _dots(axes, rate, marks(rung, metric), drawn)


def _dots(axes: Axes, rate: float, rounds: Marks, drawn: style.Line) -> None:
    for hollow in (False, True):
        values = [value for value, doubtful in zip(rounds.values, rounds.doubtful, strict=True) if doubtful is hollow]
        axes.plot(
            [rate] * len(values),
            values,
            linestyle="none",
            marker=drawn.marker,
            markersize=3.8,
            color=SURFACE.light if hollow else drawn.colour,
            markeredgecolor=drawn.colour,
            markeredgewidth=0.9 if hollow else 0,
        )
