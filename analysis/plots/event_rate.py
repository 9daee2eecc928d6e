"""What published events meet at each rate of publishing: their delay, what each of them costs, and what each client."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from analysis.metrics import (
    BYTES_AN_EVENT,
    CPU_A_CLIENT,
    EVENTS,
    MEMORY_A_CLIENT,
    P50,
    P99,
    PACKETS_AN_EVENT,
    REQUESTS_AN_EVENT,
    Metric,
    show_number,
)
from analysis.plots import strips, style
from analysis.plots.style import MUTED, SMALL_PX, Plot
from analysis.summary import Group, Ladder, Summary
from bench.quantities import format_size


@dataclass(frozen=True)
class _Kind:
    """A plot: its name, its words, and the figures that it shows, one above the other with the words over each."""

    name: str
    title: str
    caption: str
    panels: tuple[tuple[Metric, str], ...]


_KINDS = (
    _Kind(
        "event-delay",
        "Delay against the event rate",
        "From when an event was due to be published to its delivery at a subscriber.",
        ((P50, "p50 of the delay"), (P99, "p99 of the delay")),
    ),
    _Kind(
        "event-costs",
        "What an event costs, against the event rate",
        "For each published event, over all of its subscribers. Packets and bytes are those of both ends, empty "
        "acknowledgements among them; they are counted on a link of the lab.",
        (
            (REQUESTS_AN_EVENT, "requests for each event"),
            (PACKETS_AN_EVENT, "packets for each event"),
            (BYTES_AN_EVENT, "bytes for each event"),
        ),
    ),
    _Kind(
        "client-costs",
        "What a subscriber costs the server, against the event rate",
        "At the lowest rate it is all but idle. Memory is what the server has grown by since before the first client "
        "came, divided by the subscribers: with few of them, what it has taken once for all counts too.",
        ((CPU_A_CLIENT, "CPU time in a second, for each client"), (MEMORY_A_CLIENT, "memory for each client")),
    ),
)

_MARKS = " Lines join medians, bars are 95 % intervals, marks the rounds, hollow where in serious doubt."

_KEY_PX, _PANEL_PX, _GAP_PX, _HEAD_PX, _FOOT_PX = 16.0, 120.0, 30.0, 22.0, 46.0
_ASIDE = 1.02
"""The lines are set apart sideways by this factor each, so that none hides another."""
_LOG_FROM, _DECADES_ONLY_FROM = 20.0, 1000.0
"""Figures further apart than these factors get a logarithmic scale, and ticks at powers of ten alone."""


def plots(group: Group) -> Iterator[Plot]:
    """Plots of the ladders of rates of a group whose events are published, or of each of its parts."""
    if not group.is_push:
        return
    for number, part in enumerate(group.parts):
        within = {id(summary) for summary in part.summaries}
        ladders = [ladder for ladder in group.ladders if id(ladder.rungs[0]) in within and _is_measured(ladder, EVENTS)]
        for kind in _KINDS if ladders else ():
            panels = [panel for panel in kind.panels if any(_is_measured(ladder, panel[0]) for ladder in ladders)]
            if panels:
                yield Plot(
                    f"{kind.name}-{number}" if number else kind.name,
                    kind.title + (f", {part.words}" if part.words else ""),
                    kind.caption + _MARKS,
                    f"{', '.join(words for _, words in panels)} of {len(ladders)} ways, against events per second.",
                    style.drawn(_draw, ladders, panels),
                )


def _is_measured(ladder: Ladder, metric: Metric) -> bool:
    return any(rung.estimate(metric) is not None for rung in ladder.rungs)


def _show(metric: Metric, value: float, _place: int) -> str:
    return metric.show(value) if value else "0"


def _scale_costs(axes: Axes, metric: Metric, values: Sequence[float]) -> None:
    """Set the scale of the y axis for these values: logarithmic where they lie far apart and none is zero. Ticks are
    round numbers, of KiB where bytes are shown."""
    unit = 1024.0 if metric.show is format_size else 1.0
    low, high = min(values) / unit, max(values) / unit or 1.0
    if low > 0 and high > _LOG_FROM * low:
        axes.set_yscale("log")
        axes.set_ylim(low * unit / 1.4, high * unit * 1.4)
        axes.yaxis.set_minor_locator(NullLocator())
        digits = (1,) if high > _DECADES_ONLY_FROM * low else (1, 3)
        ticks = [digit * 10.0**power for power in range(-9, 13) for digit in digits]
    else:
        axes.set_ylim(min(0.0, low) * unit, high * unit * 1.08)
        ticks = list(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(min(0.0, low), high * 1.08))
    least, most = axes.get_ylim()
    axes.set_yticks([tick * unit for tick in ticks if least <= tick * unit <= most])
    axes.yaxis.set_major_formatter(FuncFormatter(partial(_show, metric)))


def _rate(rung: Summary) -> float:
    events = rung.estimate(EVENTS)
    return 0.0 if events is None else events.value


def _place(aside: float, rung: Summary) -> float:
    return _rate(rung) * aside


def _draw(ladders: Sequence[Ladder], panels: Sequence[tuple[Metric, str]]) -> Figure:
    keys_px = _KEY_PX * len(ladders)
    height = _HEAD_PX + len(panels) * (_PANEL_PX + _GAP_PX) - _GAP_PX + _FOOT_PX + keys_px
    figure = style.new_figure(height)
    rates = sorted({_rate(rung) for ladder in ladders for rung in ladder.rungs} - {0.0})
    for place, (metric, words) in enumerate(panels):
        top = _HEAD_PX + place * (_PANEL_PX + _GAP_PX)
        axes = style.add_axes(figure, 66, top, 22, height - top - _PANEL_PX)
        axes.grid(axis="both")
        for index, ladder in enumerate(ladders):
            aside = _ASIDE ** (index - (len(ladders) - 1) / 2)
            rungs = [rung for rung in ladder.rungs if _rate(rung)]
            strips.draw_line(axes, rungs, metric, style.line(index), partial(_place, aside))
        axes.set_xscale("log")
        axes.set_xlim(rates[0] / 1.4, rates[-1] * 1.4)
        axes.set_xticks(rates)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
        values = [value for ladder in ladders for rung in ladder.rungs for value in rung.by_round(metric).values()]
        _scale_costs(axes, metric, values)
        axes.set_title(words, loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
        axes.tick_params(labelbottom=place == len(panels) - 1)
    axes.set_xlabel("events published per second, logarithmic")
    for index, ladder in enumerate(ladders):
        style.write_key(axes, 14, keys_px - _KEY_PX * (index + 0.5), style.clip(ladder.label, 60), style.line(index))
    return figure
