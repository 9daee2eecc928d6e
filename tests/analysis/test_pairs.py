"""Pairs of trials: their order, when they end, and what is kept, with sides whose difference is known."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import Plan as Made
from synthetic_run import build_run

from analysis.load_results import load_run
from analysis.metrics import P50, THROUGHPUT
from analysis.regression import Change, RunComparison
from bench.ab import COMPARISON, Plan, run_pairs
from bench.claimview import Silent
from bench.errors import UsageError
from bench.placement import Placement
from bench.scenario import Scenario, parse_scenario

SCENARIO = parse_scenario({"protocol": "http1", "load": "closed:64"}, "test", "run")


@dataclass
class FakeSide:
    """A side whose trials are made up; `log` is told who is measured, and in which pair."""

    name: str
    log: list[tuple[str, int]]
    slower: float = 1.0
    leaves_room_at: str = ""
    """The one load at which its generator is not saturated; empty for all."""
    fails_from: int = 1000
    does_not_build: bool = False
    folder: Path = Path()
    trials: list[dict[str, Any]] = field(default_factory=list)

    def build(self) -> None:
        if self.does_not_build:
            raise UsageError(f"{self.name} does not build: no rule")
        self.trials = build_run(seed=len(self.name), rounds=40, plans=[Made("run", "http1")], noise=0.005)["trials"]

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[..., None]
    ) -> dict[str, Any]:
        self.log.append((self.name, number))
        trial = {**self.trials[number], "seed": seed}
        trial["scenario"] = {**trial["scenario"], "load": str(scenario.load), "name": scenario.name}
        saturated = self.leaves_room_at not in ("", str(scenario.load))
        trial["client"] = {**trial["client"], "cpu_share_max": 0.99 if saturated else 0.5}
        if number >= self.fails_from:
            nothing = dict.fromkeys(("counts", "latency_ns", "service_ns", "throughput_per_s", "server"))
            return {**trial, **nothing, "intervals": [], "client": None, "valid": False, "error": "it has gone"}
        trial["throughput_per_s"] /= self.slower
        return trial


def plan(pairs: int = 40, **options: Any) -> Plan:
    return Plan((SCENARIO,), (THROUGHPUT,), 0.02, pairs, 7, Placement((), ()), ["test"], **options)


def run(tmp_path: Path, base: FakeSide, head: FakeSide, of: Plan) -> tuple[RunComparison, list[int]]:
    looks: list[int] = []
    found = run_pairs(of, (base, head), tmp_path, Silent(), lambda one: looks.append(one.answers[0].n))
    return found, looks


def test_each_side_is_first_in_one_of_two_pairs(tmp_path: Path) -> None:
    log: list[tuple[str, int]] = []
    found, looks = run(tmp_path, FakeSide("base", log), FakeSide("head", log), plan(20, stop_early=False))
    pairs = [log[at : at + 2] for at in range(0, 40, 2)]
    assert all(one[1] == other[1] == number for number, (one, other) in enumerate(pairs))
    first = [pair[0][0] for pair in pairs]
    assert all({first[at], first[at + 1]} == {"base", "head"} for at in range(0, 20, 2))
    assert len({tuple(first[at : at + 2]) for at in range(0, 20, 2)}) == 2
    assert looks == [12, 18, 20]
    base, head = (load_run(tmp_path / f"{name}.json") for name in ("base", "head"))
    assert [trial.seed for trial in base.trials] == [trial.seed for trial in head.trials]
    assert base.status == head.status == "complete"
    assert json.loads((tmp_path / COMPARISON).read_text()) == found.record()


def test_it_ends_when_it_is_decided(tmp_path: Path) -> None:
    found, looks = run(tmp_path, FakeSide("base", []), FakeSide("head", [], slower=1.1), plan())
    assert found.change is Change.WORSE
    assert looks == [12]
    assert (found.base, found.head) == ("base", "head")


def test_a_side_that_does_not_build_or_start_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="head does not build"):
        run(tmp_path / "a", FakeSide("base", []), FakeSide("head", [], does_not_build=True), plan())
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError, match="base, base, cannot be measured: it has gone"):
        run(tmp_path / "b", FakeSide("base", [], fails_from=0), FakeSide("head", []), plan())


def test_a_side_that_has_gone_ends_it(tmp_path: Path) -> None:
    log: list[tuple[str, int]] = []
    found, _ = run(tmp_path, FakeSide("base", log), FakeSide("head", log, fails_from=4), plan())
    assert len(log) == 14
    assert found.answers[0].n == 4
    assert found.change is Change.UNKNOWN


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    head = FakeSide("head", [])
    measure = head.trial

    def interrupted(scenario: Scenario, number: int, *others: Any) -> dict[str, Any]:
        if number == 3:
            raise KeyboardInterrupt
        return measure(scenario, number, *others)

    head.trial = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeSide("base", []), head, plan())
    runs = [load_run(tmp_path / f"{name}.json") for name in ("base", "head")]
    assert [run.status for run in runs] == ["interrupted"] * 2
    assert json.loads((tmp_path / COMPARISON).read_text())["answers"][0]["n"] == 3


@pytest.mark.parametrize("light", ["closed:64", "closed:16", "closed:1", "open:1000/s"])
def test_a_load_that_nobody_chose_gives_way_to_one_that_leaves_the_generator_room(
    light: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = FakeSide("base", [], leaves_room_at=light), FakeSide("head", [])
    measure, carried = base.trial, {"throughput_per_s": 2020.0}
    base.trial = lambda *asked: {**measure(*asked), **carried}  # type: ignore[method-assign]
    found, _ = run(tmp_path, base, head, replace(plan(12, may_lighten=True), metrics=(P50,)))
    assert [f" {light} " in answer.scenario for answer in found.answers] == [True] * len(found.answers)
    loads = {trial["scenario"]["load"] for name in ("base", "head") for trial in _trials(tmp_path / f"{name}.json")}
    assert loads == {light}
    said = capsys.readouterr().err
    told = f"closed:64 leaves the load generator too little room: both sides get {light} instead" in said
    assert told == (light != "closed:64")
    assert len(_trials(tmp_path / "base.json")) == 12  # what was tried before is no trial of the comparison


def test_a_load_that_was_asked_for_stays(tmp_path: Path) -> None:
    run(tmp_path, FakeSide("base", [], leaves_room_at="closed:1"), FakeSide("head", []), plan(12))
    assert {trial["scenario"]["load"] for trial in _trials(tmp_path / "base.json")} == {"closed:64"}


def test_a_base_that_cannot_be_measured_is_told_of_before_a_load_is_sought(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base, base, cannot be measured: it has gone"):
        run(tmp_path / "b", FakeSide("base", [], fails_from=0), FakeSide("head", []), plan(may_lighten=True))
    assert not list(tmp_path.rglob("*.json"))


def _trials(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["trials"]
    return found
