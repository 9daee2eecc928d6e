"""Latency against the offered rate, with what was answered of that rate below it."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.metrics import P50, P99, THROUGHPUT, Metric, show_duration, show_number
from analysis.plots import strips, style
from analysis.plots.strips import Marks
from analysis.plots.style import MUTED, SMALL_PX, SURFACE, Line, Plot
from analysis.summary import Group, Ladder, offered_per_s

_KEY_PX = 16.0
_P50_DASHES = (0, (1.2, 1.4))
_ASIDE = 0.012
"""How far the lines are set apart sideways, so that none hides another: a share of the highest rate."""
_HEAD_PX, _UPPER_PX, _GAP_PX, _LOWER_PX, _FOOT_PX = 22.0, 200.0, 26.0, 110.0, 46.0


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the ladders of rates of a group, or of each of its parts."""
    for number, part in enumerate(group.parts):
        within = {id(summary) for summary in part.summaries}
        ladders = [ladder for ladder in group.ladders if id(ladder.rungs[0]) in within and _is_measured(ladder)]
        if not ladders:
            continue
        yield Plot(
            f"load-curve-{number}" if number else "load-curve",
            "Latency against offered rate" + (f", {part.words}" if part.words else ""),
            "Latency counts from when a request was due, so waiting for a free connection is part of it. Bars are 95 % "
            "intervals, marks the rounds, hollow where in serious doubt; latencies are set apart sideways to be seen. "
            "Under the dotted line of the lower plot, less was answered than offered.",
            f"p50 and p99 latency and answered rate of {len(ladders)} servers against the offered rate.",
            style.drawn(_draw, ladders),
        )


def _is_measured(ladder: Ladder) -> bool:
    return any(rung.estimate(P99) is not None for rung in ladder.rungs)


def _draw(ladders: Sequence[Ladder]) -> Figure:
    keys_px = _KEY_PX * (len(ladders) + 1)
    height = _HEAD_PX + _UPPER_PX + _GAP_PX + _LOWER_PX + _FOOT_PX + keys_px
    figure = style.new_figure(height)
    upper = style.add_axes(figure, 62, _HEAD_PX, 22, height - _HEAD_PX - _UPPER_PX)
    lower = style.add_axes(figure, 62, _HEAD_PX + _UPPER_PX + _GAP_PX, 22, _FOOT_PX + keys_px)
    rates = [offered_per_s(rung) for ladder in ladders for rung in ladder.rungs]
    for axes in (upper, lower):
        axes.grid(axis="both")
        _scale_rates(axes, rates)
    upper.tick_params(labelbottom=False)
    for index, ladder in enumerate(ladders):
        drawn = style.line(index)
        shift = (index - (len(ladders) - 1) / 2) * _ASIDE * max(rates)
        _line(upper, ladder, P50, Line(drawn.colour, _P50_DASHES), shift)
        _line(upper, ladder, P99, drawn, shift)
        _line(lower, ladder, THROUGHPUT, drawn, 0)
        style.write_key(lower, 14, keys_px - _KEY_PX * (index + 0.5), style.clip(f"{ladder.label}, p99", 60), drawn)
    style.write_key(lower, 14, keys_px - _KEY_PX * (len(ladders) + 0.5), "p50, each", Line(MUTED.light, _P50_DASHES))
    upper.set_yscale("log")
    upper.yaxis.set_major_locator(LogLocator(10, numticks=8))
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_duration(value)))
    upper.set_title("latency", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    lower.axline((0, 0), slope=1, color=MUTED.light, linewidth=1, dashes=(1, 2))
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    lower.set_title("answered requests per second", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    lower.set_xlabel("offered requests per second")
    return figure


def _scale_rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xlim(0, max(rates) * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))


def _line(axes: Axes, ladder: Ladder, metric: Metric, drawn: Line, shift: float) -> None:
    """One figure of a ladder: a line through the medians, intervals, and rounds if the line has a marker for them."""
    points = [
        (offered_per_s(rung) + shift, rung, estimate)
        for rung in ladder.rungs
        if (estimate := rung.estimate(metric)) is not None
    ]
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
            _dots(axes, rate, strips.marks(rung, metric), drawn)


def _dots(axes: Axes, rate: float, rounds: Marks, drawn: Line) -> None:
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
