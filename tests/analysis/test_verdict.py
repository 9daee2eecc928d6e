"""Verdicts: rules against figures, claims against conditions, and how often they are right on simulated servers."""

import math
from collections.abc import Mapping

import pytest

from analysis.simulation import simulate
from analysis.verdict import MODES, Finding, Judged, Kind, Rule, Standing, Verdict, adjusted, judge, judge_rule

HOLDS, CONTRADICTED, UNDECIDED = Standing.HOLDS, Standing.CONTRADICTED, Standing.UNDECIDED


def rounds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def comparing(kind: Kind, margin: float = 0.05) -> Rule:
    return Rule("it is so", "latency_p50_ns", "one", kind, "other", margin=margin)


@pytest.mark.parametrize(
    ("kind", "one", "standing"),
    [
        ("less", (80, 81, 79, 80, 82), HOLDS),
        ("less", (100, 101, 99, 100, 100), CONTRADICTED),  # no difference of use
        ("less", (120, 121, 119, 120, 122), CONTRADICTED),
        ("less", (80, 81, 120, 80, 82), UNDECIDED),
        ("more", (120, 121, 119, 120, 122), HOLDS),
        ("more", (80, 81, 79, 80, 82), CONTRADICTED),
        ("no-more", (80, 60, 99, 80, 101), HOLDS),  # however much less it is
        ("no-more", (100, 101, 99, 100, 100), HOLDS),
        ("no-more", (120, 121, 119, 120, 122), CONTRADICTED),
        ("no-more", (80, 60, 120, 80, 100), UNDECIDED),
        ("same", (100, 101, 99, 100, 100), HOLDS),
        ("same", (80, 81, 79, 80, 82), CONTRADICTED),
        ("same", (120, 121, 119, 120, 122), CONTRADICTED),
        ("same", (100, 101, 99, 100, 120), UNDECIDED),
        ("less", (80, 81), UNDECIDED),  # too few for an interval
    ],
)
def test_comparing_sides(kind: Kind, one: tuple[float, ...], standing: Standing) -> None:
    other = rounds(*[100.0] * len(one))
    found = judge_rule(comparing(kind), "", rounds(*one), other)
    assert found.standing is standing
    assert found.comparison is not None


@pytest.mark.parametrize(
    ("kind", "value", "margin", "figures", "standing"),
    [
        ("equals", 4, 0.3, (4.06, 4.05, 4.07), HOLDS),
        ("equals", 3, 0.3, (4.06, 4.05, 4.07), CONTRADICTED),
        ("equals", 4, 0.1, (4.06, 4.05, 4.17), UNDECIDED),
        ("equals", 0, 0, (0, 0, 0), HOLDS),
        ("equals", 0, 0, (0, 1, 0), UNDECIDED),
        ("above", 0, 0, (3, 1, 2), HOLDS),
        ("above", 0, 0, (0, 0, 0), CONTRADICTED),
        ("above", 2, 0, (3, 1, 2), UNDECIDED),
        ("below", 20, 0, (3, 1, 2), HOLDS),
        ("below", 2, 0, (2, 2, 2), CONTRADICTED),
        ("equals", 4, 0.3, (4.0, 4.0), UNDECIDED),
        ("equals", 4, 0.3, (), UNDECIDED),
    ],
)
def test_expecting_a_value(
    kind: Kind, value: float, margin: float, figures: tuple[float, ...], standing: Standing
) -> None:
    rule = Rule("it is so", "latency_p50_rtts", "one", kind, value=value, margin=margin)
    assert judge_rule(rule, "", rounds(*figures)).standing is standing


def test_a_reason_not_to_trust_forbids_a_verdict() -> None:
    rule = Rule("it is so", "errors", "one", "equals")
    assert judge_rule(rule, "", rounds(0, 0, 0), why_not="the load was at its limit").standing is UNDECIDED
    slower = judge_rule(comparing("less"), "", rounds(80, 81, 79), rounds(100, 100, 100), "the load was at its limit")
    assert slower.standing is UNDECIDED
    assert slower.why_not == "the load was at its limit"


def found(**standings: Standing) -> list[Finding]:
    rule = Rule("it is so", "errors", "one", "equals")
    return [Finding(rule, condition, standing, None) for condition, standing in standings.items()]


@pytest.mark.parametrize(
    ("standings", "verdict"),
    [
        ({"a": HOLDS}, Verdict.UPHELD),
        ({"a": HOLDS, "b": HOLDS}, Verdict.UPHELD),
        ({"a": CONTRADICTED}, Verdict.REFUTED),
        ({"a": CONTRADICTED, "b": CONTRADICTED}, Verdict.REFUTED),
        ({"a": HOLDS, "b": CONTRADICTED}, Verdict.CONDITIONAL),
        ({"a": HOLDS, "b": UNDECIDED}, Verdict.UNDECIDED),
        ({"a": CONTRADICTED, "b": UNDECIDED}, Verdict.UNDECIDED),
        ({}, Verdict.UNDECIDED),
    ],
)
def test_the_verdict_on_a_claim(standings: Mapping[str, Standing], verdict: Verdict) -> None:
    assert judge(found(**standings), {}).verdict is verdict


def test_one_rule_that_is_contradicted_refutes_a_condition() -> None:
    assert judge([*found(a=HOLDS), *found(a=CONTRADICTED)], {}).verdict is Verdict.REFUTED


def test_where_the_difference_changes_its_sign() -> None:
    rule = comparing("less")
    findings = [
        judge_rule(rule, "rare", rounds(50, 50, 50), rounds(100, 100, 100)),
        judge_rule(rule, "busy", rounds(200, 200, 200), rounds(100, 100, 100)),
    ]
    judged = judge(findings, {"rare": 1.0, "busy": 3.0})
    assert judged.verdict is Verdict.CONDITIONAL
    (crossing,) = judged.crossings
    assert math.isclose(crossing.at, 2.0)
    assert judge(findings, {"rare": 1.0}).crossings == ()


def test_many_questions_are_one_family() -> None:
    """Ten pairs could convince a rank test alone; among many claims that show nothing they cannot any more."""
    clear = judge_rule(comparing("less"), "", rounds(*[80.0 + n for n in range(10)]), rounds(*[100.0] * 10))
    assert clear.standing is HOLDS
    weak = rounds(*[80.0 + n for n in range(8)], 120.0, 130.0)
    doubtful = judge_rule(comparing("less", 0.0), "", weak, rounds(*[100.0] * 10))
    judged = {f"claim {n}": judge([doubtful], {}) for n in range(20)} | {"clear": judge([clear], {})}
    together = adjusted(judged, {})
    assert together["clear"].verdict is Verdict.UPHELD
    assert together["claim 0"].verdict is not Verdict.UPHELD
    assert all((f.comparison.family if f.comparison else 0) == 21 for one in together.values() for f in one.findings)
    unsupported = Judged(Verdict.UNSUPPORTED, (), why="no broker")
    assert adjusted({"none": unsupported}, {})["none"] is unsupported


def test_verdicts_on_simulated_servers_are_right() -> None:
    """The figures that are promised (`wirebench claims --simulate` prints more of them), on a sixth of the claims."""
    same, small, large = simulate(MODES["normal"], (0.0, 0.03, 0.10), (0.02,), 60, 0.03, seed=2)
    assert same.share(HOLDS) <= 0.05
    assert large.share(HOLDS) >= 0.95
    assert small.share(CONTRADICTED) + small.share(HOLDS) <= 0.2  # at the margin itself, neither is right
