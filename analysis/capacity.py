"""What follows from the trials of a capacity search (see `results/README.md`): the curve and its knee, how throughput
grows with concurrency and workers, where the service leaves the queue M/M/c, what a target rate needs, and what there
is to doubt."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from analysis.histograms import decode
from analysis.queueing import ALONE, departure, queue_like
from analysis.scalability import fit
from analysis.sizing import size
from bench.quantities import format_rate

CPU_BOUND = 0.8
"""A service is bound by CPU if it used so much of what it had, or its busiest worker so much of a core."""

WIDE = 0.06
"""An interval that much wider than its lower end is doubted."""

UNEVEN = 1.2
"""A multiple of the even share of the requests that says that a worker had more to do than others."""

SHARES_REQUESTS = "dispatch"
"""The execution model whose workers share requests; those of others share connections."""

Entry = Mapping[str, Any]


def conclusions(record: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that follows, as capacity files hold it. What cannot be told is null."""
    if not record["searches"]:
        return {}
    answer = record["searches"][0]
    entries = [entry for entry in record["trials"] if entry["subject"] == answer["subject"]]
    points = curve(entries, answer["objectives"])
    closed = [entry["trial"] for entry in entries if entry["stage"] == "concurrency" and _has_figures(entry)]
    return {
        "curve": points,
        "knee": knee(points),
        "queue": _queue(points, entries, record["settings"]["arrivals"]) if answer["rate_per_s"] is not None else None,
        "scaling": _scaling(closed),
        "workers": workers(record["searches"]),
        "cpu": cpu(entries, answer, record["environment"]),
        "plan": plan(record),
        "doubts": list(doubts(record, entries, answer)),
    }


def _has_figures(entry: Entry) -> bool:
    return entry["trial"]["error"] is None and entry["trial"]["latency_ns"] is not None


