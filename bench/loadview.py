"""What `wirebench load` shows of its trial: a table of latencies, what it cost, and a histogram."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis import doubts
from analysis.histograms import Histogram, decode
from analysis.metrics import show_duration, show_share
from analysis.mixes import COLUMNS, MARKS, SHOWN_AS
from bench.output import columns
from bench.quantities import format_rate, format_size

_ROWS = {
    "mean": "mean",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "p99.9": "p999",
    "max": "max",
}
_BAR_CELLS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def load_view(trial: dict[str, Any]) -> str:
    """The whole answer in text."""
    return "\n\n".join(part for part in _parts(trial) if part)


def _parts(trial: dict[str, Any]) -> Iterator[str]:
    if trial["error"] is not None:
        yield f"failed: {trial['error']}"
        return
    yield _latencies(trial)
    if trial["requests"]:
        yield _by_request(trial["requests"])
    yield columns(_facts(trial))
    if trial["latency_ns"]:
        yield histogram_lines(decode(trial["latency_ns"]["hdr"], "latency"))
    yield "\n".join(
        f"doubt{' (fatal)' if doubt['fatal'] else ''}: {doubts.MEANINGS[doubt['kind']].short}: {doubt['detail']}"
        for doubt in trial["doubts"]
    )


def _latencies(trial: dict[str, Any]) -> str:
    latency, service = trial["latency_ns"], trial["service_ns"]
    if latency is None:
        return (
            "no event was delivered" if trial["delivery"] else "no request was answered"
        ) + ", so there is no latency"
    open_load = trial["offered_per_s"] is not None
    sent = "from published" if trial["delivery"] else "from sent"
    kinds = [("from intended" if open_load else sent, latency)]
    if open_load and service:  # of workers that were stopped there is none
        kinds.append((sent, service))
    rows = [["latency", *(name for name, _ in kinds)], ["count", *(f"{of['count']:,}" for _, of in kinds)]]
    rows += [[name, *(_duration(of[key]) for _, of in kinds)] for name, key in _ROWS.items()]
    note = "" if open_load else "\n(a closed load sends when there is room: what it intends is what it sends)"
    return columns(rows, right=range(1, len(rows[0]))) + note


def _by_request(requests: dict[str, Any]) -> str:
    """A row for each request of a mix, and below them why answers were wrong."""
    rows = [["request", "count", *COLUMNS, "errors"]]
    for name, found in requests.items():
        latency, errors = found["latency_ns"], found["errors"]
        figures = [_duration(latency[key]) for key in COLUMNS] if latency else ["–"] * len(COLUMNS)
        failed = ", ".join(f"{number:,} {kind}" for kind, number in sorted(errors.items()))
        rows.append([name, f"{found['completed']:,}", *figures, failed or "none"])
    complaints = [
        f"{name}: an answer was wrong: {found['complaint']}" for name, found in requests.items() if found["complaint"]
    ]
    return "\n".join([columns(rows, right=range(1, 5)), *complaints])


def threshold_lines(judged: list[dict[str, Any]]) -> str:
    """A row for each threshold, and whether it held."""
    rows = [["threshold", "measured", ""]]
    for threshold in judged:
        value = threshold["value"]
        shown = "not measured" if value is None else SHOWN_AS[threshold["unit"]](value)
        rows.append([threshold["threshold"], shown, MARKS[threshold["held"]]])
    return columns(rows, right=[1])


def _duration(ns: float | None) -> str:
    return "too few samples" if ns is None else show_duration(ns)


def _facts(trial: dict[str, Any]) -> Iterator[list[str]]:
    counts, lateness, client = trial["counts"], trial["lateness_ns"], trial["client"]
    offered = trial["offered_per_s"]
    of_offered = f" of {format_rate(offered)} offered" if offered else ""
    delivery = trial["delivery"]
    yield ["delivered" if delivery else "answered", format_rate(trial["throughput_per_s"]) + of_offered]
    if delivery:
        yield ["events", f"{delivery['published']:,} to {delivery['subscribers']:,} subscribers"]
        reach = "not measured" if delivery["reach"] is None else show_share(delivery["reach"])
        again = f", {delivery['duplicates']:,} delivered again" if delivery["duplicates"] else ""
        yield ["reach", f"{reach} of the deliveries due{again}"]
    failed = ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts["errors"].items()))
    yield ["errors", failed or "none"]
    if offered is not None:
        yield ["dropped", f"{counts['dropped']:,}" if counts["dropped"] else "none"]
    if lateness:
        yield ["sent late by", ", ".join(f"{key} {show_duration(lateness[key])}" for key in ("p50", "p99", "max"))]
    if trial["wire"]:
        yield from _wire(trial["wire"], counts["completed"])
    if (server := trial["server"]) and server["cpu_user_s"] is not None:
        share = (server["cpu_user_s"] + server["cpu_system_s"]) / (trial["measured_ns"] / 1e9)
        yield ["service", f"{show_share(share)} of a core, {format_size(server['rss_bytes'])} in memory"]
    if client:
        of_several = f", the busiest of {client['processes']}" if client["processes"] > 1 else ""
        yield ["load CPU", f"{show_share(client['cpu_share_max'])} of a core{of_several}"]
    if trial.get("workers"):
        yield from _workers(trial["workers"])


def _workers(workers: dict[str, Any]) -> Iterator[list[str]]:
    each = workers["each"]
    lost = sum(worker["state"] == "lost" for worker in each)
    yield ["workers", f"{len(each)} of {workers['expected']}" + (f", {lost} of them lost" if lost else "")]
    furthest = max(worker["clock_error_ns"] for worker in each)
    yield ["their clocks", f"known to {show_duration(furthest)}"]


def _wire(wire: dict[str, Any], answered: int) -> Iterator[list[str]]:
    for way, name in (("up", "sent"), ("down", "received")):
        counted = wire[way]
        each = f", {counted['offered'] / answered:.3g} for each answer" if answered else ""
        lost = sum(counted[fate] for fate in ("lost", "overflowed", "oversized", "blocked"))
        gone = f", {lost:,} of them lost" if lost else ""
        yield [f"packets {name}", f"{counted['offered']:,} ({format_size(counted['offered_bytes'])}){each}{gone}"]
    again = sum(node["tcp_segments_retransmitted"] for node in wire["nodes"].values())
    if again:
        yield ["TCP segments", f"{again:,} sent again"]


def histogram_lines(histogram: Histogram) -> str:
    """Bars of how many latencies fell between round numbers; their length is on a log scale, so that a tail of a few
    shows beside a hundred thousand."""
    edges = _edges(int(histogram.values_ns[0]), int(histogram.values_ns[-1]))
    places = np.searchsorted(edges, histogram.values_ns)
    counts = np.bincount(places, histogram.counts, len(edges)).astype(int)
    longest = float(np.log10(counts.max() + 1))
    rows = []
    for edge, count in zip(edges, counts.tolist(), strict=True):
        bar = _bar(math.log10(count + 1) / longest)
        rows.append([f"≤ {show_duration(edge)}", bar, f"{count:,}", show_share(count / histogram.total)])
    return "how many took how long (length of the bars on a log scale)\n" + columns(rows, right=(0, 2, 3))


def _edges(least_ns: int, most_ns: int) -> list[int]:
    """1, 2, 5, 10 … from the first at or above the least to the first at or above the most."""
    steps = [digit * 10**power for power in range(14) for digit in (1, 2, 5)]
    first = next(n for n, step in enumerate(steps) if step >= least_ns)
    last = next(n for n, step in enumerate(steps) if step >= most_ns)
    return steps[first : last + 1]


def _bar(share: float) -> str:
    whole, eighths = divmod(round(share * _BAR_CELLS * 8), 8)
    return "█" * whole + (_EIGHTHS[eighths] if eighths else "")
