"""The search, told what comes of simulated services whose limit is known."""

import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.capacity import settings_of
from bench.judging import Judge
from bench.objectives import Outcome, parse_objectives
from bench.ratesearch import LOWEST_PER_S, MAX_CONFIRMATIONS, RESOLUTION, Found, RateSearch, Reason, Stage, Step
from tests.capacity import simulated

Outcomes = Callable[[Step], Outcome]
MOST_TRIALS = 90


def search(
    outcome: Outcomes, start: float = 20.0, most: float = 1e6, carries: float = math.inf
) -> tuple[Found, list[Step]]:
    """Runs a search to its end, on a service that answers no more than it `carries`; gives the steps too."""
    searching, steps = RateSearch(start, most), []
    while isinstance(step := searching.next(), Step):
        steps.append(step)
        assert len(steps) <= MOST_TRIALS
        searching.tell(step, outcome(step), min(step.rate_per_s, carries))
    return step, steps


def limited(limit: float) -> Outcomes:
    return lambda step: Outcome.MET if step.rate_per_s <= limit else Outcome.MISSED


# Ideal services


@given(limit=st.floats(2.0, 900_000.0), start=st.floats(1.0, 5000.0))
def test_a_sharp_limit_is_found_to_the_resolution(limit: float, start: float) -> None:
    found, steps = search(limited(limit), start)
    assert found.reason is Reason.OBJECTIVE
    assert found.rate_per_s is not None
    assert found.missed_per_s is not None
    assert found.rate_per_s <= limit < found.missed_per_s <= found.rate_per_s * (1 + 2 * RESOLUTION)
    assert sum(step.stage is Stage.CONFIRM for step in steps) == 4


@given(limit=st.floats(20.0, 10_000.0), outcomes=st.lists(st.sampled_from(Outcome), max_size=MOST_TRIALS))
def test_any_outcomes_end_in_so_many_trials(limit: float, outcomes: list[Outcome]) -> None:
    said = iter(outcomes)
    found, steps = search(lambda step: next(said, limited(limit)(step)))
    confirmed = {step.rate_per_s for step in steps if step.stage is Stage.CONFIRM}
    assert len(confirmed) <= MAX_CONFIRMATIONS + 1
    if found.rate_per_s is not None:
        assert found.rate_per_s in confirmed
        assert found.missed_per_s is None or found.rate_per_s < found.missed_per_s


@given(limit=st.floats(100.0, 5000.0))
def test_what_an_overload_answers_saves_most_steps(limit: float) -> None:
    found, steps = search(limited(limit), carries=limit)
    assert found.rate_per_s is not None
    assert found.missed_per_s is not None
    assert 0.97 * limit <= found.rate_per_s <= limit < found.missed_per_s <= 1.04 * limit
    upward = math.ceil(math.log2(limit / 20)) + 1
    assert sum(step.stage is Stage.SEARCH for step in steps) <= upward + 7


@given(limit=st.floats(100.0, 5000.0), shown=st.floats(0.1, 3.0))
def test_an_overload_that_misleads_costs_steps_and_no_accuracy(limit: float, shown: float) -> None:
    found, _ = search(limited(limit), carries=limit * shown)
    assert found.rate_per_s is not None
    assert limit / (1 + 2 * RESOLUTION) <= found.rate_per_s <= limit


def test_a_rate_that_long_trials_missed_is_missed_whatever_short_ones_of_higher_rates_came_to() -> None:
    searching = RateSearch(20.0, 1e6)
    told = {Stage.SEARCH: {395.0: Outcome.MET, 400.0: Outcome.MET, 415.0: Outcome.MISSED, 385.0: Outcome.MET}}
    told[Stage.CONFIRM] = {395.0: Outcome.MISSED, 415.0: Outcome.MISSED, 385.0: Outcome.MET}
    for stage, outcomes in told.items():
        for rate, outcome in outcomes.items():
            for _ in range(3):
                searching.tell(Step(stage, rate), outcome, rate)
    assert searching.next() == Found(385.0, 395.0, Reason.OBJECTIVE)


