"""Latency over time as a heat map: a column for each slice of the measured phase, darker where more answers were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from analysis.histograms import decode
from analysis.metrics import show_duration
from analysis.plots import strips, style
from analysis.plots.style import MUTED, SERIES, Plot
from analysis.summary import Group, Summary

_ROW_PX = 84.0
_BAND = (0.32, 0.96)
"""Where in a row its map lies, from the top."""
_BINS = 18
_LEVELS = (0.01, 0.05, 0.15, 0.35, 0.6)
"""The shares of a column's answers from which on a cell is one step darker."""


@dataclass(frozen=True)
class _Map:
    """A row. `edges_ns` are the ends of its bins of latency, logarithmic; `shares` are those of a column's answers, by
    column and bin; column i lasts from `times_s[i]` to `times_s[i + 1]`."""

    label: str
    times_s: NDArray[np.float64]
    edges_ns: NDArray[np.float64]
    shares: NDArray[np.float64]


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the scenarios whose trials have at least two slices with answers."""
    maps = [made for made in (_map(group, summary) for summary in group.summaries) if made is not None]
    if maps:
        yield Plot(
            "heat-map",
            "Latency over time, all answers",
            "Time to the right, latency upwards (logarithmic, in each row from its least to its greatest); the darker, "
            "the more of the answers of that time, all rounds together. A level band is a steady state, two bands are "
            "two kinds of answers.",
            f"A heat map of latency over time for {len(maps)} scenarios; the table has the numbers.",
            style.drawn(_draw, maps),
        )


def _map(group: Group, summary: Summary) -> _Map | None:
    columns: dict[tuple[int, int], list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
    for trial in summary.trials:
        for interval in trial.intervals:
            if interval.hdr is not None and interval.completed:
                found = decode(interval.hdr, trial.where)
                columns.setdefault((interval.start_ns, interval.duration_ns), []).append(
                    (found.values_ns, found.counts)
                )
    if len(columns) < 2:
        return None
    every = np.concatenate([values for parts in columns.values() for values, _ in parts])
    low, high = max(1.0, float(every.min())), float(every.max())
    edges = np.geomspace(low * 0.98, max(high, low * 1.2) * 1.02, _BINS + 1)
    slices = sorted(columns)
    shares = np.zeros((len(slices), _BINS))
    for place, key in enumerate(slices):
        for values, counts in columns[key]:
            shares[place] += np.histogram(values, edges, weights=counts)[0]
        shares[place] /= max(1.0, float(shares[place].sum()))
    times = [start / 1e9 for start, _ in slices] + [(slices[-1][0] + slices[-1][1]) / 1e9]
    label = ", ".join(filter(None, (group.label(summary), group.part(summary))))
    return _Map(label, np.array(times), edges, shares)


def _draw(maps: Sequence[_Map]) -> Figure:
    bottom = 38.0
    figure = style.new_figure(4 + _ROW_PX * len(maps) + bottom)
    axes = style.add_axes(figure, 18, 4, 18, bottom)
    axes.set_ylim(len(maps), 0)
    axes.set_yticks([])
    axes.set_xlim(0, max(float(made.times_s[-1]) for made in maps))
    axes.set_xlabel("seconds since measuring began")
    for row, made in enumerate(maps):
        extremes = f"{show_duration(made.edges_ns[0] / 0.98)} to {show_duration(made.edges_ns[-1] / 1.02)}"
        strips.write_label(axes, row, made.label, extremes, at=0.16)
        top, base = (row + edge for edge in _BAND)
        axes.axhline(base, color=MUTED.light, linewidth=0.5, alpha=0.6)
        for level, least in enumerate(_LEVELS):
            upper = _LEVELS[level + 1] if level + 1 < len(_LEVELS) else 1.1
            cells = _cells(made, (made.shares >= least) & (made.shares < upper), top, base)
            if cells:
                path = Path.make_compound_path(*cells)
                axes.add_patch(PathPatch(path, facecolor=SERIES[0].light, edgecolor="none", alpha=_alpha(level)))
    return figure


def _alpha(level: int) -> float:
    return 0.12 + 0.88 * level / (len(_LEVELS) - 1)


def _cells(made: _Map, chosen: NDArray[np.bool_], top: float, base: float) -> list[Path]:
    """The rectangles of the cells that are chosen, those above one another as one."""
    height = (base - top) / _BINS
    found = []
    for column in range(len(chosen)):
        starts = np.flatnonzero(np.diff(np.concatenate(([0], chosen[column].astype(int), [0]))))
        for first, end in zip(starts[::2], starts[1::2], strict=True):
            left, right = made.times_s[column], made.times_s[column + 1]
            lower, upper = base - first * height, base - end * height
            found.append(
                Path([(left, lower), (right, lower), (right, upper), (left, upper), (left, lower)], closed=True)
            )
    return found
