"""Latency against the offered rate, with what was answered of that rate below it."""

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.metrics import P50, P99, THROUGHPUT, show_duration, show_number
from analysis.plots import strips, style
from analysis.plots.style import MUTED, SMALL_PX, Line, Plot
from analysis.summary import Group, Ladder, Summary, offered_per_s

_KEY_PX = 16.0
_P50_DASHES = (0, (1.2, 1.4))
_ASIDE = 0.012
"""How far the lines are set apart sideways, so that none hides another: a share of the highest rate."""
_HEAD_PX, _UPPER_PX, _GAP_PX, _LOWER_PX, _FOOT_PX = 22.0, 200.0, 26.0, 110.0, 46.0


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the ladders of rates of a group, or of each of its parts. Where events are published, another plot
    shows what they meet at each rate (`analysis.plots.event_rate`)."""
    if group.is_push:
        return
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
        for metric, axes, how, aside in (
            (P50, upper, Line(drawn.colour, _P50_DASHES), shift),
            (P99, upper, drawn, shift),
            (THROUGHPUT, lower, drawn, 0.0),
        ):
            strips.draw_line(axes, ladder.rungs, metric, how, partial(_place, aside))
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


def _place(aside: float, rung: Summary) -> float:
    return offered_per_s(rung) + aside


def _scale_rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xlim(0, max(rates) * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
