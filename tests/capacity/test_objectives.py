"""What a trial shows of objectives."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.errors import UsageError
from bench.judging import Judge, length_ns
from bench.objectives import Outcome, backlog_growth, from_thresholds, judge, parse_objectives
from bench.ratesearch import Stage, Step
from bench.thresholds import parse_threshold
from tests.capacity import simulated

TIMEOUT_NS = 5_000_000_000


@pytest.fixture
def trial() -> dict[str, Any]:
    """One server that takes 5 ms, at 100/s for 10 s: every request takes 5 ms."""
    return simulated.trial(1, simulated.fixed(0.005), 100.0, 10.0, 1)


def outcome(trial: dict[str, Any], *texts: str, strict: bool = True) -> Outcome:
    return judge(parse_objectives(texts, TIMEOUT_NS), trial, strict).outcome


def test_objectives_are_read_and_errors_are_bounded_where_nobody_says_so() -> None:
    found = parse_objectives(["p99<50ms, p99.9 < 100ms"], TIMEOUT_NS)
    assert [objective.text for objective in found] == ["p99<50ms", "p99.9<100ms", "errors<1%"]
    assert [objective.text for objective in parse_objectives(["errors<0.1%"], TIMEOUT_NS)] == ["errors<0.1%"]


@pytest.mark.parametrize(("text", "met"), [("p99<6ms", True), ("p50<4ms", False), ("p99.9<10ms", True)])
def test_latency(trial: dict[str, Any], text: str, met: bool) -> None:
    assert outcome(trial, text) is (Outcome.MET if met else Outcome.MISSED)


def test_a_request_that_failed_was_not_answered_in_time(trial: dict[str, Any]) -> None:
    trial["counts"]["completed"] -= 15  # of 1000
    assert outcome(trial, "p99<6ms", "errors<5%") is Outcome.MISSED
    assert outcome(trial, "p90<6ms", "errors<5%") is Outcome.MET
    assert outcome(trial, "p90<6ms") is Outcome.MISSED  # errors<1%


def test_chance_is_allowed_for_in_short_trials_alone(trial: dict[str, Any]) -> None:
    trial["counts"]["completed"] -= 14
    assert outcome(trial, "p99<6ms", "errors<5%", strict=False) is Outcome.MET
    assert outcome(trial, "p99<6ms", "errors<5%", strict=True) is Outcome.MISSED


def test_a_rare_percentile_is_judged_on_the_samples_of_all_trials_that_confirm(trial: dict[str, Any]) -> None:
    objectives = parse_objectives(["p99.9<6ms", "errors<5%"], TIMEOUT_NS)
    trial["counts"]["completed"] -= 2  # of 1000, of which one may fail: chance may be the reason
    assert judge(objectives, trial, strict=True).outcome is Outcome.MET
    verdict = judge(objectives, trial, strict=True, others=[trial, trial])
    assert verdict.outcome is Outcome.MISSED
    assert verdict.why.endswith("in 3 trials together (p99.9<6ms)")
    whole = trial | {"counts": trial["counts"] | {"completed": trial["counts"]["offered"]}}
    assert judge(objectives, trial, strict=True, others=[whole, whole]).outcome is Outcome.MET


def test_the_trials_that_confirm_are_judged_together_once_there_are_enough(trial: dict[str, Any]) -> None:
    trial["counts"]["completed"] -= 2
    of_search = Judge(parse_objectives(["p99.9<6ms", "errors<5%"], TIMEOUT_NS))
    outcomes = [of_search.judge(Step(Stage.CONFIRM, 100.0), trial).outcome for _ in range(3)]
    assert outcomes == [Outcome.MET, Outcome.MET, Outcome.MISSED]
    assert len(of_search.confirming(100.0)) == 2
    assert of_search.thin(100.0) == ["p99.9<6ms"]  # 2,000 requests, of which two may fail
    assert "together" in of_search.why(100.0)


@pytest.mark.parametrize(
    ("rate_per_s", "expected_s"), [(1000.0, [0, 0, 0]), (200.0, [0, 20, 20]), (20.0, [0, 32.5, 32.5])]
)
def test_trials_that_confirm_share_the_length_that_a_rare_percentile_needs(
    rate_per_s: float, expected_s: list[float]
) -> None:
    objectives = parse_objectives(["p99.9<6ms"], TIMEOUT_NS)
    met: list[dict[str, Any]] = []
    for expected in expected_s:
        found_s = length_ns(objectives, met, rate_per_s) / 1e9
        assert found_s == pytest.approx(expected)
        met.append({"scenario": {"duration_ns": max(10.0, found_s) * 1e9}})


@pytest.mark.parametrize(("rate_per_s", "growth"), [(190.0, 0.0), (204.0, 4 / 204), (220.0, 20 / 220)])
def test_a_queue_in_front_of_too_little_grows_by_what_is_too_much(rate_per_s: float, growth: float) -> None:
    found = backlog_growth(simulated.trial(1, simulated.fixed(0.005), rate_per_s, 4.0, 1))
    assert found == pytest.approx(growth, rel=0.1, abs=1e-4)


def test_a_rate_above_the_limit_is_missed_however_short_the_queue_still_is() -> None:
    over = simulated.trial(1, simulated.fixed(0.005), 204.0, 4.0, 1)
    assert outcome(over, "p99<4s") is Outcome.MISSED


def test_what_a_pause_has_left_is_no_growth() -> None:
    assert backlog_growth(simulated.trial(1, simulated.fixed(0.005), 170.0, 2.0, 1, noise=1.0)) == 0.0


def be_late(trial: dict[str, Any]) -> None:
    trial["lateness_ns"]["p99"] = 30_000_000


def use_the_core(trial: dict[str, Any]) -> None:
    trial["client"]["cpu_share_max"] = 0.97


@pytest.mark.parametrize(("how", "expected"), [(be_late, Outcome.DISTURBED), (use_the_core, Outcome.SATURATED)])
def test_the_generator_is_blamed_for_what_it_misses_and_not_for_what_it_meets(
    trial: dict[str, Any], how: Callable[[dict[str, Any]], None], expected: Outcome
) -> None:
    how(trial)
    assert outcome(trial, "p99<6ms") is Outcome.MET
    trial["counts"]["completed"] -= 50
    assert outcome(trial, "p99<6ms") is expected


def test_lateness_is_no_excuse_where_most_requests_are_too_slow_from_when_they_were_sent(trial: dict[str, Any]) -> None:
    be_late(trial)
    assert outcome(trial, "p99<1ms") is Outcome.MISSED


def test_a_service_that_died(trial: dict[str, Any]) -> None:
    assert outcome({**trial, "error": "the server was killed by SIGKILL"}, "p99<6ms") is Outcome.DIED
    deaths = [{"worker": 1, "reason": "was killed by SIGKILL", "restarted": True}]
    assert outcome({**trial, "server": {"deaths": deaths}}, "p99<6ms") is Outcome.DIED


def of_file(*texts: str) -> tuple[list[tuple[str, float, int | None]], list[str]]:
    found, left_out = from_thresholds([parse_threshold(text, "f") for text in texts], TIMEOUT_NS, "f")
    made = [(objective.text, round(objective.within, 6), objective.limit_ns) for objective in found]
    return made, [threshold.text for threshold in left_out]


def test_thresholds_of_a_file_are_objectives_where_they_are_of_a_share_of_the_requests() -> None:
    bound = ("errors<1%", 0.99, None)
    others = ["rate > 5/s", "mean < 1ms", "p50 > 1ms", "errors < 9", "dropped<1%"]
    found, left_out = of_file("p99 < 20ms", "max <= 1s", *others)
    assert found == [("p99 < 20ms", 0.99, 20_000_000), ("max <= 1s", 1.0, 1_000_000_001), bound]
    assert left_out == others
    assert of_file("errors < 0.1%") == ([("errors < 0.1%", 0.999, None)], [])
    assert of_file("errors of get <= 0%")[0] == [("errors of get <= 0%", 1.0, None), bound]
    assert of_file("rate > 5/s") == ([("p99<100ms", 0.99, 100_000_000), bound], ["rate > 5/s"])
    with pytest.raises(UsageError, match="f: 'p99 < 6s': an answer that takes longer than --timeout 5 s"):
        of_file("p99 < 6s")


def test_an_objective_of_one_request_looks_at_that_one(trial: dict[str, Any]) -> None:
    (objective, _), _ = from_thresholds([parse_threshold("p99 of get < 6ms", "f")], TIMEOUT_NS, "f")
    of_get = {"completed": 100, "errors": {}, "latency_ns": trial["latency_ns"]}
    assert judge([objective], trial | {"requests": {"get": of_get}}).outcome is Outcome.MET
    verdict = judge([objective], trial | {"requests": {"get": of_get | {"errors": {"status": 10}}}}, strict=True)
    assert verdict.outcome is Outcome.MISSED
    assert verdict.why == "p99 of get never: 9.1% were not answered rightly (p99 of get < 6ms)"
    none = {"completed": 0, "errors": {}, "latency_ns": None}
    assert judge([objective], trial | {"requests": {"get": none}}).outcome is Outcome.MET
