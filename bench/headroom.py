"""A load that leaves the generator headroom, so that servers are compared and not the engine that asks them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.doubts import MAX_CLIENT_CPU, DoubtKind
from bench.scenario import Scenario
from bench.schedule import Closed, Concurrency, Open, Stage

LEAST = 0.10
"""So much less than what raises a doubt may a load process use of its core: the next trial is not quite like this."""

_STEPS = 8
"""From closed:64, one at a time is reached after six."""


def with_headroom(scenario: Scenario, measure: Callable[[Scenario], dict[str, Any]]) -> Scenario:
    """The scenario with the heaviest load that leaves headroom, of its own load and lighter ones: half in flight, and
    where that is one, open loads at half of what was carried. `measure` gives a trial that has figures, as
    result files hold it."""
    for _ in range(_STEPS):
        trial = measure(scenario)
        if _has_headroom(trial):
            break
        scenario = _lighter(scenario, trial["throughput_per_s"])
    return scenario


def _has_headroom(trial: dict[str, Any]) -> bool:
    share = trial["client"]["cpu_share_max"] if trial["client"] else None
    saturated = any(doubt["kind"] == DoubtKind.GENERATOR_SATURATED for doubt in trial["doubts"])
    return not saturated and (share is None or share <= MAX_CLIENT_CPU - LEAST)


def _lighter(scenario: Scenario, carried_per_s: float) -> Scenario:
    if isinstance(scenario.load, Closed) and (total := scenario.load.concurrency.total) > 1:
        return replace(scenario, load=Closed(Concurrency(total // 2)))
    rate_per_s = max(1.0, float(f"{carried_per_s / 2:.2g}"))
    return replace(scenario, load=Open((Stage(rate_per_s, rate_per_s, None),), "constant"))