def test_a_service_that_meets_the_objectives_at_no_rate() -> None:
    found, steps = search(lambda step: Outcome.MISSED)
    assert found == Found(None, LOWEST_PER_S, Reason.UNMET)
    assert len(steps) == 8


def test_the_highest_rate_that_is_allowed() -> None:
    found, _ = search(limited(5000.0), most=300.0)
    assert found == Found(300.0, None, Reason.MAX_RATE)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.SATURATED, Reason.GENERATOR),
        (Outcome.DIED, Reason.DIED),
    ],
)
def test_why_nothing_higher_was_found(outcome: Outcome, reason: Reason) -> None:
    found, _ = search(lambda step: Outcome.MET if step.rate_per_s <= 500 else outcome)
    assert found.reason is reason
    assert found.rate_per_s == pytest.approx(500, rel=RESOLUTION)


def test_a_disturbed_trial_does_not_count() -> None:
    outcomes = iter([Outcome.DISTURBED] * 3)
    found, _ = search(lambda step: next(outcomes, limited(300.0)(step)))
    assert found.rate_per_s == pytest.approx(300, rel=RESOLUTION)


def test_disturbed_trials_alone_do_not_bound_a_search_but_forbid_its_confirmation() -> None:
    found, _ = search(lambda step: Outcome.DISTURBED if step.rate_per_s < 200 else limited(300.0)(step))
    assert found.rate_per_s == pytest.approx(300, rel=RESOLUTION)
    found, _ = search(lambda step: limited(300.0)(step) if step.stage is Stage.SEARCH else Outcome.DISTURBED)
    assert (found.rate_per_s, found.reason) == (None, Reason.DISTURBED)


def test_a_disturbance_that_passes_does_not_bound_the_search() -> None:
    outcomes = iter([Outcome.MET] * 4 + [Outcome.MISSED] * 2)  # at 20, 40, 80, 160 and twice at 320 a second
    found, steps = search(lambda step: next(outcomes, limited(400.0)(step)))
    assert found.rate_per_s == pytest.approx(400, rel=RESOLUTION)
    assert Step(Stage.CONFIRM, 320.0) in steps


def test_short_trials_that_are_too_kind_are_corrected_by_long_ones() -> None:
    found, _ = search(lambda step: limited(400.0 if step.stage is Stage.SEARCH else 380.0)(step))
    assert found.reason is Reason.OBJECTIVE
    assert found.rate_per_s is not None
    assert 380 * (1 - 2 * RESOLUTION) <= found.rate_per_s <= 380


def test_nothing_that_long_trials_confirm() -> None:
    found, _ = search(lambda step: limited(400.0 if step.stage is Stage.SEARCH else 0.0)(step))
    assert (found.rate_per_s, found.reason) == (None, Reason.UNCONFIRMED)


def test_what_is_known_already_is_not_measured_again() -> None:
    told: list[tuple[Step, Outcome]] = []

    def remember(step: Step) -> Outcome:
        told.append((step, limited(400.0)(step)))
        return told[-1][1]

    found, _ = search(remember)
    again = RateSearch(20.0, 1e6)
    for step, outcome in told:
        again.tell(step, outcome, step.rate_per_s)
    assert again.next() == found


def test_long_trials_of_other_searches_leave_this_one_its_own() -> None:
    searching = RateSearch(20.0, 1e6)
    for rate in (100.0, 110.0, 120.0, 130.0, 140.0, 150.0):
        outcome = limited(125.0)(Step(Stage.CONFIRM, rate))
        for stage in [Stage.SEARCH, Stage.CONFIRM] * 2 + [Stage.CONFIRM]:
            searching.tell(Step(stage, rate), outcome, rate)
    assert searching.next() == Step(Stage.CONFIRM, 124.9)


# Simulated queues


