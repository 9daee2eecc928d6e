"""The search, told what comes of simulated services whose limit is known."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.objectives import Outcome, judge, parse_objectives
from bench.ratesearch import LOWEST_PER_S, MAX_CONFIRMATIONS, RESOLUTION, Found, RateSearch, Reason, Stage, Step
from tests.capacity import simulated

Judge = Callable[[Step], Outcome]
MOST_TRIALS = 90


def search(outcome: Judge, start: float = 20.0, most: float = 1e6) -> tuple[Found, list[Step]]:
    """Runs a search to its end; gives the steps too."""
    searching, steps = RateSearch(start, most), []
    while isinstance(step := searching.next(), Step):
        steps.append(step)
        assert len(steps) <= MOST_TRIALS
        searching.tell(step, outcome(step))
    return step, steps


def limited(limit: float) -> Judge:
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
    assert 380 * (1 - 3 * RESOLUTION) <= found.rate_per_s <= 380


def test_nothing_that_long_trials_confirm() -> None:
    found, _ = search(lambda step: limited(400.0 if step.stage is Stage.SEARCH else 0.0)(step))
    assert (found.rate_per_s, found.reason) == (None, Reason.UNCONFIRMED)


def test_what_is_known_already_is_not_measured_again() -> None:
    told: list[tuple[Step, Outcome]] = []

    def remember(step: Step) -> Outcome:
        told.append((step, limited(400.0)(step)))
        return told[-1][1]

    found, _ = search(remember)
    assert RateSearch(20.0, 1e6, told).next() == found


# Simulated queues


def of(
    servers: int, service: simulated.Service, objective: str, seed: int, **options: Any
) -> tuple[Found, list[dict[str, Any]]]:
    objectives = parse_objectives([objective], 5_000_000_000)
    trials: list[dict[str, Any]] = []

    def outcome(step: Step) -> Outcome:
        confirms = step.stage is Stage.CONFIRM
        trial = simulated.trial(
            servers, service, step.rate_per_s, 10.0 if confirms else 2.0, seed + len(trials), **options
        )
        trials.append(trial)
        return judge(objectives, trial, strict=confirms).outcome

    return search(outcome, start=40.0)[0], trials


def find_fixed(servers: int, limit: float, slack_ms: int, noise: float, seed: int) -> None:
    service_s = servers / limit
    objective = f"p99<{round(service_s * 1000) + slack_ms}ms"
    found, _ = of(servers, simulated.fixed(service_s), objective, seed, noise=noise)
    assert found.rate_per_s is not None
    least = 0.9 if noise else 0.95  # a pause of 80 ms misses a tight objective by itself
    assert least * limit <= found.rate_per_s <= 1.02 * limit


SERVERS, LIMITS, SLACKS_MS, NOISES = (
    st.integers(1, 4),
    st.floats(100.0, 400.0),
    st.integers(20, 2000),
    st.sampled_from([0.0, 0.1]),
)
SEEDS = st.integers(0, 1 << 30)


@settings(max_examples=2, deadline=None)
@given(servers=SERVERS, limit=st.floats(100.0, 200.0), slack_ms=SLACKS_MS, noise=NOISES, seed=SEEDS)
def test_fixed_service_times(servers: int, limit: float, slack_ms: int, noise: float, seed: int) -> None:
    find_fixed(servers, limit, slack_ms, noise, seed)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(servers=SERVERS, limit=LIMITS, slack_ms=SLACKS_MS, noise=NOISES, seed=SEEDS)
def test_many_fixed_service_times(servers: int, limit: float, slack_ms: int, noise: float, seed: int) -> None:
    find_fixed(servers, limit, slack_ms, noise, seed)


@pytest.mark.long
def test_independent_arrivals_and_exponential_service_are_found_where_the_formula_says() -> None:
    """M/M/1 with 5 ms of service: the time in system is exponential with rate μ - λ, so 99 % stay below t where
    λ = μ - ln(100) / t. A search sees so little of such a queue that one may err by a tenth; their median does not."""
    expected = 200 - math.log(100) / 0.1
    found = [of(1, simulated.exponential(0.005), "p99<100ms", 1000 * n, poisson=True)[0].rate_per_s for n in range(9)]
    assert statistics.median(rate or 0.0 for rate in found) == pytest.approx(expected, rel=0.1)
    assert all(rate is not None and abs(rate / expected - 1) < 0.2 for rate in found)
