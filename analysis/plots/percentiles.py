"""Latency by percentile on an axis of nines, from the HDR histograms, up to the last sample."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.histograms import nines
from analysis.metrics import show_duration
from analysis.plots import curves, style
from analysis.plots.curves import Curve
from analysis.plots.style import MUTED, SMALL_PX, Plot
from analysis.summary import Group

_KEY_PX = 16.0


def plots(group: Group) -> Iterator[Plot]:
    """One plot for each set of scenarios whose curves belong together (see `analysis.plots.curves`)."""
    for number, (what, members) in enumerate(curves.sets(group)):
        rounds = ", and each round as a thin line" if len(members) <= curves.MOST_WITH_ROUNDS else ""
        yield Plot(
            f"percentiles-{number}",
            "Latency by percentile" + (f", {what}" if what else ""),
            f"The histograms of all rounds merged, which loses nothing and is no average{rounds}. "
            "A curve ends where one sample is left; the marker there is the maximum.",
            f"Latency by percentile of {len(members)} scenarios up to the maximum; the table has numbers.",
            style.drawn(_draw, members),
        )


def _draw(members: Sequence[Curve]) -> Figure:
    ordered = sorted(enumerate(members), key=lambda item: item[1].max_ns, reverse=True)
    keys_px = _KEY_PX * len(members)
    figure = style.new_figure(270 + keys_px)
    axes = style.add_axes(figure, 56, 22, 22, 46 + keys_px)
    axes.grid(axis="both")
    end = max(float(np.log10(max(2, curve.merged.total))) for curve in members)
    for index, curve in enumerate(members):
        drawn = style.line(index)
        if len(curve.trials) > 1 and len(members) <= curves.MOST_WITH_ROUNDS:
            for trial in curve.trials:
                axes.step(*nines(trial, 10), where="post", color=drawn.colour, linewidth=0.7, alpha=0.3)
        x, y = nines(curve.merged)
        axes.step(x, y, where="post", color=drawn.colour, linestyle=drawn.dashes, linewidth=1.8)
        axes.plot([x[-1]], [curve.max_ns], marker=drawn.marker, markersize=6, color=drawn.colour, clip_on=False)
    lowest = min(float(curve.merged.quantiles([0.0])[0]) for curve in members)
    highest = max(curve.max_ns for curve in members)
    if highest > 8 * lowest:
        axes.set_yscale("log")
        axes.set_ylim(max(1.0, lowest / 1.3), highest * 1.3)
        axes.yaxis.set_major_locator(
            LogLocator(10, subs=(1.0, 3.0) if highest < 1000 * lowest else (1.0,), numticks=12)
        )
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, highest * 1.1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_duration(value)))
    axes.set_xlim(0, end + 0.1)
    ticks = list(range(int(end) + 1))
    axes.set_xticks(ticks, ["0", "90", *(f"99{'.' * (n > 2)}{'9' * (n - 2)}" for n in ticks[2:])][: len(ticks)])
    axes.set_xlabel("percentile of requests, on an axis of nines")
    axes.set_title("latency", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    for place, (index, curve) in enumerate(ordered):
        words = f"{curve.label}: max {show_duration(curve.max_ns)} of {curve.merged.total:,} requests"
        style.write_key(axes, 14, keys_px - _KEY_PX * (place + 0.5) + 2, style.clip(words, 66), style.line(index))
    return figure
