"""The figures that one trial gives, each with its unit, its direction and its spelling. Tables, plots, CSV files and
comparisons all take them from here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from analysis.load_results import ClientUse, Distribution, HopUse, ServerUse, Trial
from bench.quantities import format_duration, format_rate, format_size, parse_duration_ns

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number of a trial. `name` carries the unit and is the column of CSV files; `of` gives None if it was not
    measured; `show` spells a value for people. `better` is None where neither direction is."""

    name: str
    title: str
    better: Better | None
    of: Callable[[Trial], float | None]
    show: Callable[[float], str]


def show_duration(ns: float) -> str:
    """Three significant digits, with the sign for micro: "125 µs"."""
    return format_duration(ns).replace(" us", " µs")


def show_share(share: float) -> str:
    """A share as a percentage, with enough digits to tell "none" from "few"."""
    percent = share * 100
    if 0 < percent < 0.01:
        return "< 0.01 %"
    return f"{percent:.3g} %" if percent < 99.95 else f"{percent:.0f} %"


def show_cpu(us: float) -> str:
    """CPU time for a request."""
    return show_duration(us * 1000)


def show_number(value: float) -> str:
    """A plain number in three digits, thousands separated."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _requests(trial: Trial) -> int | None:
    """Answered requests, or deliveries where events are pushed; None if there were none to divide by."""
    return (trial.counts.completed or None) if trial.counts else None


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _cpu_s(use: ClientUse | ServerUse | HopUse) -> float | None:
    return None if use.cpu_user_s is None or use.cpu_system_s is None else use.cpu_user_s + use.cpu_system_s


def _cpu_us_per_request(use: ClientUse | ServerUse | HopUse, trial: Trial) -> float | None:
    cpu_s = _cpu_s(use)
    return None if cpu_s is None else _share(cpu_s * 1e6, _requests(trial))


def _switches_per_request(use: ClientUse | ServerUse, trial: Trial) -> float | None:
    if use.context_switches_voluntary is None or use.context_switches_involuntary is None:
        return None
    return _share(use.context_switches_voluntary + use.context_switches_involuntary, _requests(trial))


def tallied(name: str) -> Metric:
    """What a pattern counts under that name, for each exchange or delivery."""
    return Metric(
        f"tally_{name}_each",
        f"{name.replace('_', ' ')}, for each answer or delivery",
        None,
        lambda trial: _share(trial.tally.get(name, 0), _requests(trial)) if trial.tally is not None else None,
        _show_by_unit(name),
    )


def hop_cpu(number: int) -> Metric:
    """What the hop of that number, from 0 at the client, used for each answer or delivery."""
    return Metric(
        f"hop_{number + 1}_cpu_us_per_request",
        f"CPU of hop {number + 1} for a request",
        "lower",
        lambda trial: _cpu_us_per_request(trial.hops[number], trial) if number < len(trial.hops) else None,
        show_cpu,
    )


def hop_added_latency(number: int) -> Metric:
    """What the hop of that number adds to the latency of one request alone."""
    return Metric(
        f"hop_{number + 1}_added_latency_ns",
        f"latency that hop {number + 1} adds to a request alone",
        "lower",
        lambda trial: trial.hops[number].added_latency_ns if number < len(trial.hops) else None,
        show_duration,
    )


def _total(name: str) -> Metric:
    return Metric(
        f"tally_{name}",
        name.replace("_", " "),
        None,
        lambda trial: (trial.tally or {}).get(name) if trial.tally else None,
        _show_by_unit(name),
    )


def _show_by_unit(name: str) -> Callable[[float], str]:
    """How figures are shown whose names end in their unit."""
    if name.endswith("_per_s"):
        return format_rate
    shows = {"ns": show_duration, "bytes": format_size, "share": show_share}
    return shows.get(name.rpartition("_")[2], show_number)


def _in_rtts(metric: Metric) -> Metric:
    """A duration as a multiple of the link's round-trip time."""
    return Metric(
        f"{metric.name.removesuffix('_ns')}_rtts",
        f"{metric.title}, in round-trip times",
        metric.better,
        lambda trial: _share(metric.of(trial), _rtt_ns(trial)),
        lambda value: f"{value:.3g} RTT",
    )