@dataclass(frozen=True)
class Simulated:
    """A search on a service that exists as arithmetic: how it ended, and the seconds that its trials take, each with
    half a second of warm-up."""

    found: Found
    seconds: float


def of(
    servers: int, limit: float, service: simulated.Service, objectives: str, seed: int, drift: float = 0.0, **how: Any
) -> Simulated:
    """`drift` is the standard deviation of the speed of the service from trial to trial."""
    wanted = parse_objectives([objectives], 5_000_000_000)
    asked = settings_of(wanted, "constant", "20/s", "1000000/s", "2s", "10s", "64", None, "30%", "0%")
    judge, chance, seconds, seeds = Judge(wanted), random.Random(seed), 0.0, itertools.count(seed)

    def outcome(step: Step) -> tuple[Outcome, float]:
        nonlocal seconds
        length_s = asked.length_ns(step, judge) / 1e9
        seconds += length_s + 0.5
        speed = chance.gauss(1, drift)
        trial = simulated.trial(
            servers, lambda random: service(random) / speed, step.rate_per_s, length_s, next(seeds), **how
        )
        return judge.judge(step, trial).outcome, trial["throughput_per_s"]

    searching, trials = RateSearch(asked.start_per_s, asked.max_per_s), 0
    while isinstance(step := searching.next(), Step):
        trials += 1
        assert trials <= MOST_TRIALS
        searching.tell(step, *outcome(step))
    return Simulated(step, seconds)


MOST_SECONDS = 150.0
"""Of 180 that a search may take: between two trials processes end and start."""


def find_fixed(servers: int, limit: float, noise: float, seed: int) -> None:
    """With three objectives, the rarest of which a trial of its own would see for minutes."""
    service_s = servers / limit
    at_least_ms = math.ceil(service_s * 1000)
    objectives = f"p99<{at_least_ms + 50}ms,p99<{at_least_ms + 20}ms,p99.9<{at_least_ms + 100}ms"
    got = of(servers, limit, simulated.fixed(service_s), objectives, seed, drift=0.003 if noise else 0.0, noise=noise)
    assert got.found.rate_per_s is not None
    assert 0.95 * limit <= got.found.rate_per_s <= 1.02 * limit
    assert got.found.missed_per_s is not None
    assert got.found.missed_per_s <= 1.06 * limit
    assert got.seconds <= MOST_SECONDS


@pytest.mark.parametrize(
    ("servers", "limit", "noise"), [(1, 100.0, 0.0), (2, 387.0, 0.0), (4, 5000.0, 0.0), (2, 390.0, 0.1)]
)
def test_fixed_service_times(servers: int, limit: float, noise: float) -> None:
    find_fixed(servers, limit, noise, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(25))
def test_many_fixed_service_times(seed: int, noise: float) -> None:
    """With noise a tenth of the trials has a pause of 80 ms in it, and the speed differs by 0.3 % from one to the
    next."""
    chance = random.Random(seed)
    find_fixed(chance.choice([1, 2, 4, 8]), 10 ** chance.uniform(2, math.log10(5000)), noise, 1000 * seed)


@pytest.mark.long
def test_independent_arrivals_and_exponential_service_are_found_where_the_formula_says() -> None:
    """M/M/1 with 5 ms of service: the time in system is exponential with rate μ - λ, so 99 % stay below t where
    λ = μ - ln(100) / t. A search sees so little of it that one may err by a quarter; their median does not."""
    expected = 200 - math.log(100) / 0.1
    got = [of(1, 200.0, simulated.exponential(0.005), "p99<100ms", 1000 * n, poisson=True) for n in range(9)]
    found = [one.found.rate_per_s or 0.0 for one in got]
    assert statistics.median(found) == pytest.approx(expected, rel=0.15)
    assert all(abs(rate / expected - 1) < 0.25 for rate in found)
    assert statistics.median(one.seconds for one in got) <= MOST_SECONDS
