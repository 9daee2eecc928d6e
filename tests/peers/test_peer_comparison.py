"""Pairs are interleaved, ratios are taken within each, and what does not count is said."""

import io
from typing import Any

import pytest

from bench import registry
from bench.peers import programs
from bench.peers.comparison import Setting
from bench.peers.process import VoidError
from bench.peers.programs import Program
from bench.peers.questions import questions
from bench.peers.table import print_answers
from bench.placement import Placement
from bench.protocols import PROTOCOLS
from tests.peers.peer_questions import SETTING, always, answered, question, script


def test_pairs_alternate_and_ratios_are_taken_within_each() -> None:
    log: list[str] = []
    answer = answered(question(script(log, "a", [10, 40, 30, 90, 5]), script(log, "b", [10, 20, 10, 100, 10])))
    assert "".join(log) == "abbaabbaab"
    assert answer.values() == [1.0, 2.0, 3.0, 0.9, 0.5]
    estimate = answer.estimate()
    assert estimate is not None
    assert estimate.value == pytest.approx(1.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0.499 < estimate.low <= 1.0 <= estimate.high < 3.001


def test_few_pairs_give_no_interval() -> None:
    answer = answered(question(script([], "a", [1] * 4), script([], "b", [2] * 4)), Setting(4, 1, Placement((), ())))
    estimate = answer.estimate()
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.n) == (pytest.approx(0.5), None, 4)


def test_a_pair_that_fails_is_void_and_the_others_count() -> None:
    figures: list[float | VoidError] = [10, 10, VoidError("it reports 3 errors"), 10, 10]
    answer = answered(question(script([], "a", [20] * 5), script([], "b", figures)))
    assert answer.values() == [2.0] * 4
    assert answer.voids == ["pair 3 of 5: it reports 3 errors"]


@pytest.mark.parametrize(("better", "value", "met"), [("higher", 2, True), ("higher", 0.5, False), ("lower", 2, False)])
def test_target(better: str, value: float, met: bool) -> None:
    assert answered(question(always(value), always(1.0), better=better)).met() is met


def test_nothing_measured_meets_no_target() -> None:
    answer = answered(question(always(1.0), script([], "b", [VoidError("no")] * 5)))
    assert answer.met() is None
    record = answer.record()
    assert (record["value"], record["medians"], record["met"]) == (None, None, None)
    assert len(record["voids"]) == 5


def test_the_peer_that_is_missing_is_named_and_nothing_is_started() -> None:
    def explode(_setting: Setting) -> Any:
        raise AssertionError("started")

    missing = Program("no-such-program", "apt-get install no-such-program")
    answer = answered(question(always(1.0), always(1.0), needs=(missing,), open=explode))
    assert answer.missing == (missing,)
    assert answer.record()["missing"] == ["no-such-program"]


def test_table_is_markdown_where_there_is_no_terminal() -> None:
    met = answered(question(always(300.0), always(100.0)))
    void = answered(question(always(1.0), script([], "b", [VoidError("because of this")] * 5)))
    slow = answered(question(always(150_000.0), unit="ns", better="lower", target=100_000))
    file = io.StringIO()
    print_answers([met, void, slow], SETTING, dict.fromkeys((p.name for p in programs.PROGRAMS), "1.2"), file)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file.getvalue().splitlines() if "|" in line]
    head, rule, *rows = lines
    assert head[0] == "what"
    assert all(set(cell) == {"-"} for cell in rule)
    assert rows == [
        ["title", "side 0 300/s, side 1 100/s", "3 ×", "3 × – 3 ×", "3 × – 3 ×", "≥ 1 ×", "yes"],
        ["title", "void", "", "", "", "≥ 1 ×", "not measured"],
        ["title", "side 0 150 us", "150 us", "150 us – 150 us", "150 us – 150 us", "≤ 100 us", "no"],
    ]
    assert "because of this" in file.getvalue()


@pytest.mark.parametrize(("share", "said"), [(0.6, True), (0.95, False), (None, False)])
def test_a_generator_that_was_not_the_limit_is_said(share: float | None, said: bool) -> None:
    answer = answered(question(always(2, share), always(1)))
    assert answer.record()["core_share"] == share
    file = io.StringIO()
    print_answers([answer], SETTING, dict.fromkeys((p.name for p in programs.PROGRAMS), "1.2"), file)
    assert ("wirebench used 60% of its core" in file.getvalue()) is said


def test_names_are_unique_and_every_target_of_a_peer_names_what_it_needs() -> None:
    installed = {*PROTOCOLS, *registry.STACKS, "load processes"} - {"uvicorn", "granian"}  # these are run as programs
    asked = questions()
    assert len({each.name for each in asked}) == len(asked)
    for each in asked:
        assert all(program.get for program in each.needs)
        if each.is_ratio and each.sides[1].removesuffix(" client") not in installed:
            assert each.sides[1] in [program.name for program in each.needs]