def _rtt_ns(trial: Trial) -> float | None:
    words = dict(word.split("=", 1) for word in trial.scenario.link.split(",") if "=" in word)
    return float(parse_duration_ns(words["rtt"], "link")) if "rtt" in words else None


_TALLY = re.compile(r"tally_(\w+?)(_each)?")
_HOP = re.compile(r"hop_([1-8])_(cpu_us_per_request|added_latency_ns)")


PROBED = "probe_"
"""What the names of figures begin with that a probe gave, and no load."""


def _probed(name: str) -> Metric:
    figure = name.removeprefix(PROBED)
    title = re.sub("_ns$", "_time", figure).replace("_", " ")
    return Metric(name, title, None, lambda trial: (trial.figures or {}).get(figure), _show_by_unit(figure))


def metric_named(name: str) -> Metric | None:
    """The metric of that name: one of METRICS, one of them that is a duration as `..._rtts`, what a pattern counts
    (`tally_lost`, or `tally_lost_each` for each exchange), what a hop costs (`hop_1_cpu_us_per_request`), or a
    figure of a probe (`probe_start_ns`)."""
    if name in BY_NAME:
        return BY_NAME[name]
    if name.endswith("_rtts") and (metric := BY_NAME.get(f"{name.removesuffix('_rtts')}_ns")) is not None:
        return _in_rtts(metric)
    if name.startswith(PROBED):
        return _probed(name)
    if match := _TALLY.fullmatch(name):
        return tallied(match[1]) if match[2] else _total(match[1])
    if match := _HOP.fullmatch(name):
        return (hop_cpu if match[2].startswith("cpu") else hop_added_latency)(int(match[1]) - 1)
    return None


def worker_shares(trial: Trial) -> list[float]:
    """The requests of each worker as a multiple of the even share (1.0 each); empty for fewer than two workers.

    Who accepted connections and ran no request only hands them on to the workers, and is none of them.
    """
    requests = [worker.requests for worker in trial.server.workers if worker.requests or not worker.accepts]
    if len(requests) < 2 or not sum(requests):
        return []
    return [count * len(requests) / sum(requests) for count in requests]


