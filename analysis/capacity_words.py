"""What a capacity file says, in words: for the terminal and for the page."""

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.capacity import UNEVEN
from analysis.metrics import show_duration
from bench.quantities import format_rate

_STOPPED = {
    "objective": "the next higher rate misses: {why}",
    "max-rate": "no higher rate was asked for: raise --max-rate",
    "generator-saturated": "the load generator, not the service, was the limit: {why}; try more --load-processes",
    "disturbed": "other work on this machine disturbed every higher rate: {why}; stop it, and try again",
    "died": "a higher rate broke the service: {why}",
    "unmet": "no rate meets the objectives; even at {lowest}: {why}",
    "unconfirmed": "short trials met the objectives, long ones did not: {why}",
}


def headline(search: Mapping[str, Any]) -> str:
    """The answer in a sentence."""
    rate, missed = search["rate_per_s"], search["missed_per_s"]
    if rate is None:
        return "No rate meets the objectives" if search["reason"] == "unmet" else "No capacity could be confirmed"
    if missed is None:
        return f"At least {format_rate(rate)}"
    return f"{format_rate(rate)}, and not {format_rate(missed)}"


def rate_words(search: Mapping[str, Any]) -> str:
    """ "386/s (met at 386/s, missed at 390.2/s)"."""
    rate, missed = search["rate_per_s"], search["missed_per_s"]
    if rate is None:
        met = search["met_per_s"]
        return "none" if met is None else f"none confirmed; short trials were met up to {format_rate(met)}"
    words = f"at least {format_rate(rate)}"
    if missed is not None:
        words = f"{format_rate(rate)} (met at {rate:,.6g}/s, missed at {missed:,.6g}/s)"
    if (share := search["busiest_share"]) is not None and share > UNEVEN:
        words += f", where the busiest worker got {share:.1f} times its even share"
    return words


def answer_line(search: Mapping[str, Any]) -> str:
    """An answer as soon as it is known: "http1 single echo, p99<50ms: 386/s (met at …)"."""
    return f"{search['subject']}, {' and '.join(search['objectives'])}: {rate_words(search)}"


def stopped(search: Mapping[str, Any]) -> str:
    """Why a search ended."""
    lowest = format_rate(search["missed_per_s"] or 0)
    return _STOPPED[search["reason"]].format(why=search["why"], lowest=lowest)


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and sentences: everything beside the answer itself."""
    answer = record["searches"][0]
    for search in record["searches"][1:]:
        name = search["subject"] if search["subject"] != answer["subject"] else " and ".join(search["objectives"])
        yield (name, rate_words(search))
    if record["knee"]:
        yield ("knee", knee_words(record["knee"]))
    if record["scaling"] and record["scaling"]["fit"]:
        yield ("scaling", scaling_words(record["scaling"]["fit"]))
    if record["queue"]:
        least = record["curve"][0]["rate_per_s"]
        yield ("queue", queue_words(record["queue"], record["settings"]["arrivals"], least))
    if record["cpu"]:
        yield ("server CPU", cpu_words(record["cpu"]))


def knee_words(knee: Mapping[str, Any]) -> str:
    """Where latency begins to rise faster than throughput."""
    above, below = knee["above_per_s"], knee["below_per_s"]
    between = f" (measured rates beside it: {', '.join(format_rate(r) for r in (above, below) if r is not None)})"
    return f"throughput over latency is highest at {format_rate(knee['rate_per_s'])}{between}"


def scaling_words(fit: Mapping[str, Any]) -> str:
    """The parameters of the Universal Scalability Law, and where its peak is."""
    contention, coherency = fit["contention"], fit["coherency"]
    words = (
        f"one at a time {format_rate(fit['rate_of_one_per_s']['value'])}, contention {_value(contention)}, "
        f"coherency {_value(coherency)}, R² {fit['r_squared']:.3f}: "
    )
    if not fit["is_good"]:
        return f"{words}a poor fit, so no peak is derived from it and its parameters say little"
    if fit["peak"] is None:
        return f"{words}no peak in the measured range ({fit['least']:.0f} to {fit['most']:.0f} in flight)"
    return f"{words}highest with {fit['peak']['value']:.0f} ± {fit['peak']['error']:.0f} in flight"


def _value(parameter: Mapping[str, float]) -> str:
    return f"{parameter['value']:.2g} ± {parameter['error']:.1g}"


def queue_words(queue: Mapping[str, Any], arrivals: str, least_per_s: float) -> str:
    """Where the service leaves its queue; `least_per_s` is the lowest rate measured."""
    name = f"like {queue['model']} with {show_duration(queue['service_s'] * 1e9)} of service"
    left = queue["departure"]
    if left is None:
        return f"{name} at every rate measured"
    measured, model = (show_duration(left[key] * 1e9) for key in ("measured_s", "model_s"))
    if left["measured_s"] > left["model_s"]:
        why = "requests wait for something else than a free server: uneven shares, locks, pauses"
    elif arrivals == "constant":
        why = "evenly spaced requests and even service times wait less"
    elif queue["variability"] == 1:
        why = "service times vary less than that model's"
    else:
        why = "so near its limit a queue takes longer than a trial to grow to its mean"
    if left["rate_per_s"] <= least_per_s:
        return f"un{name} at every rate measured; at {format_rate(least_per_s)} {measured}, not {model}: {why}"
    return f"{name} below {format_rate(left['rate_per_s'])}; there {measured}, not {model} on average: {why}"


def cpu_words(cpu: Mapping[str, Any]) -> str:
    """What the server used, and what follows from that for more of it."""
    used = f"{cpu['cores']:.2f} of {cpu['of_cores']} core{'s' if cpu['of_cores'] != 1 else ''}"
    if cpu["busiest_worker"] is not None:
        used += f", the busiest worker {cpu['busiest_worker']:.0%} of one"
    if cpu["is_bound"]:
        return f"{used}: bound by CPU, so more capacity takes more cores or machines"
    return f"{used}: not bound by CPU, so more workers may carry more on the same machine"


def plan_words(wanted: Mapping[str, float]) -> str:
    """What the plan is made for."""
    return (
        f"plan for {format_rate(wanted['target_per_s'])} with {wanted['growth']:.0%} growth and "
        f"{wanted['headroom']:.0%} of each unit kept free; units share the load evenly, and nothing behind them"
    )
