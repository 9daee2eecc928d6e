"""Better, worse, same and unknown: of known differences, of runs, and how often they are wrong on simulated servers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import Plan, build_run

from analysis.load_results import Run, Scenario, load_run
from analysis.metrics import FAILED, P50, P99, SERVER_CPU, THROUGHPUT, Metric
from analysis.regression import (
    ALPHA,
    METRICS,
    Change,
    Question,
    RunComparison,
    answer,
    choose_metrics,
    compare_runs,
    scenario_hash,
)
from analysis.simulation import Side, simulate_gates
from bench.errors import UsageError

SCENARIO = Scenario(
    "a", "run", "http1", "lean", "lean", "request-response", "echo", 64, "single", 1, "closed:64", "64", "loopback",
    0, 1, 1, None,
)  # fmt: skip


def ask(metric: Metric, base: list[float], head: list[float], paired: bool = True) -> Change:
    question = Question(SCENARIO, metric, dict(enumerate(base)), dict(enumerate(head)))
    return answer([question], 0.05, paired, ALPHA)[0].change


@pytest.mark.parametrize("paired", [True, False])
def test_which_way_is_worse_is_the_metrics(paired: bool) -> None:
    low, high = [100.0 + n for n in range(10)], [120.0 + n for n in range(10)]
    assert ask(P50, low, high, paired) is Change.WORSE
    assert ask(P50, high, low, paired) is Change.BETTER
    assert ask(THROUGHPUT, low, high, paired) is Change.BETTER
    assert ask(THROUGHPUT, high, low, paired) is Change.WORSE
    assert ask(P50, low, [value * 1.001 for value in low]) is Change.SAME


def test_few_trials_and_scattered_ones_say_nothing() -> None:
    assert ask(P50, [100.0] * 3, [900.0] * 3) is Change.UNKNOWN
    assert ask(P50, [100.0] * 12, [80, 130, 90, 140, 120, 70, 160, 100, 95, 110, 85, 125]) is Change.UNKNOWN


def test_less_than_the_margin_is_not_worse() -> None:
    assert ask(P50, [100.0] * 20, [104.0] * 20) is Change.SAME


def test_failures_where_there_were_none_are_worse() -> None:
    assert ask(FAILED, [0.0] * 12, [0.2] * 12) is Change.WORSE
    assert ask(FAILED, [0.0] * 12, [0.0] * 12) is Change.SAME
    assert ask(FAILED, [0.2] * 12, [0.0] * 12) is Change.BETTER


def test_many_questions_at_once_ask_for_more() -> None:
    base, head = [100.0] * 6, [120.0] * 6  # the least p of six pairs is 1/64
    one = Question(SCENARIO, P50, dict(enumerate(base)), dict(enumerate(head)))
    same = Question(SCENARIO, P99, dict(enumerate(base)), dict(enumerate(base)))
    assert answer([one], 0.05, True, ALPHA)[0].change is Change.WORSE
    assert answer([one, same], 0.05, True, ALPHA)[0].change is Change.UNKNOWN
    assert answer([one, same], 0.05, True, ALPHA)[0].p_worse == pytest.approx(2 / 64)


def load(tmp_path: Path, name: str, data: dict[str, Any]) -> Run:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return load_run(path)


def built(seed: int, protocols: tuple[str, ...] = ("http1",), rounds: int = 12) -> dict[str, Any]:
    return build_run(seed=seed, rounds=rounds, plans=[Plan("run", protocol) for protocol in protocols], noise=0.005)


def slower(data: dict[str, Any], factor: float) -> dict[str, Any]:
    for trial in data["trials"]:
        trial["throughput_per_s"] /= factor
        for key in ("p50", "p99"):
            trial["latency_ns"][key] *= factor
    return data


def changes(comparison: RunComparison) -> dict[str, Change]:
    return {one.metric.name: one.change for one in comparison.answers}


def test_runs_are_compared_by_what_their_scenarios_are(tmp_path: Path) -> None:
    base = load(tmp_path, "base", built(1, ("http1", "tcp")))
    head = load(tmp_path, "head", slower(built(2, ("http1", "udp")), 1.2))
    found = compare_runs(base, head, margin=0.05)
    assert not found.paired
    assert {one.scenario for one in found.answers} == {base.trials[0].scenario.name.replace("tcp", "http1")}
    assert changes(found)[THROUGHPUT.name] is changes(found)[P50.name] is Change.WORSE
    assert found.change is Change.WORSE
    assert [names[0].split()[0] for names in (found.only_in_base, found.only_in_head)] == ["tcp", "udp"]
    with pytest.raises(UsageError, match="share no scenario"):
        compare_runs(load(tmp_path, "tcp", built(1, ("tcp",))), load(tmp_path, "udp", built(1, ("udp",))))


def test_runs_that_were_measured_in_pairs_are_compared_by_pair(tmp_path: Path) -> None:
    base, head = built(1), built(1)
    for number, (one, other) in enumerate(zip(base["trials"], head["trials"], strict=True)):
        drift = 1 + number % 5  # which both trials of a pair met
        for trial in (one, other):
            trial["throughput_per_s"] *= drift
    slower(head, 1.1)
    for data in (base, head):
        data["suite"] = "ab"
    found = compare_runs(load(tmp_path, "base", base), load(tmp_path, "head", head), [THROUGHPUT], margin=0.02)
    assert found.paired
    assert changes(found) == {THROUGHPUT.name: Change.WORSE}
    apart = compare_runs(load(tmp_path, "b", base | {"seed": 9}), load(tmp_path, "h", head), [THROUGHPUT], margin=0.02)
    assert not apart.paired
    assert changes(apart) == {THROUGHPUT.name: Change.UNKNOWN}


def test_trials_with_a_fatal_doubt_do_not_count(tmp_path: Path) -> None:
    head = built(2)
    for trial in head["trials"]:
        trial["valid"] = False
        trial["doubts"] = [{"kind": "errors", "fatal": True, "detail": "half of them failed"}]
        trial["counts"] |= {"offered": 200, "completed": 100, "errors": {"status": 100}}
    found = compare_runs(load(tmp_path, "base", built(1)), load(tmp_path, "head", head))
    assert changes(found) == {metric.name: Change.UNKNOWN for metric in METRICS} | {FAILED.name: Change.WORSE}
    assert found.answers[0].question.why_not.startswith("head: http1")
    assert found.is_valid
    nothing = compare_runs(load(tmp_path, "base", built(1)), load(tmp_path, "head", head), [P50])
    assert not nothing.is_valid


def test_a_scenario_is_the_same_whatever_its_name_and_the_age_of_its_file() -> None:
    assert scenario_hash(SCENARIO) == scenario_hash(dataclasses.replace(SCENARIO, name="b", via="none"))
    assert scenario_hash(SCENARIO) != scenario_hash(dataclasses.replace(SCENARIO, via="l4"))


def test_metrics_are_those_that_have_a_direction() -> None:
    assert choose_metrics([]) == METRICS
    assert choose_metrics(["latency_p90_ns", "latency_p90_ns"])[0].name == "latency_p90_ns"
    for wrong in ("nonsense", "offered_per_s"):
        with pytest.raises(UsageError, match="better"):
            choose_metrics([wrong])


# How often gates are right


def equal_sides(noise: float, heavy: bool, n: int = 2000) -> tuple[Side, Side]:
    """Figures of a machine whose state moves by 10 % from pair to pair, with tails, and a p99 that is six times as
    noisy."""
    generator = np.random.default_rng(11)
    state = generator.normal(0, 0.1, n)

    def figures(of: float) -> Any:
        values = 1e6 * np.exp(state + generator.normal(0, of, n))
        return values * np.where(generator.random(n) < 0.08, 1.5, 1) if heavy else values

    def side() -> Side:
        noises = {THROUGHPUT: noise, P50: noise, P99: 6 * noise, SERVER_CPU: noise}
        return {**{metric: figures(of) for metric, of in noises.items()}, FAILED: np.zeros(n)}

    return side(), side()


@pytest.mark.parametrize(("noise", "heavy"), [(0.01, False), (0.04, False), (0.04, True), (0.3, True)])
def test_equal_sides_are_seldom_told_apart(noise: float, heavy: bool) -> None:
    found = simulate_gates(*equal_sides(noise, heavy), SCENARIO, 0.0, 0.02, 60, gates=150, seed=1)
    assert found.worse_comparisons <= ALPHA
    assert found.worse <= 0.04  # of five metrics


@pytest.mark.parametrize(("slowdown", "noise", "pairs"), [(0.10, 0.04, 60), (0.05, 0.01, 60), (0.05, 0.04, 120)])
def test_a_slower_head_is_found(slowdown: float, noise: float, pairs: int) -> None:
    found = simulate_gates(*equal_sides(noise, False), SCENARIO, slowdown, 0.02, pairs, gates=100, seed=2)
    assert found.worse >= 0.95
    assert found.pairs <= pairs / 2


def test_a_margin_is_a_floor_for_what_is_worse() -> None:
    found = simulate_gates(*equal_sides(0.02, False), SCENARIO, 0.02, 0.02, 60, gates=150, seed=3)
    assert found.worse_comparisons <= ALPHA
