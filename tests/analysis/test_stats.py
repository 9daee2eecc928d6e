"""Estimates, intervals and tests against known answers and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import stats


def test_estimate_is_the_median_with_its_interval() -> None:
    estimate = stats.estimate([5.0, 1.0, 3.0, 2.0, 4.0])
    assert estimate is not None
    assert (estimate.value, estimate.n) == (3.0, 5)
    # With five values the interval of a median is their range: no interval without more assumptions is wider.
    assert (estimate.low, estimate.high) == (1.0, 5.0)


def test_nothing_gives_no_estimate_and_two_trials_give_no_interval() -> None:
    assert stats.estimate([]) is None
    assert stats.estimate([1.0, 2.0]) == stats.Estimate(1.5, None, None, 2)
    assert stats.median_interval([1.0, 2.0, 3.0]) is not None


def test_equal_values_give_an_interval_of_that_value() -> None:
    assert stats.estimate([7.0] * 5) == stats.Estimate(7.0, 7.0, 7.0, 5)


def test_the_same_values_always_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(100, 5, 12).tolist()
    assert stats.median_interval(values) == stats.median_interval(values)


@pytest.mark.parametrize(
    ("trials", "least", "most"),
    [(5, 0.91, 0.96), (8, 0.94, 1.0), (20, 0.93, 0.99)],
)
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_intervals_cover_the_truth_as_often_as_they_say(trials: int, least: float, most: float, tails: str) -> None:
    rng = np.random.default_rng(11)
    draw = rng.standard_normal if tails == "normal" else lambda n: rng.standard_t(3, n)
    samples = [draw(trials).tolist() for _ in range(600)]
    intervals = [interval for interval in map(stats.median_interval, samples) if interval is not None]
    covered = sum(low <= 0 <= high for low, high in intervals) / len(samples)
    assert least <= covered <= most


@given(st.lists(st.floats(1e-3, 1e6), min_size=3, max_size=12))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_an_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    estimate = stats.estimate(values)
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert min(values) <= estimate.low <= estimate.value <= estimate.high <= max(values)


def test_a_ratio_read_the_other_way_round_is_the_reciprocal() -> None:
    logs = np.random.default_rng(5).normal(0.3, 0.1, 9)
    forward, backward = stats.ratio_estimate(logs.tolist()), stats.ratio_estimate((-logs).tolist())
    assert forward is not None
    assert backward is not None
    assert forward.low is not None
    assert backward.high is not None
    assert forward.value * backward.value == pytest.approx(1)
    assert forward.low * backward.high == pytest.approx(1)
    assert stats.ratio_estimate([0.0, math.log(4)]) == stats.Estimate(pytest.approx(2), None, None, 2)  # type: ignore[arg-type]


def exact_signed_rank_p(differences: list[float]) -> float:
    """By counting every assignment of signs to the ranks, as the definition has it."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    return min(1.0, 2 * sum(s <= observed for s in sums) / len(sums))


@pytest.mark.parametrize("n", [3, 5, 8])
def test_signed_rank_p_is_that_of_the_definition(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        differences = rng.normal(0.4, 1, n).tolist()
        assert stats.signed_rank_p(differences) == pytest.approx(exact_signed_rank_p(differences))


@pytest.mark.parametrize("n", [1, 3, 5, 10])
def test_least_p_is_what_differences_of_one_sign_give(n: int) -> None:
    assert stats.signed_rank_p([0.1 * (k + 1) for k in range(n)]) == pytest.approx(stats.least_p(n))
    assert stats.least_p(5) == 0.0625


def test_no_difference_at_all_has_p_one() -> None:
    assert stats.signed_rank_p([0.0] * 5) == 1.0


def test_holm_on_the_example_of_the_textbooks() -> None:
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, then never less than the one before.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]) == []