def _durations(key: str, title: str, of: Callable[[Trial], Distribution | None]) -> list[Metric]:
    def metric(field: str, label: str) -> Metric:
        def value(trial: Trial) -> float | None:
            figure: float | None = getattr(of(trial), field, None)
            return figure

        return Metric(f"{key}_{field}_ns", f"{title}, {label}", "lower", value, show_duration)

    names = {"mean": "mean", "min": "min", "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}
    return [metric(field, label) for field, label in names.items()]


THROUGHPUT = Metric(
    "throughput_per_s", "answered requests per second", "higher", lambda trial: trial.throughput_per_s, format_rate
)
OFFERED = Metric("offered_per_s", "offered requests per second", None, lambda trial: trial.offered_per_s, format_rate)
ACHIEVED = Metric(
    "achieved_share",
    "answered share of the offered rate",
    "higher",
    lambda trial: _share(trial.throughput_per_s, trial.offered_per_s),
    show_share,
)
SERVER_CPU = Metric(
    "server_cpu_us_per_request",
    "CPU of the server for a request",
    "lower",
    lambda trial: _cpu_us_per_request(trial.server, trial),
    show_cpu,
)
SERVER_CPU_CORES = Metric(
    "server_cpu_cores",
    "CPU of the server, cores",
    "lower",
    lambda trial: _share(_cpu_s(trial.server), trial.scenario.duration_ns / 1e9),
    show_number,
)
CLIENT_CPU = Metric(
    "client_cpu_us_per_request",
    "CPU of the load generator for a request",
    "lower",
    lambda trial: _cpu_us_per_request(trial.client, trial),
    show_cpu,
)
FAILED = Metric(
    "failed_share",
    "requests that failed or were dropped",
    "lower",
    lambda trial: _share(trial.counts.failed, trial.counts.offered) if trial.counts else None,
    show_share,
)
REACH = Metric(
    "delivery_reach",
    "delivered share of the events due at all subscribers",
    "higher",
    lambda trial: trial.delivery.reach if trial.delivery else None,
    show_share,
)
DUPLICATES = Metric(
    "delivery_duplicates",
    "events delivered again",
    "lower",
    lambda trial: trial.delivery.duplicates if trial.delivery else None,
    show_number,
)
RSS = Metric(
    "server_rss_bytes", "memory of the server, RSS", "lower", lambda trial: trial.server.rss_bytes, format_size
)
PSS = Metric(
    "server_pss_bytes", "memory of the server, PSS", "lower", lambda trial: trial.server.pss_bytes, format_size
)

EVENTS = Metric(
    "events_per_s",
    "events published per second",
    None,
    lambda trial: _share(trial.delivery.published, trial.scenario.duration_ns / 1e9) if trial.delivery else None,
    format_rate,
)


def _for_an_event(trial: Trial, amount: float | None) -> float | None:
    return _share(amount, trial.delivery.published) if trial.delivery else None


def _for_a_client(trial: Trial, amount: float | None) -> float | None:
    return _share(amount, trial.delivery.subscribers) if trial.delivery else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _memory_taken(use: ServerUse) -> int | None:
    if use.pss_bytes is None or use.pss_bytes_before is None:
        return None
    return use.pss_bytes - use.pss_bytes_before


REQUESTS_AN_EVENT = Metric(
    "requests_per_event",
    "requests that the server ran, for each event",
    "lower",
    lambda trial: _for_an_event(trial, sum(worker.requests for worker in trial.server.workers) or None),
    show_number,
)
PACKETS_AN_EVENT = Metric(
    "packets_per_event",
    "packets on the link, for each event",
    "lower",
    lambda trial: _for_an_event(trial, trial.wire.packets) if trial.wire else None,
    show_number,
)
BYTES_AN_EVENT = Metric(
    "wire_bytes_per_event",
    "bytes on the link, for each event",
    "lower",
    lambda trial: _for_an_event(trial, trial.wire.bytes) if trial.wire else None,
    format_size,
)
CPU_A_CLIENT = Metric(
    "server_cpu_us_per_s_per_client",
    "CPU of the server in a second, for each client",
    "lower",
    lambda trial: _for_a_client(trial, _times(SERVER_CPU_CORES.of(trial), 1e6)),
    show_cpu,
)
MEMORY_A_CLIENT = Metric(
    "server_pss_bytes_per_client",
    "memory that the server took for each client, PSS",
    "lower",
    lambda trial: _for_a_client(trial, _memory_taken(trial.server)),
    format_size,
)

METRICS = (
    Metric(
        "errors",
        "requests that failed",
        "lower",
        lambda trial: trial.counts.failed if trial.counts else None,
        show_number,
    ),
    OFFERED,
    THROUGHPUT,
    ACHIEVED,
    FAILED,
    REACH,
    DUPLICATES,
    *_durations("latency", "latency", lambda trial: trial.latency_ns),
    *_durations("service", "time from sent to answered", lambda trial: trial.service_ns),
    *_durations("lateness", "lateness of sending", lambda trial: trial.lateness_ns),
    *_durations("confirm", "time until the broker has confirmed a publish", lambda trial: trial.confirm_ns),
    SERVER_CPU,
    SERVER_CPU_CORES,
    CLIENT_CPU,
    Metric(
        "client_cpu_share_max",
        "CPU of the busiest load process, share of a core",
        None,
        lambda trial: trial.client.cpu_share_max,
        show_share,
    ),
    RSS,
    PSS,
    EVENTS,
    REQUESTS_AN_EVENT,
    PACKETS_AN_EVENT,
    BYTES_AN_EVENT,
    CPU_A_CLIENT,
    MEMORY_A_CLIENT,
    Metric(
        "client_rss_bytes", "memory of the load generator, RSS", None, lambda trial: trial.client.rss_bytes, format_size
    ),
    Metric(
        "server_context_switches_per_request",
        "context switches of the server for a request",
        "lower",
        lambda trial: _switches_per_request(trial.server, trial),
        show_number,
    ),
    Metric(
        "worker_imbalance",
        "requests of the busiest worker, × the even share",
        "lower",
        lambda trial: max(worker_shares(trial), default=None),
        show_number,
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
P50 = BY_NAME["latency_p50_ns"]
P99 = BY_NAME["latency_p99_ns"]
MAX = BY_NAME["latency_max_ns"]
CONFIRM = BY_NAME["confirm_p50_ns"]
