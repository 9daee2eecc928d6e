"""Latency against the offered rate, with what was answered of that rate below it."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.metrics import P50, P99, THROUGHPUT, Metric, show_duration, show_number
from analysis.plots import style
from analysis.plots.style import MUTED, SMALL_PX, SURFACE, Line, Plot
from analysis.summary import Group, Ladder, Summary, offered_per_s

_KEY_PX = 16.0
_HEAD_PX, _UPPER_PX, _GAP_PX, _LOWER_PX, _FOOT_PX = 22.0, 200.0, 26.0, 110.0, 46.0


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the ladders of rates of a group."""
    ladders = [ladder for ladder in group.ladders if any(rung.estimate(P99) is not None for rung in ladder.rungs)]
    if ladders:
        yield Plot(
            "load-curve",
            "Latency against offered rate",
            "Latency counts from when a request was due, so waiting for a free connection is part of it. Bars are 95 "
            "% intervals, small dots the rounds, hollow where in doubt. Below the dotted line less was answered than "
            "offered.",
            f"p50 and p99 latency and answered rate of {len(ladders)} servers against the offered rate.",
            style.drawn(_draw, ladders),
        )


def _draw(ladders: Sequence[Ladder]) -> Figure:
    keys_px = _KEY_PX * (len(ladders) + 1)
    height = _HEAD_PX + _UPPER_PX + _GAP_PX + _LOWER_PX + _FOOT_PX + keys_px
    figure = style.new_figure(height)
    upper = style.add_axes(figure, 62, _HEAD_PX, 22, height - _HEAD_PX - _UPPER_PX)
    lower = style.add_axes(figure, 62, _HEAD_PX + _UPPER_PX + _GAP_PX, 22, _FOOT_PX + keys_px)
    for axes in (upper, lower):
        axes.grid(axis="both")
        _scale_rates(axes, [offered_per_s(rung) for ladder in ladders for rung in ladder.rungs])
    upper.tick_params(labelbottom=False)
    for index, ladder in enumerate(ladders):
        drawn = style.line(index)
        _line(upper, ladder, P50, Line(drawn.colour, (0, (1.2, 1.4)), drawn.marker))
        _line(upper, ladder, P99, drawn)
        _line(lower, ladder, THROUGHPUT, drawn)
        style.write_key(lower, 14, keys_px - _KEY_PX * (index + 0.5), style.clip(f"{ladder.label}: p99", 60), drawn)
    style.write_key(
        lower,
        14,
        keys_px - _KEY_PX * (len(ladders) + 0.5),
        "p50, in the same colours",
        Line(MUTED.light, (0, (1.2, 1.4))),
    )
    upper.set_yscale("log")
    upper.yaxis.set_major_locator(LogLocator(10, numticks=8))
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_duration(value)))
    upper.set_title("latency", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    lower.axline((0, 0), slope=1, color=MUTED.light, linewidth=1, dashes=(1, 2))
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_locator(MaxNLocator(4))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    lower.set_title("answered requests per second", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    lower.set_xlabel("offered requests per second")
    return figure


def _scale_rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xlim(0, max(rates) * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))


def _line(axes: Axes, ladder: Ladder, metric: Metric, drawn: Line) -> None:
    rungs = [(offered_per_s(rung), rung, rung.estimate(metric)) for rung in ladder.rungs]
    points = [(rate, rung, estimate) for rate, rung, estimate in rungs if estimate is not None]
    axes.plot(
        [rate for rate, _, _ in points],
        [estimate.value for _, _, estimate in points],
        color=drawn.colour,
        linestyle=drawn.dashes,
        linewidth=1.6,
    )
    for rate, rung, estimate in points:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([rate, rate], [estimate.low, estimate.high], color=drawn.colour, linewidth=4, alpha=0.28)
        _dots(axes, rate, rung, metric, drawn)


def _dots(axes: Axes, rate: float, rung: Summary, metric: Metric, drawn: Line) -> None:
    values = list(rung.by_round(metric).values())
    axes.plot(
        [rate] * len(values),
        values,
        linestyle="none",
        marker=drawn.marker,
        markersize=3.8,
        color=SURFACE.light if rung.fatal else drawn.colour,
        markeredgecolor=drawn.colour,
        markeredgewidth=0.9 if rung.fatal else 0,
    )
