"""p99 latency over the measured phase: a line for each round, in every row on a scale of factors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.histograms import decode
from analysis.load_results import Trial
from analysis.metrics import show_duration, show_number
from analysis.plots import strips, style
from analysis.plots.style import MUTED, SERIES, Plot
from analysis.summary import Group

_ROW_PX = 58.0
_BAND = (0.40, 0.95)
"""Where in a row its lines lie, from the top."""


@dataclass(frozen=True)
class _Track:
    """The lines of a row: arrays of (seconds, p99 in nanoseconds), one for each round."""

    label: str
    lines: tuple[NDArray[np.float64], ...]

    @property
    def values(self) -> NDArray[np.float64]:
        return np.concatenate([line[:, 1] for line in self.lines])


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the scenarios whose trials have at least two intervals with answers."""
    tracks = []
    for summary in group.summaries:
        lines = [line for line in map(_line, summary.trials) if len(line) > 1]
        if lines:
            tracks.append(_Track(group.label(summary), tuple(lines)))
    if tracks:
        yield Plot(
            "over-time",
            "Latency over time",
            "p99 latency of each slice of the measured phase, a line for each round. A height is a factor, the same in "
            f"every row: from bottom to top p99 grows {show_number(_span(tracks))} times. "
            "Level lines are a steady state.",
            f"p99 latency over time in {len(tracks)} scenarios, a line for each round.",
            style.drawn(_draw, tracks),
        )


def _line(trial: Trial) -> NDArray[np.float64]:
    points = []
    for interval in trial.intervals:
        if interval.hdr is not None and interval.completed:
            p99 = decode(interval.hdr, trial.where).quantiles([0.99])[0]
            points.append(((interval.start_ns + interval.duration_ns / 2) / 1e9, max(1.0, float(p99))))
    return np.array(points).reshape(-1, 2)


def _span(tracks: list[_Track]) -> float:
    """The factor between the lowest and the highest p99 of the row in which it is greatest, at least 2."""
    return max(2.0, *(float(track.values.max() / track.values.min()) for track in tracks))


def _draw(tracks: list[_Track]) -> Figure:
    bottom = 38.0
    figure = style.new_figure(4 + _ROW_PX * len(tracks) + bottom)
    axes = style.add_axes(figure, 18, 4, 18, bottom)
    axes.set_ylim(len(tracks), 0)
    axes.set_yticks([])
    span = math.log(_span(tracks))
    end = max(line[-1, 0] for track in tracks for line in track.lines)
    axes.set_xlim(0, end * 1.03)
    axes.set_xlabel("seconds since measuring began")
    for index, track in enumerate(tracks):
        extremes = f"{show_duration(track.values.min())} to {show_duration(track.values.max())}"
        strips.write_label(axes, index, track.label, extremes, at=0.2)
        top, base = (index + edge for edge in _BAND)
        axes.axhline(base, color=MUTED.light, linewidth=0.5, alpha=0.6)
        lowest = math.log(track.values.min())
        heights = [(np.log(line[:, 1]) - lowest) / span for line in track.lines]
        placed = [
            np.column_stack((line[:, 0], base - height * (base - top)))
            for line, height in zip(track.lines, heights, strict=True)
        ]
        axes.add_collection(LineCollection(placed, colors=SERIES[0].light, linewidths=1.2, alpha=0.6))
    return figure
