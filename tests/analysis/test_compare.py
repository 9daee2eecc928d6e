"""Comparisons: outcomes, margin, doubts, and what they say of two systems that are the same."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import Plan, build_run

from analysis.compare import Comparison, Outcome, adjust, compare, compare_summaries
from analysis.load_results import Doubt, load_run
from analysis.metrics import OFFERED, P99, THROUGHPUT
from analysis.stats import Estimate
from analysis.summary import Summary, summaries


def rounds(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_the_ratio_is_that_of_the_candidate_paired_by_round() -> None:
    baseline, candidate = rounds([100, 200, 400, 100, 100]), rounds([150, 300, 600, 150, 150])
    comparison = compare(baseline, candidate, "higher")
    assert comparison.ratio is not None
    assert comparison.ratio.value == pytest.approx(1.5)
    assert (comparison.ratio.low, comparison.ratio.high) == (pytest.approx(1.5), pytest.approx(1.5))
    assert comparison.outcome is Outcome.BETTER
    assert compare(baseline, candidate, "lower").outcome is Outcome.WORSE
    assert compare(candidate, baseline, "higher").outcome is Outcome.WORSE
    assert compare(candidate, baseline, "lower").outcome is Outcome.BETTER


def test_only_rounds_that_both_have_count() -> None:
    comparison = compare({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, {1: 2.0, 2: 2.0, 3: 2.0, 9: 50.0}, "higher")
    assert comparison.ratio is not None
    assert (comparison.ratio.n, comparison.ratio.value) == (3, pytest.approx(2.0))


def test_a_real_difference_below_the_margin_is_no_verdict_for_either() -> None:
    comparison = compare(rounds([100.0] * 8), rounds([102.0 + k / 10 for k in range(8)]), "higher")
    assert comparison.outcome is Outcome.TOO_CLOSE
    assert comparison.within_margin
    assert comparison.words == "no difference beyond 5%"
    assert (
        compare(rounds([100.0] * 8), rounds([102.0 + k / 10 for k in range(8)]), "higher", 0.01).outcome
        is Outcome.BETTER
    )


def test_scattered_rounds_ask_for_more_rounds() -> None:
    comparison = compare(rounds([100.0] * 5), rounds([80, 130, 90, 140, 120]), "higher")
    assert comparison.outcome is Outcome.TOO_CLOSE
    assert not comparison.within_margin
    assert "more rounds" in comparison.words


def test_two_rounds_never_decide() -> None:
    comparison = compare(rounds([1.0, 1.0]), rounds([9.0, 9.0]), "higher")
    assert comparison.outcome is Outcome.TOO_CLOSE
    assert comparison.ratio == Estimate(pytest.approx(9.0), None, None, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("baseline", "candidate", "why"),
    [({}, {0: 1.0}, "no round"), ({0: 0.0}, {0: 1.0}, "zero"), ({0: 1.0}, {1: 1.0}, "no round")],
)
def test_no_pairs_and_no_ratio_give_no_verdict(
    baseline: dict[int, float], candidate: dict[int, float], why: str
) -> None:
    comparison = compare(baseline, candidate, "higher")
    assert comparison.outcome is Outcome.NO_VERDICT
    assert why in comparison.words


def test_five_rounds_decide_by_the_interval_since_their_p_cannot() -> None:
    comparison = compare(rounds([100.0] * 5), rounds([150, 151, 152, 153, 154]), "higher")
    assert comparison.p == pytest.approx(0.0625)
    assert comparison.outcome is Outcome.BETTER


def test_where_rounds_suffice_the_adjusted_p_has_a_say() -> None:
    decided = compare(rounds([100.0] * 10), rounds([150.0 + k for k in range(10)]), "higher")
    assert decided.outcome is Outcome.BETTER
    assert dataclasses.replace(decided, p_holm=0.2).outcome is Outcome.TOO_CLOSE


def test_adjusting_makes_a_family_of_those_that_have_a_p() -> None:
    strong = compare(rounds([100.0] * 10), rounds([150.0 + k for k in range(10)]), "higher")
    none = compare({}, {}, "higher")
    adjusted = adjust([strong, none, strong])
    assert [c.family for c in adjusted] == [2, 1, 2]
    assert strong.p is not None
    assert [c.p_holm for c in adjusted] == [pytest.approx(2 * strong.p), None, pytest.approx(2 * strong.p)]


@pytest.mark.parametrize("n", [5, 10])
def test_two_systems_that_are_the_same_are_found_the_same(n: int) -> None:
    """A/A by simulation: intervals cover 1 about as often as they say, and hardly ever is one called better."""
    rng = np.random.default_rng(17)
    covered = decided = 0
    for _ in range(400):
        drift = rng.normal(0, 0.1, n)  # of the machine: it meets both trials of a round
        a, b = (np.exp(math.log(40_000) + drift + rng.normal(0, 0.03, n)) for _ in range(2))
        comparison = compare(rounds(a.tolist()), rounds(b.tolist()), "higher")
        assert comparison.ratio is not None
        assert comparison.ratio.low is not None
        assert comparison.ratio.high is not None
        covered += comparison.ratio.low <= 1 <= comparison.ratio.high
        decided += comparison.outcome is not Outcome.TOO_CLOSE
    assert 0.91 <= covered / 400 <= 0.99
    assert decided / 400 <= 0.01


def test_a_difference_of_a_quarter_is_found() -> None:
    rng = np.random.default_rng(18)
    found = 0
    for _ in range(100):
        a, b = (np.exp(level + rng.normal(0, 0.03, 5)) for level in (0.0, math.log(1.25)))
        found += compare(rounds(a.tolist()), rounds(b.tolist()), "higher").outcome is Outcome.BETTER
    assert found >= 90


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Summary]:
    path: Path = tmp_path_factory.mktemp("pair") / "pair.json"
    path.write_text(json.dumps(build_run(seed=2, plans=[Plan("g", "http1"), Plan("g", "tcp")])), encoding="utf-8")
    http1, tcp = summaries(load_run(path))
    return http1, tcp


def test_scenarios_are_compared_by_a_figure_in_its_direction(pair: tuple[Summary, Summary]) -> None:
    http1, tcp = pair
    assert compare_summaries(http1, tcp, THROUGHPUT).outcome is Outcome.BETTER
    assert compare_summaries(http1, tcp, P99).outcome is Outcome.BETTER
    assert compare_summaries(tcp, http1, P99).outcome is Outcome.WORSE
    with pytest.raises(ValueError, match="neither"):
        compare_summaries(http1, tcp, OFFERED)


@pytest.mark.parametrize(("fatal", "outcome"), [(True, Outcome.NO_VERDICT), (False, Outcome.BETTER)])
def test_a_fatal_doubt_about_either_side_means_no_verdict(
    pair: tuple[Summary, Summary], fatal: bool, outcome: Outcome
) -> None:
    http1, tcp = pair
    first, *others = http1.trials
    doubted = dataclasses.replace(first, doubts=(Doubt("noisy-host", fatal, "9 % stolen"),))
    comparison = compare_summaries(Summary(http1.scenario, (doubted, *others)), tcp, THROUGHPUT)
    assert comparison.outcome is outcome
    assert isinstance(comparison, Comparison)
    if fatal:
        assert "busy with something else in 1 of 5 rounds" in comparison.words
