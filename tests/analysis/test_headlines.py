"""Sentences say what the intervals support, and no more."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import EXECUTIONS, Plan, build_run

from analysis.headlines import enumerate_words, headlines, show_estimate, show_interval
from analysis.load_results import Run, load_run
from analysis.metrics import show_duration
from analysis.stats import Estimate
from analysis.summary import groups
from bench.quantities import format_rate


def said(tmp_path: Path, data: dict[str, Any]) -> list[str]:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return [headline.text for group in groups(load_run(path)) for headline in headlines(group)]


def test_the_best_is_named_with_how_much_better_it_is(tmp_path: Path) -> None:
    first, second = said(tmp_path, build_run(plans=[Plan("g", p) for p in ("http1", "http2", "tcp")]))
    assert first.startswith("tcp answered the most requests, 11")
    assert " times (" in first
    assert "as many as http2, and " in first
    assert first.endswith("as many as http1, the last.")
    assert second.startswith("tcp used the least server CPU, ")


def test_a_scenario_in_serious_doubt_gives_no_verdict_and_does_not_compete(tmp_path: Path) -> None:
    troubled = Plan("g", "tcp", troubles=frozenset({"saturated"}))
    first, _ = said(tmp_path, build_run(plans=[Plan("g", "http1"), Plan("g", "http2"), troubled]))
    assert first.startswith("http2 answered the most requests")
    assert (
        "No verdict on tcp: the load generator was at its limit or the offered rate was not reached in 3 of 5" in first
    )
    (only,) = said(tmp_path, build_run(plans=[Plan("g", "http1"), troubled]))
    assert only.startswith("No verdict on tcp")


def test_those_without_a_verdict_for_one_reason_share_a_sentence(tmp_path: Path) -> None:
    plans = [Plan("g", protocol, troubles=frozenset({"saturated"})) for protocol in ("http1", "tcp")]
    (only,) = said(tmp_path, build_run(plans=plans))
    assert only == (
        "No verdict on http1 and tcp: the load generator was at its limit or the offered rate was not reached "
        "in at least one round of each."
    )


def test_a_rate_in_serious_doubt_is_not_said_to_be_kept(tmp_path: Path) -> None:
    plans = [Plan("g", "tcp", load="open:5000/s"), Plan("g", "tcp", load="open:9000/s", troubles=frozenset({"death"}))]
    (only,) = said(tmp_path, build_run(plans=plans))
    assert only.startswith("tcp: kept up with 5,000/s; no verdict at 9,000/s (a worker of the server died")


def test_what_is_level_is_said_to_be_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXECUTIONS, "prefork", (1.0, "one"))
    plans = [Plan("g", "http1"), Plan("g", "http1", "prefork")]
    first, _ = said(tmp_path, build_run(plans=plans, noise=0.2, seed=4))
    assert "too close to tell apart (take more rounds)" in first
    first, _ = said(tmp_path, build_run(plans=plans, noise=0.002, seed=4))
    assert "with no difference beyond 5%" in first


def test_many_that_are_level_are_counted(tmp_path: Path) -> None:
    same = [Plan("g", "http1", execution) for execution in EXECUTIONS]
    lines = said(tmp_path, build_run(plans=same))
    assert any("8 others are too close to tell from it" in line for line in lines)


def test_two_rounds_tell_nothing_apart(tmp_path: Path) -> None:
    first, _ = said(tmp_path, build_run(plans=[Plan("g", "http1"), Plan("g", "tcp")], rounds=2))
    assert first == "tcp and http1 cannot be told apart: a comparison needs at least 3 rounds."


def test_ladders_say_up_to_which_rate_a_server_kept_up(run: Run) -> None:
    texts = [headline.text for headline in headlines(groups(run)[-1])]
    assert "tcp: kept up with every offered rate, up to 80,000/s." in texts
    http1 = next(text for text in texts if text.startswith("http1: "))
    assert "kept up with 5,000/s, 10,000/s, 20,000/s and 40,000/s; of 80,000/s it answered 4" in http1
    # Latency is compared at the highest rate that both kept up with.
    assert texts[0].startswith("open:40000/s: tcp had the lowest p99 latency, ")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.2e6, 1.3e6, "1.2–1.3 ms"),
        (9.9e5, 1.3e6, "990 µs–1.3 ms"),
        (1.2e6, 1.2001e6, "1.2 ms"),
        (None, None, "2 rounds, no interval"),
    ],
)
def test_intervals_say_their_unit_once(low: float | None, high: float | None, words: str) -> None:
    assert show_interval(Estimate(1.25e6, low, high, 2), show_duration) == words


def test_rates_and_missing_figures() -> None:
    assert show_estimate(Estimate(1250.0, 1200.0, 1300.0, 5), format_rate) == "1,250/s (1,200–1,300/s)"
    assert show_estimate(Estimate(1250.0, None, None, 2), format_rate) == "1,250/s"
    assert show_estimate(None, format_rate) == "not measured"


def test_words_in_a_row() -> None:
    assert [enumerate_words(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
