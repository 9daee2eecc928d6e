"""Shifts of pairs and of samples, against scipy's exact tests."""

import numpy as np
import pytest
from scipy import stats

from analysis import shift

BOUNDS = (-0.5, 0.0, 0.3, 1.2)


@pytest.mark.parametrize("n", [3, 5, 10, 25])
def test_pairs_agree_with_the_exact_signed_rank_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    found = shift.of_pairs(differences)
    for bound in BOUNDS:
        for p, way in ((found.p_above(bound), "greater"), (found.p_below(bound), "less")):
            expected = stats.wilcoxon(differences - bound, alternative=way, method="exact").pvalue
            assert p == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(1, 4), (5, 5), (3, 9), (10, 7)])
def test_samples_agree_with_the_exact_rank_sum_test(n: int, m: int) -> None:
    generator = np.random.default_rng(n)
    base, head = generator.normal(0, 1, n), generator.normal(0.5, 1, m)
    found = shift.of_samples(base, head)
    for bound in BOUNDS:
        for p, way in ((found.p_above(bound), "greater"), (found.p_below(bound), "less")):
            expected = stats.mannwhitneyu(head - bound, base, alternative=way, method="exact").pvalue
            assert p == pytest.approx(float(expected), abs=1e-12)


def test_many_trials_are_taken_as_normal() -> None:
    generator = np.random.default_rng(1)
    base, head = generator.normal(0, 1, 80), generator.normal(0.3, 1, 60)
    expected = float(stats.mannwhitneyu(head, base, alternative="greater", method="asymptotic").pvalue)
    assert shift.of_samples(base, head).p_above(0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.02, 0.0025])
def test_the_interval_is_what_the_test_does_not_refuse(alpha: float) -> None:
    found = shift.of_pairs(np.random.default_rng(3).normal(0, 1, 20))
    interval = found.interval(alpha)
    assert interval is not None
    low, high = interval
    assert found.p_above(low - 1e-9) <= alpha < found.p_above(low + 1e-9)
    assert found.p_below(high + 1e-9) <= alpha < found.p_below(high - 1e-9)
    assert low < found.estimate < high


def test_few_trials_give_no_interval() -> None:
    assert shift.of_pairs([1.0, 2.0, 3.0]).interval(0.02) is None
    assert shift.of_samples([1.0, 2.0], [3.0, 4.0]).interval(0.02) is None
    assert shift.of_samples([1.0] * 5, [2.0] * 5).interval(0.02) == (1.0, 1.0)


def test_intervals_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(2000):
        interval = shift.of_pairs(generator.standard_t(3, 12) + 1).interval(0.02)
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert covered / 2000 == pytest.approx(0.965, abs=0.015)
