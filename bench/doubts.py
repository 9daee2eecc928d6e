"""Doubts: typed reasons not to trust a trial. A fatal one means that no verdict may rest on it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bench.load.histogram import SAMPLES_BEYOND
from bench.quantities import format_duration
from bench.scenario import Scenario
from bench.schedule import Closed, Open

MAX_CLIENT_CPU = 0.85
MIN_ACHIEVED = 0.99
MAX_LATENESS_NS = 1_000_000
MAX_LITTLE_ERROR = 0.10
MAX_DRIFT = 0.10
MAX_STEAL = 0.02
MAX_ERRORS = 0.01
MAX_LINK_LATENESS_NS = 1_000_000
MAX_CLOCK_ERROR = 0.10
"""Of the median of a delay from one machine to another."""
MAX_LINK_LATENESS = 0.05
"""Of the delay of one way, where that is more."""


class DoubtKind(StrEnum):
    """Why a trial may not be what it seems."""

    GENERATOR_SATURATED = "generator-saturated"
    NO_PORTS = "no-ports"
    PACING_LATE = "pacing-late"
    LITTLE_LAW_VIOLATED = "little-law-violated"
    NOT_STEADY = "not-steady"
    TOO_FEW_SAMPLES = "too-few-samples"
    NOISY_HOST = "noisy-host"
    ERRORS = "errors"
    SERVER_RESTARTED = "server-restarted"
    LINK_LATE = "link-late"
    WORKER_LOST = "worker-lost"
    WORKER_LATE = "worker-late"
    CLOCKS_APART = "clocks-apart"
    STOPPED_EARLY = "stopped-early"
    UNMATCHED_STACKS = "unmatched-stacks"


@dataclass(frozen=True)
class Doubt:
    """One reason, with what was seen in plain words."""

    kind: DoubtKind
    fatal: bool
    detail: str

    def record(self) -> dict[str, Any]:
        """As result files hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Host:
    """The machine during the measured window: the share of its CPU time that others took, and runnable threads."""

    steal_share: float
    runnable_per_cpu: float | None


def find_doubts(scenario: Scenario, trial: dict[str, Any], host: Host) -> list[Doubt]:
    """Every doubt about a trial, given as result files hold it."""
    return [
        *_generator(scenario, trial),
        *_ports(trial),
        *_backlog(scenario, trial),
        *_pacing(trial),
        *_little(scenario, trial),
        *_steadiness(scenario, trial),
        *_samples(trial),
        *_host(host),
        *_errors(scenario, trial),
        *_deliveries(trial),
        *_deaths(trial),
        *_link(scenario, trial),
        *_workers(trial),
        *_clocks(trial),
        *_stopped(trial),
    ]


