"""A figure of each side against where the conditions lie on their scale: a round-trip time, a loss, a rate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.plots import style
from analysis.plots.strips import LOG_FROM
from analysis.plots.style import MUTED, Line, Plot
from analysis.stats import Estimate

_KEY_PX = 16.0


@dataclass(frozen=True)
class Point:
    """A side under one condition: where that lies, the median with its interval, and each round."""

    at: float
    estimate: Estimate
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Track:
    """A side under the conditions that lie on the scale."""

    side: str
    points: tuple[Point, ...]


def plot(
    name: str,
    title: str,
    tracks: Sequence[Track],
    conditions: Sequence[tuple[str, float]],
    crossings: Sequence[float],
    show: Callable[[float], str],
) -> Plot:
    """The tracks of a figure over `conditions`, which are names and places; `crossings` is where tracks cross."""
    crossed = "The dotted line is where the difference changes its sign. " if crossings else ""
    caption = f"{crossed}Lines join the medians, bars are their 95 % intervals, dots the rounds."
    alt = f"{title} of {len(tracks)} sides under {len(conditions)} conditions; the table has the numbers."
    return Plot(name, title, caption, alt, style.drawn(_draw, tracks, conditions, crossings, show))


def _draw(
    tracks: Sequence[Track],
    conditions: Sequence[tuple[str, float]],
    crossings: Sequence[float],
    show: Callable[[float], str],
) -> Figure:
    keys_px = _KEY_PX * len(tracks)
    words = [name.replace(", ", ",\n") for name, _ in conditions]
    foot_px = 16.0 + 12.0 * max(text.count("\n") + 1 for text in words)
    figure = style.new_figure(210 + foot_px + keys_px)
    axes = style.add_axes(figure, 62, 12, 30, foot_px + keys_px)
    axes.grid(axis="both")
    _place_conditions(axes, [at for _, at in conditions], words)
    for at in crossings:
        axes.axvline(at, color=MUTED.light, linewidth=1, dashes=(1, 2))
    for index, track in enumerate(tracks):
        drawn = style.line(index)
        _draw_track(axes, track, drawn)
        style.write_key(axes, 14, keys_px - _KEY_PX * (index + 0.5), style.clip(track.side, 60), drawn)
    _scale_figures(axes, [value for track in tracks for point in track.points for value in point.rounds])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    return figure


def _place_conditions(axes: Axes, places: Sequence[float], words: Sequence[str]) -> None:
    low, high = min(places), max(places)
    if low > 0 and high / low > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
    else:
        axes.set_xlim(low - (high - low) * 0.08, high + (high - low) * 0.08)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(places), list(words))


def _scale_figures(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
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
