"""Thresholds: how they are read, which contradict each other, what they make of a trial and of the exit status."""

from typing import Any

import pytest

from bench.doubts import DoubtKind
from bench.errors import UsageError
from bench.thresholds import METRICS, check_together, exit_code, judge, parse_threshold

LATENCY = {"min": 1e6, "p50": 2e6, "p90": 3e6, "p99": 5e6, "p999": None, "max": 9e6, "mean": 2.5e6}


def trial(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "measured_ns": 2_000_000_000,
        "counts": {"completed": 990, "errors": {"status": 6, "timeout": 2}, "dropped": 2},
        "throughput_per_s": 495.0,
        "latency_ns": LATENCY,
        "requests": {"buy": {"completed": 99, "errors": {"status": 1}, "latency_ns": {**LATENCY, "p99": 7e6}}},
        "client": {"cpu_share_max": 0.1},
        "doubts": [],
        "error": None,
    }
    return {**found, **changes}


@pytest.mark.parametrize(
    ("text", "value", "held"),
    [
        ("p50 < 2ms", 2e6, False),
        ("p50 <= 2ms", 2e6, True),
        ("p99>4ms", 5e6, True),
        ("p99.9 < 1s", None, None),
        ("min >= 1ms", 1e6, True),
        ("max < 9000us", 9e6, False),
        ("mean < 3ms", 2.5e6, True),
        ("errors < 1%", 0.01, False),
        ("errors <= 10", 10, True),
        ("dropped < 1", 2, False),
        ("dropped <= 0.2%", 0.002, True),
        ("rate > 500/s", 495.0, False),
        ("p99 of buy < 7ms", 7e6, False),
        ("errors of buy <= 1%", 0.01, True),
        ("rate of buy > 49/s", 49.5, True),
    ],
)
def test_what_a_threshold_makes_of_a_trial(text: str, value: float | None, held: bool | None) -> None:
    (judged,) = judge([parse_threshold(text, "x")], trial())
    assert judged["value"] == (None if value is None else pytest.approx(value))
    assert (judged["held"], judged["threshold"]) == (held, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99", "is not a threshold"),
        ("p99 = 5ms", "is not a threshold"),
        ("p98 < 5ms", "there is no figure p98; those there are: " + ", ".join(METRICS)),
        ("p99 < 5", "is not a duration"),
        ("p99 < 0ms", "can never hold"),
        ("errors > 100%", "can never hold"),
        ("errors < 101%", "is not a share"),
        ("errors < -1", "is not a whole number"),
        ("rate > 5", "is not a rate"),
        ("dropped of buy < 1", "leave out its name"),
    ],
)
def test_what_is_no_threshold(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_threshold(text, "file: load: thresholds")
    assert str(refused.value).startswith("file: load: thresholds: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("p99 < 10ms", "p99 > 20ms", True),
        ("p99 > 10ms", "p99 < 10ms", True),
        ("p99 >= 10ms", "p99 <= 10ms", False),
        ("p99 >= 10ms", "p99 < 10ms", True),
        ("p50 > 20ms", "p99 < 10ms", True),
        ("p50 < 10ms", "p99 > 20ms", False),
        ("p99 < 10ms", "p50 < 20ms", False),
        ("p99 > 20ms", "p50 < 10ms", False),
        ("min > 5ms", "mean < 4ms", True),
        ("mean > 5ms", "p50 < 4ms", False),
        ("mean > 5ms", "max < 4ms", True),
        ("rate > 500/s", "rate < 400/s", True),
        ("errors < 1%", "errors > 2%", True),
        ("errors < 1%", "errors > 2", False),
        ("dropped > 2%", "errors < 1%", True),
        ("p99 of buy > 20ms", "p99 < 10ms", False),
        ("p99 of buy > 20ms", "p90 of buy < 10ms", False),
        ("p90 of buy > 20ms", "p99 of buy < 10ms", True),
    ],
)
def test_thresholds_that_contradict_each_other(one: str, other: str, contradict: bool) -> None:
    for pair in ((one, other), (other, one)):
        thresholds = [parse_threshold(text, "x") for text in pair]
        if not contradict:
            check_together(thresholds, "x")
            continue
        with pytest.raises(UsageError, match=f"{one!r}.*{other!r}|{other!r}.*{one!r}"):
            check_together(thresholds, "x")


def fatal(kind: DoubtKind) -> dict[str, Any]:
    return {"kind": kind, "fatal": True, "detail": ""}


@pytest.mark.parametrize(
    ("held", "name", "doubts", "cpu", "code"),
    [
        (True, "p99", [], 0.1, 0),
        (False, "p99", [], 0.1, 1),
        (None, "p99.9", [], 0.1, 3),
        (True, "p99", [DoubtKind.ERRORS], 0.1, 3),
        (False, "p99", [DoubtKind.ERRORS], 0.1, 1),
        (True, "errors", [DoubtKind.ERRORS], 0.1, 0),
        (False, "rate", [DoubtKind.GENERATOR_SATURATED], 0.1, 1),
        (False, "rate", [DoubtKind.GENERATOR_SATURATED], 0.95, 3),
        (True, "p99", [DoubtKind.GENERATOR_SATURATED], 0.1, 3),
        (False, "errors", [DoubtKind.SERVER_RESTARTED, DoubtKind.ERRORS], 0.1, 3),
        (False, "p99", [DoubtKind.LITTLE_LAW_VIOLATED], 0.1, 3),
    ],
)
def test_exit_status(held: bool | None, name: str, doubts: list[DoubtKind], cpu: float, code: int) -> None:
    judged = [{"threshold": f"{name} < 1", "unit": "ns", "value": 1.0, "held": held}]
    found = trial(thresholds=judged, doubts=[*map(fatal, doubts)], client={"cpu_share_max": cpu})
    assert exit_code(found) == code


def test_a_trial_without_figures_tells_nothing() -> None:
    nothing = trial(counts=None, error="the load failed")
    judged = judge([parse_threshold("p99 < 1ms", "x")], nothing)
    assert judged[0]["held"] is None
    assert exit_code({**nothing, "thresholds": judged}) == 3