def _generator(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    share = trial["client"]["cpu_share_max"]
    if share is not None and share > MAX_CLIENT_CPU:
        yield Doubt(
            DoubtKind.GENERATOR_SATURATED,
            True,
            f"a load process used {share:.0%} of its core (more than {MAX_CLIENT_CPU:.0%}): "
            "the figures may be the generator's own; use more load processes or a lighter load",
        )


def _ports(trial: dict[str, Any]) -> Iterator[Doubt]:
    count = trial["counts"]["errors"].get("no-port")
    if count:
        yield Doubt(
            DoubtKind.NO_PORTS,
            True,
            f"{count:,} times no connection could be made, for this machine had no port or file descriptor left; "
            "a connection that was closed keeps its port for a minute or so",
        )


def _backlog(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    if scenario.restart:
        return  # nobody answers meanwhile
    offered, achieved = trial["offered_per_s"], trial["throughput_per_s"]
    if offered and achieved is not None and achieved / offered < MIN_ACHIEVED - _by_chance(trial):
        yield Doubt(
            DoubtKind.GENERATOR_SATURATED,
            True,
            f"{achieved / offered:.1%} of the offered rate was achieved (less than {MIN_ACHIEVED:.0%}): "
            "latency shows the growing backlog, not the service",
        )


def _by_chance(trial: dict[str, Any]) -> float:
    """The share of what was offered by which what was achieved may differ by chance alone: as many are under way when
    the window opens as when it closes, but for three standard deviations of a Poisson process. A backlog is more."""
    if trial["latency_ns"] is None:
        return 0.0
    delivery = trial.get("delivery")
    grain = delivery["subscribers"] if delivery else 1  # who are all delivered the same events
    under_way = trial["offered_per_s"] * trial["latency_ns"]["mean"] / 1e9 / grain
    return float(3 * math.sqrt(2 * under_way) * grain / max(1, trial["counts"]["offered"]))


def _pacing(trial: dict[str, Any]) -> Iterator[Doubt]:
    lateness, service = trial["lateness_ns"], trial["service_ns"]
    if lateness is None or service is None:
        return
    allowed = max(MAX_LATENESS_NS, service["p50"])
    if lateness["p99"] > allowed:
        yield Doubt(
            DoubtKind.PACING_LATE,
            False,
            f"1 % of the requests were taken up {format_duration(lateness['p99'])} or more after they were due "
            f"(allowed {format_duration(allowed)}); latency counts from when they were due, so it holds this too",
        )


def _little(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    latency, throughput = trial["latency_ns"], trial["throughput_per_s"]
    if not isinstance(scenario.load, Closed) or latency is None or not throughput or trial.get("delivery"):
        return  # what is in flight are publishes, and latency is that of deliveries
    if trial["counts"]["errors"]:
        return
    expected_ns = scenario.concurrency.total / throughput * 1e9
    error = latency["mean"] / expected_ns - 1
    # Of each request in flight, one that began or ended outside of the window may be counted or not: one of them all,
    # or as much of the window as the longest took.
    grain = scenario.concurrency.total / max(1, trial["counts"]["completed"])
    grain = max(grain, latency["max"] / scenario.duration_ns)
    if abs(error) > MAX_LITTLE_ERROR + grain:
        yield Doubt(
            DoubtKind.LITTLE_LAW_VIOLATED,
            True,
            f"the mean latency is {format_duration(latency['mean'])}, but {scenario.concurrency.total} requests in "
            f"flight at this throughput make {format_duration(expected_ns)} (Little's law): something was not measured",
        )


def _steadiness(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    if trial.get("measured_ns", scenario.duration_ns) < scenario.duration_ns:
        return  # it ended before its time
    if scenario.restart or (isinstance(scenario.load, Open) and scenario.load.duration_ns is not None):
        return  # a load whose rate changes is not meant to be steady, nor a server that is restarted
    completed = [interval["completed"] for interval in trial["intervals"]]
    half = len(completed) // 2
    first, second = sum(completed[:half]), sum(completed[len(completed) - half :])
    delivery = trial.get("delivery")
    if delivery:
        grain = delivery["subscribers"]  # an event more or less in one half is no drift
    elif isinstance(scenario.load, Closed):
        # Nor is it that what was in flight when measuring began does not count, and that all connections go round once
        # more in one half than in the other: with few rounds in a half, that is much.
        grain = 2 * scenario.concurrency.total
    else:
        grain = 0
    if half and first + second and (abs(first - second) - grain) / (first + second) * 2 > MAX_DRIFT:
        yield Doubt(
            DoubtKind.NOT_STEADY,
            False,
            f"the second half of the run completed {second / first - 1:+.0%} against the first"
            if first
            else "nothing completed in the first half of the run",
        )


def _samples(trial: dict[str, Any]) -> Iterator[Doubt]:
    count = trial["latency_ns"]["count"] if trial["latency_ns"] else 0
    if not count and not trial["counts"]["errors"]:
        yield Doubt(DoubtKind.TOO_FEW_SAMPLES, True, "nothing was answered while it was measured")
    elif count * 0.01 < SAMPLES_BEYOND:
        yield Doubt(DoubtKind.TOO_FEW_SAMPLES, False, f"{count} samples are too few for p99")


def _host(host: Host) -> Iterator[Doubt]:
    if host.steal_share > MAX_STEAL:
        yield Doubt(DoubtKind.NOISY_HOST, False, f"the hypervisor took {host.steal_share:.1%} of the CPU time")
    if host.runnable_per_cpu is not None and host.runnable_per_cpu > 2:
        yield Doubt(
            DoubtKind.NOISY_HOST,
            False,
            f"{host.runnable_per_cpu:.1f} threads for each CPU were running or waiting to run",
        )


def _errors(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    counts = trial["counts"]
    failed = sum(counts["errors"].values())
    if failed or counts["dropped"]:
        share = (failed + counts["dropped"]) / max(1, counts["offered"])
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts["errors"].items()))
        dropped = f"{counts['dropped']} dropped" if counts["dropped"] else ""
        yield Doubt(
            DoubtKind.ERRORS,
            share > MAX_ERRORS and not scenario.restart,  # which fails some, and they are what is looked at
            f"{share:.2%} of the requests were not answered rightly: {', '.join(filter(None, [kinds, dropped]))}",
        )


def _deliveries(trial: dict[str, Any]) -> Iterator[Doubt]:
    delivery = trial.get("delivery")
    if delivery is None:
        return
    missing = delivery["expected"] - delivery["delivered"]
    if missing > 0:
        share = missing / delivery["expected"]
        yield Doubt(DoubtKind.ERRORS, share > MAX_ERRORS, f"{share:.2%} of the deliveries are missing")
    if delivery["duplicates"]:
        yield Doubt(DoubtKind.ERRORS, False, f"{delivery['duplicates']} events were delivered again")


def _deaths(trial: dict[str, Any]) -> Iterator[Doubt]:
    deaths = trial["server"]["deaths"] if trial["server"] else None
    if deaths:
        reasons = "; ".join(f"worker {death['worker']} {death['reason']}" for death in deaths)
        yield Doubt(DoubtKind.SERVER_RESTARTED, True, reasons)


def _link(scenario: Scenario, trial: dict[str, Any]) -> Iterator[Doubt]:
    wire = trial["wire"]
    if wire is None or scenario.link is None:
        return
    missed = wire["router_refused"] + sum(counted["link_packets_dropped"] for counted in wire["nodes"].values())
    if missed:
        yield Doubt(
            DoubtKind.LINK_LATE,
            True,
            f"{missed:,} packets were lost that the link did not lose: its router was too slow; use a lighter load",
        )
    late, delay_ns = wire["router_late_ns"], max(scenario.link.up.delay_ns, scenario.link.down.delay_ns)
    allowed = max(MAX_LINK_LATENESS_NS, delay_ns * MAX_LINK_LATENESS)
    if late is not None and late["p99"] > allowed:
        yield Doubt(
            DoubtKind.LINK_LATE,
            False,
            f"1 % of the packets left the link {format_duration(late['p99'])} or more after they were due "
            f"(allowed {format_duration(allowed)}); latency holds this too",
        )


def _workers(trial: dict[str, Any]) -> Iterator[Doubt]:
    workers = trial.get("workers")
    if workers is None:
        return
    each, expected = workers["each"], workers["expected"]
    if len(each) < expected:
        yield Doubt(
            DoubtKind.WORKER_LOST,
            False,
            f"{expected - len(each)} of {expected} workers did not come; others did theirs",
        )
    for worker in each:
        if worker["why"] is not None:
            yield Doubt(
                DoubtKind.WORKER_LOST,
                True,
                f"a worker on {worker['host']} {worker['why']}: {worker['dropped']:,} of its requests are not known to "
                "have been sent, and are counted as dropped",
            )
        elif worker["margin_ns"] is not None and worker["margin_ns"] < 0:
            late = format_duration(-worker["margin_ns"])
            yield Doubt(
                DoubtKind.WORKER_LATE, True, f"a worker on {worker['host']} was told to begin {late} after the start"
            )


def _clocks(trial: dict[str, Any]) -> Iterator[Doubt]:
    workers, latency = trial.get("workers"), trial["latency_ns"]
    if workers is None or trial.get("delivery") is None or latency is None:
        return  # a latency that begins and ends on one machine needs one clock
    publisher, *others = (worker["clock_error_ns"] for worker in workers["each"])
    error_ns = publisher + max(others) if others else 0
    if error_ns > MAX_CLOCK_ERROR * latency["p50"]:
        yield Doubt(
            DoubtKind.CLOCKS_APART,
            False,
            f"the clocks of the publisher and the subscribers are known to {format_duration(error_ns)} only, which is "
            f"more than {MAX_CLOCK_ERROR:.0%} of the median delay between them",
        )


def _stopped(trial: dict[str, Any]) -> Iterator[Doubt]:
    if trial.get("stopped"):
        yield Doubt(DoubtKind.STOPPED_EARLY, True, f"the run ended before its time: {trial['stopped']}")
