"""The plots of a capacity search: latency against rate, a queue beside it, throughput against concurrency with
the Universal Scalability Law, and what each execution model and number of workers carries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.metrics import show_duration, show_number
from analysis.plots import style
from analysis.plots.style import GRID, MUTED, SERIES, SMALL_PX, Line, Plot
from analysis.queueing import Queue
from analysis.scalability import usl
from bench.quantities import format_rate, parse_duration_ns

_TIMES = {"M": "exponential", "D": "fixed", "G": "such"}
"""Service times, by the letter that queues have for them."""
_KEY_PX = 16.0
_HEIGHT_PX, _ROW_PX = 250.0, 26.0
_DOTTED = (0, (1.2, 1.4))
_DASHED = (0, (4, 1.6))
_ROOM = 1.3
"""On an axis of latencies, beyond what is drawn: for marks, and for words above the highest line."""
_BEYOND = 1.25
"""How far the curve of latency is drawn, as a multiple of the lowest rate that is missed."""


def plots(record: Mapping[str, Any]) -> Iterator[Plot]:
    """Every plot that a capacity file has the figures for."""
    answer, points = record["searches"][0], record["curve"]
    shown = [point for point in points if point["rate_per_s"] <= _BEYOND * (answer["missed_per_s"] or np.inf)]
    if len(shown) > 1:
        yield Plot(
            "latency",
            "Latency against offered rate",
            "From when a request was due to its answer; medians of the trials of a rate. Dashed: the objectives. "
            "The grey band lies between the capacity that was confirmed and the lowest rate that is missed.",
            f"p50 and p99 latency at {len(shown)} offered rates.",
            style.drawn(_latency, shown, record),
        )
    if record["queue"] and len(shown) > 1:
        model = record["queue"]["model"]
        yield Plot(
            "queue",
            f"Mean latency beside the queue {model}",
            f"The line is what independent requests would wait in one line for as many servers with {_TIMES[model[2]]} "
            "service times, given the latency at the lowest rates and the highest throughput "
            f"({record['queue']['formula']}).",
            f"Mean latency at {len(shown)} offered rates, and that of an {model} with the same limit.",
            style.drawn(_queue, shown, record["queue"]),
        )
    if record["scaling"]:
        yield Plot(
            "scaling",
            "Throughput against requests in flight",
            "Closed loads, one request in flight on each connection. The line is the Universal Scalability Law, drawn "
            "no further than was measured.",
            f"Throughput of {len(record['scaling']['points'])} closed loads.",
            style.drawn(_scaling, record["scaling"]),
        )
    if record["workers"]:
        yield Plot(
            "workers",
            "Capacity by execution model and workers",
            "From the capacity that was confirmed to the lowest rate that is missed.",
            f"Capacity of {len(record['workers'])} configurations.",
            style.drawn(_workers, record["workers"]),
        )


def _axes(figure: Figure, height: float, keys: int) -> Axes:
    axes = style.add_axes(figure, 62, 22, 22, 46 + _KEY_PX * keys)
    axes.grid(axis="both")
    return axes


def _rates(axes: Axes, most: float) -> None:
    axes.set_xlim(0, most * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    axes.set_xlabel("offered requests per second")


def _log_durations(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_duration(value)))
    axes.set_title("latency", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)


def _latency(points: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Figure:
    answer, knee = record["searches"][0], record["knee"]
    limits = [text.partition("<") for text in record["settings"]["objectives"] if not text.startswith("errors")]
    keys = [
        ("p99", Line(SERIES[0].light, "solid", "o"), "p99_ns"),
        ("p50", Line(SERIES[2].light, _DOTTED, "s"), "p50_ns"),
    ]
    height = _HEIGHT_PX + _KEY_PX * (len(keys) + bool(knee))
    figure = style.new_figure(height)
    axes = _axes(figure, height, len(keys) + bool(knee))
    most = max(point["rate_per_s"] for point in points)
    if answer["rate_per_s"] is not None:
        axes.axvspan(answer["rate_per_s"], answer["missed_per_s"] or most, color=MUTED.light, alpha=0.25, linewidth=0)
        axes.axvline(answer["rate_per_s"], color=MUTED.light, linewidth=1)
    for place, (name, drawn, key) in enumerate(keys):
        _curve(axes, points, key, drawn)
        style.write_key(axes, 14, _KEY_PX * (len(keys) + bool(knee) - place - 0.5), name, drawn)
    if knee:
        mark = Line(SERIES[1].light, None, "D")
        at = (
            next(point for point in points if point["rate_per_s"] == knee["rate_per_s"]) if _has(points, knee) else None
        )
        if at is not None:
            axes.plot([at["rate_per_s"]], [at["p50_ns"]], marker="D", markersize=7, color=mark.colour)
        style.write_key(axes, 14, _KEY_PX * 0.5, f"knee, {format_rate(knee['rate_per_s'])}", mark)
    _log_durations(axes)
    for name, _, limit in limits:
        limit_ns = parse_duration_ns(limit, "objective")
        axes.axhline(limit_ns, color=SERIES[1].light, linewidth=1.2, linestyle=_DASHED)
        axes.text(
            0, limit_ns, f" {name} < {show_duration(limit_ns)}", fontsize=SMALL_PX, color=SERIES[1].light, va="bottom"
        )
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom / _ROOM, max([top, *(parse_duration_ns(limit, "objective") for *_, limit in limits)]) * _ROOM)
    _rates(axes, most)
    return figure


def _has(points: Sequence[Mapping[str, Any]], knee: Mapping[str, Any]) -> bool:
    return any(point["rate_per_s"] == knee["rate_per_s"] for point in points)


def _curve(axes: Axes, points: Sequence[Mapping[str, Any]], key: str, drawn: Line) -> None:
    known = [point for point in points if point[key] is not None]
    axes.plot(
        [point["rate_per_s"] for point in known],
        [point[key] for point in known],
        color=drawn.colour,
        linestyle=drawn.dashes or "none",
        linewidth=1.6,
        marker=drawn.marker,
        markersize=4.5,
    )


def _queue(points: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Figure:
    height = _HEIGHT_PX + 2 * _KEY_PX
    figure = style.new_figure(height)
    axes = _axes(figure, height, 2)
    queue = Queue(found["servers"], found["service_s"], found["besides_s"], found["variability"])
    measured, model = Line(SERIES[0].light, None, "o"), Line(SERIES[3].light, "solid")
    _curve(axes, points, "mean_ns", measured)
    rates = np.linspace(0, queue.limit_per_s * 0.995, 200)
    axes.plot(rates, [queue.latency_s(rate) * 1e9 for rate in rates], color=model.colour, linewidth=1.6)
    style.write_key(axes, 14, _KEY_PX * 1.5, "measured, mean", measured)
    style.write_key(axes, 14, _KEY_PX * 0.5, f"{queue.name}, limit {format_rate(queue.limit_per_s)}", model)
    if found["departure"]:
        axes.axvline(found["departure"]["rate_per_s"], color=GRID.light, linewidth=2)
    _log_durations(axes)
    _rates(axes, max(point["rate_per_s"] for point in points))
    return figure


def _scaling(scaling: Mapping[str, Any]) -> Figure:
    height = _HEIGHT_PX + 2 * _KEY_PX
    figure = style.new_figure(height)
    axes = _axes(figure, height, 2)
    n = [point["concurrency"] for point in scaling["points"]]
    measured, law = Line(SERIES[0].light, None, "o"), Line(SERIES[3].light, "solid")
    axes.plot(n, [point["throughput_per_s"] for point in scaling["points"]], "o", markersize=5, color=measured.colour)
    style.write_key(axes, 14, _KEY_PX * 1.5, "measured", measured)
    if (fit := scaling["fit"]) is not None:
        x = np.geomspace(fit["least"], fit["most"], 100)
        values = (fit[name]["value"] for name in ("rate_of_one_per_s", "contention", "coherency"))
        axes.plot(x, usl(x, *values), color=law.colour, linewidth=1.6)
        style.write_key(
            axes,
            14,
            _KEY_PX * 0.5,
            "Universal Scalability Law" + ("" if fit["is_good"] else f", a poor fit (R² {fit['r_squared']:.2f})"),
            law,
        )
        if fit["peak"] is not None:
            axes.axvline(fit["peak"]["value"], color=MUTED.light, linewidth=1, linestyle=_DOTTED)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(0, 1.08 * max(point["throughput_per_s"] for point in scaling["points"]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    axes.set_title("answered requests per second", loc="left", fontsize=SMALL_PX, color=MUTED.light, pad=5)
    axes.set_xlabel("requests in flight")
    return figure


def _workers(found: Sequence[Mapping[str, Any]]) -> Figure:
    figure = style.new_figure(70 + _ROW_PX * len(found))
    axes = style.add_axes(figure, 150, 22, 22, 46)
    axes.grid(axis="x")
    for row, search in enumerate(found):
        rate = search["rate_per_s"] or 0.0
        axes.plot([rate], [row], marker="o", markersize=6, color=SERIES[0].light)
        if search["missed_per_s"]:
            axes.plot([rate, search["missed_per_s"]], [row, row], color=SERIES[0].light, linewidth=4, alpha=0.4)
    names = [f"{search['execution']} × {search['workers']}" for search in found]
    axes.set_yticks(range(len(found)), names)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    axes.set_xlabel("requests per second that meet the objectives")
    return figure