def curve(entries: Sequence[Entry], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """A point for each rate, rates ascending: the medians of its trials, the disturbed left out, and how many of
    those judged by the objectives met them."""
    by_rate: dict[float, list[Entry]] = {}
    for entry in entries:
        if entry["rate_per_s"] is not None and entry["outcome"] != "disturbed" and _has_figures(entry):
            by_rate.setdefault(entry["rate_per_s"], []).append(entry)
    return [_point(rate, by_rate[rate], objectives) for rate in sorted(by_rate)]


def _point(rate_per_s: float, entries: Sequence[Entry], objectives: Sequence[str]) -> dict[str, Any]:
    trials = [entry["trial"] for entry in entries]
    outcomes = [entry["outcome"] for entry in entries if entry["objectives"] == objectives]
    latencies = {}
    for name in ("mean", "p50", "p99", "p999"):
        known = [trial["latency_ns"][name] for trial in trials if trial["latency_ns"][name] is not None]
        latencies[f"{name}_ns"] = median(known) if known else None
    failed = [1 - trial["counts"]["completed"] / trial["counts"]["offered"] for trial in trials]
    return {
        "rate_per_s": rate_per_s,
        "throughput_per_s": median(trial["throughput_per_s"] for trial in trials),
        **latencies,
        "failed_share": median(failed),
        "judged": len(outcomes),
        "met": outcomes.count("met"),
    }


def knee(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The rate where throughput over mean latency is highest (Kleinrock's power, 1979), with the measured rates on both
    sides: it lies between those. None for fewer than three points."""
    if len(points) < 3:
        return None
    powers = [point["throughput_per_s"] / point["mean_ns"] for point in points]
    at = powers.index(max(powers))
    return {
        "rate_per_s": points[at]["rate_per_s"],
        "above_per_s": points[at - 1]["rate_per_s"] if at else None,
        "below_per_s": points[at + 1]["rate_per_s"] if at + 1 < len(points) else None,
    }


def _queue(points: Sequence[Mapping[str, Any]], entries: Sequence[Entry], arrivals: str) -> dict[str, Any] | None:
    """The queue beside the points. Service times are as they were measured where arrivals are as in its formula; else
    it is M/M/c, which everybody knows."""
    if len(points) < 3:
        return None
    measured = [(point["rate_per_s"], point["mean_ns"] / 1e9) for point in points]
    unloaded_s = min(latency for _, latency in measured)
    limit_per_s = max(point["throughput_per_s"] for point in points)
    varies = variability(entries, ALONE * limit_per_s) if arrivals == "poisson" else None
    queue = queue_like(unloaded_s, limit_per_s, 1.0 if varies is None else varies)
    left = departure(queue, measured)
    named = {"model": queue.name, "formula": queue.formula}
    return {**asdict(queue), **named, "departure": None if left is None else asdict(left)}


def variability(entries: Sequence[Entry], most_per_s: float) -> float | None:
    """The variance of the latencies over their squared mean at rates up to that, the median of the trials; None of
    none."""
    found = []
    for entry in entries:
        if entry["rate_per_s"] is not None and entry["rate_per_s"] <= most_per_s and _has_figures(entry):
            latency = decode(entry["trial"]["latency_ns"]["hdr"], "latency_ns")
            mean = np.average(latency.values_ns, weights=latency.counts)
            found.append(float(np.average((latency.values_ns / mean - 1) ** 2, weights=latency.counts)))
    return median(found) if found else None


def _scaling(closed: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    points = [(int(trial["scenario"]["load"].partition(":")[2]), trial["throughput_per_s"]) for trial in closed]
    if not points:
        return None
    found = fit([n for n, _ in points], [throughput for _, throughput in points])
    measured = [{"concurrency": n, "throughput_per_s": throughput} for n, throughput in points]
    return {"points": measured, "fit": None if found is None else asdict(found)}


def workers(searches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each execution model and number of workers was found to carry; nothing where there was but one."""
    first = searches[0]["objectives"]
    found = [search for search in searches if search["objectives"] == first and search["workers"] is not None]
    keys = ("subject", "execution", "workers", "rate_per_s", "missed_per_s", "busiest_share", "reason")
    return [{key: search[key] for key in keys} for search in found] if len(found) > 1 else []


def cpu(entries: Sequence[Entry], answer: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the server used of its CPUs at its capacity; None where that is not known."""
    cpus = len(environment["placement"]["server_cpus"]) or environment["cpu"]["usable"]
    used, busiest = [], []
    for entry in entries:
        server = entry["trial"]["server"]
        if entry["rate_per_s"] == answer["rate_per_s"] and server and server["cpu_user_s"] is not None:
            duration_s = entry["trial"]["scenario"]["duration_ns"] / 1e9
            used.append((server["cpu_user_s"] + server["cpu_system_s"]) / duration_s)
            if workers := [worker["cpu_s"] or 0.0 for worker in server["workers"]]:
                busiest.append(max(workers) / duration_s)
    if not used or not isinstance(cpus, int):
        return None
    cores, most = median(used), median(busiest) if busiest else None
    return {
        "cores": cores,
        "of_cores": cpus,
        "busiest_worker": most,
        "is_bound": cores >= CPU_BOUND * cpus or (most or 0.0) >= CPU_BOUND,
    }


def plan(record: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """For each configuration that was measured what the target rate needs of it; None where no target was given."""
    wanted = record["settings"]["plan"]
    if wanted is None:
        return None
    first = record["searches"][0]["objectives"]
    return [
        {
            "subject": search["subject"],
            **asdict(
                size(
                    wanted["target_per_s"],
                    wanted["headroom"],
                    wanted["growth"],
                    search["rate_per_s"],
                    search["missed_per_s"],
                )
            ),
        }
        for search in record["searches"]
        if search["objectives"] == first and search["rate_per_s"] is not None
    ]


def spread(entries: Sequence[Entry], workers: int | None, execution: str | None) -> float | None:
    """The requests of the busiest worker as a multiple of the even share, in the worst of the trials that confirm. None
    where that is not known, or the model shares out requests: whoever is free gets the next one, and may get more."""
    if workers is None or execution in (None, SHARES_REQUESTS):
        return None
    shares = []
    for entry in entries:
        server = entry["trial"]["server"]
        if entry["stage"] == "confirm" and server is not None:
            requests = [worker["requests"] for worker in server["workers"]]
            shares.append(max(requests, default=0) * workers / max(1, sum(requests)))
    return max(shares, default=None)


def doubts(record: Mapping[str, Any], entries: Sequence[Entry], answer: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what the answer may not be trusted for."""
    if record["status"] == "interrupted":
        yield "The search was interrupted: what is here is what was measured until then."
    if record["settings"]["arrivals"] == "constant":
        yield (
            "Requests were evenly spaced. Those of independent users come in clusters and wait longer: ask with "
            "--arrivals poisson for the rate that holds then, which is lower."
        )
    rate = answer["rate_per_s"]
    confirms = [
        entry
        for entry in entries
        if entry["stage"] == "confirm" and entry["objectives"] == answer["objectives"] and entry["rate_per_s"] == rate
    ]
    kinds = Counter(doubt["kind"] for entry in confirms for doubt in entry["trial"]["doubts"])
    if kinds["noisy-host"]:
        yield (
            f"Other work took CPU time in {kinds['noisy-host']} of {len(confirms)} trials that confirm: on a quiet "
            "machine the capacity may be higher."
        )
    if answer["too_few_samples"]:
        yield (
            "The trials that confirm have too few samples, even together, for "
            f"{' and '.join(answer['too_few_samples'])}: raise --confirm."
        )
    met = sum(entry["outcome"] == "met" for entry in confirms)
    if met < len(confirms):
        of = f"{len(confirms)} trials at {format_rate(rate)}"
        yield f"Only {met} of {of} met the objectives: the service is not steady."
    if rate is not None and answer["missed_per_s"] is not None:
        gap = answer["missed_per_s"] / rate - 1
        if gap > WIDE:
            yield (
                f"Between {format_rate(rate)} and {format_rate(answer['missed_per_s'])} nothing is known, or trials "
                "differed: the capacity lies somewhere there."
            )
    if (share := answer["busiest_share"]) is not None and share > UNEVEN:
        yield (
            f"The busiest worker got up to {share:.1f} times its even share of the requests: connections were spread "
            "unevenly, and each trial draws a spread of its own. A model that shares out requests "
            f"({SHARES_REQUESTS}) does not."
        )
    placement = record["environment"]["placement"]
    if not placement["load_cpus"]:
        yield "The load had no CPU of its own: it may have taken time from the service."
    if disturbed := sum(entry["outcome"] == "disturbed" for entry in entries):
        yield f"{disturbed} trials did not count, for other work kept the load generator from its CPU."
    if answer["reason"] == "generator-saturated":
        yield "The load generator was the limit, not the service: give it more --load-processes, or another machine."
