"""A figure of each side against where the conditions lie on their scale: a round-trip time, a loss, a rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.metrics import Metric
from analysis.plots import style
from analysis.plots.strips import LOG_FROM
from analysis.plots.style import MUTED, SMALL_PX, Line, Plot
from analysis.stats import Estimate

_KEY_PX = 16.0
_LEFT_PX, _RIGHT_PX = 62.0, 44.0
_EDGE = 0.08
"""How far the axis goes on beyond the outer conditions, as a share of what lies between them."""
_CHARACTER_PX = 5.8


@dataclass(frozen=True)
class Point:
    """A side under one condition: where that lies, the median with its interval, and each round."""

    at: float
    estimate: Estimate
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Track:
    """A side under the conditions that lie on the scale; its place among the sides gives its colour."""

    side: str
    place: int
    points: tuple[Point, ...]


def plot(
    name: str,
    metric: Metric,
    tracks: Sequence[Track],
    conditions: Sequence[tuple[str, float]],
    crossings: Sequence[float],
) -> Plot:
    """The tracks of a figure over `conditions`, which are names and places, ascending; `crossings` is where tracks
    cross."""
    title = f"Along the conditions: {metric.title}"
    crossed = "The dotted line is where the difference changes its sign. " if crossings else ""
    caption = f"{crossed}Lines join the medians, bars are their 95 % intervals, dots the rounds."
    alt = f"{metric.title} of {len(tracks)} sides under {len(conditions)} conditions; the table has the numbers."
    return Plot(name, title, caption, alt, style.drawn(_draw, tracks, conditions, crossings, metric))


def _draw(
    tracks: Sequence[Track],
    conditions: Sequence[tuple[str, float]],
    crossings: Sequence[float],
    metric: Metric,
) -> Figure:
    keys_px = _KEY_PX * len(tracks)
    words = _words(conditions)
    foot_px = 16.0 + 12.0 * max(text.count("\n") + 1 for text in words)
    figure = style.new_figure(220 + foot_px + keys_px)
    axes = style.add_axes(figure, _LEFT_PX, 22, _RIGHT_PX, foot_px + keys_px)
    axes.grid(axis="both")
    axes.set_title(style.clip(metric.title, 60), loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    places = [at for _, at in conditions]
    axes.set_xlim(places[0] - _EDGE * (places[-1] - places[0]), places[-1] + _EDGE * (places[-1] - places[0]))
    axes.set_xticks(places, words)
    for at in crossings:
        axes.axvline(at, color=MUTED.light, linewidth=1, dashes=(1, 2))
    for index, track in enumerate(tracks):
        drawn = style.line(track.place)
        _draw_track(axes, track, drawn)
        style.write_key(axes, 14, keys_px - _KEY_PX * (index + 0.5), style.clip(track.side, 60), drawn)
    _scale_figures(axes, [value for track in tracks for point in track.points for value in point.rounds], crossings)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: metric.show(value)))
    return figure


def _words(conditions: Sequence[tuple[str, float]]) -> list[str]:
    """The names under the axis, parted at commas; one that would run into the one before it stands lower."""
    first, last = conditions[0][1], conditions[-1][1]
    width_px = (style.WIDTH_PX - _LEFT_PX - _RIGHT_PX) / (1 + 2 * _EDGE)
    words: list[str] = []
    end_px, depth = -math.inf, 0
    for name, at in conditions:
        lines = name.split(", ")
        middle_px = (at - first) / (last - first) * width_px
        half_px = max(map(len, lines)) * _CHARACTER_PX / 2
        depth = depth + len(lines) if middle_px - half_px < end_px and depth == 0 else 0
        end_px = middle_px + half_px
        words.append("\n" * depth + ",\n".join(lines))
    return words


def _scale_figures(axes: Axes, values: Sequence[float], crossings: Sequence[float]) -> None:
    """Logarithmic where sides cross, for that is found on logarithms (see `analysis.verdict`)."""
    low, high = min(values), max(values)
    if low > 0 and (crossings or high / low > LOG_FROM):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0) if high < 100 * low else (1.0,), numticks=10))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0.0, low * 1.08), high * 1.08 or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _draw_track(axes: Axes, track: Track, drawn: Line) -> None:
    axes.plot(
        [point.at for point in track.points],
        [point.estimate.value for point in track.points],
        color=drawn.colour,
        linestyle=drawn.dashes,
        linewidth=1.6,
    )
    for point in track.points:
        low, high = point.estimate.low, point.estimate.high
        if low is not None and high is not None:
            axes.plot([point.at, point.at], [low, high], color=drawn.colour, linewidth=4, alpha=0.28)
        axes.plot(
            [point.at] * len(point.rounds),
            point.rounds,
            linestyle="none",
            marker=drawn.marker,
            markersize=3.8,
            color=drawn.colour,
        )
