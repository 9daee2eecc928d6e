"""The share of answers within a latency: a line for each round, and one for all rounds together."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from analysis.histograms import Histogram
from analysis.metrics import show_duration
from analysis.plots import curves, style
from analysis.plots.curves import Curve
from analysis.plots.style import MUTED, SMALL_PX, Plot
from analysis.summary import Group

_KEY_PX = 16.0
_POINTS = 72
"""What a curve is drawn from at most."""


def plots(group: Group) -> Iterator[Plot]:
    """One plot for each set of scenarios whose curves belong together (see `analysis.plots.curves`)."""
    for number, (what, members) in enumerate(curves.sets(group)):
        yield Plot(
            f"ecdf-{number}",
            "Latency, cumulative" + (f", {what}" if what else ""),
            "The share of answers that came within a time: each round as a thin line, all rounds together as a thick "
            "one. Curves side by side differ everywhere; curves that meet differ only in part of the answers.",
            f"Cumulative latency of {len(members)} scenarios, a line for each round; the table has the numbers.",
            style.drawn(_draw, members),
        )


def _draw(members: Sequence[Curve]) -> Figure:
    keys_px = _KEY_PX * len(members)
    figure = style.new_figure(236 + keys_px)
    axes = style.add_axes(figure, 46, 22, 22, 46 + keys_px)
    axes.grid(axis="both")
    for index, curve in enumerate(members):
        drawn = style.line(index)
        if len(curve.trials) > 1 and len(members) <= curves.MOST_WITH_ROUNDS:
            for trial in curve.trials:
                axes.plot(*_points(trial, _POINTS // 2), color=drawn.colour, linewidth=0.7, alpha=0.35)
        axes.plot(*_points(curve.merged, _POINTS), color=drawn.colour, linestyle=drawn.dashes, linewidth=1.8)
        label = style.clip(curve.label, 60)
        line = style.Line(drawn.colour, drawn.dashes)
        style.write_key(axes, 14, keys_px - _KEY_PX * (index + 0.5) + 2, label, line)
    lowest = min(float(curve.merged.values_ns[0]) for curve in members)
    highest = max(float(curve.merged.quantiles([0.999])[0]) for curve in members)
    axes.set_xscale("log")
    axes.set_xlim(max(1.0, lowest / 1.15), highest * 1.15)
    subs = (1.0, 2.0, 5.0) if highest < 100 * lowest else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(10, subs=subs, numticks=12))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_duration(value)))
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("latency, logarithmic")
    axes.set_title("answers within it", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    return figure


def _points(histogram: Histogram, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The latency and the share of answers within it, from none to all: a step for each answer where there are few."""
    shares = np.linspace(0, 1, min(most, histogram.total + 1))
    values = histogram.quantiles(shares).astype(float)
    if histogram.total >= most:
        return values, shares
    return np.repeat(values[1:], 2), np.repeat(shares, 2)[1:-1]
