"""Scenarios, groups, contests and ladders, and what they are called."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import Plan, build_run

from analysis import doubts
from analysis.labels import shared
from analysis.load_results import Run, WorkerUse, load_run
from analysis.metrics import METRICS, P99, SERVER_CPU, THROUGHPUT, show_share, worker_shares
from analysis.summary import groups, summaries, unsupported
from analysis.tables import table


def load(tmp_path: Path, data: dict[str, Any]) -> Run:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return load_run(path)


def test_order_does_not_depend_on_how_rounds_were_shuffled(tmp_path: Path, run: Run, run_path: Path) -> None:
    data = json.loads(run_path.read_text(encoding="utf-8"))
    random.Random(9).shuffle(data["trials"])
    shuffled = load(tmp_path, data)
    names = [[summary.scenario.name for summary in group.summaries] for group in groups(run)]
    assert names == [[summary.scenario.name for summary in group.summaries] for group in groups(shuffled)]
    assert [trial.round for trial in summaries(shuffled)[0].trials] == [0, 1, 2, 3, 4]


def test_groups_come_from_simple_to_open_and_rates_ascend(run: Run) -> None:
    made = groups(run)
    assert [group.name for group in made] == ["protocols", "payload", "execution", "rates"]
    rates = made[-1]
    assert [rates.label(summary) for summary in rates.summaries][:3] == [
        "http1 · open:5000/s",
        "http1 · open:10000/s",
        "http1 · open:20000/s",
    ]


def test_scenarios_are_called_by_what_differs(run: Run) -> None:
    protocols, payload, execution, _ = groups(run)
    assert [protocols.label(summary) for summary in protocols.summaries] == ["http1", "http2", "tcp", "udp"]
    assert payload.label(payload.summaries[1]) == "http1 · 1KiB"
    assert [execution.label(summary) for summary in execution.summaries][:2] == ["single", "threads × 2"]
    assert shared([summary.scenario for summary in protocols.summaries]) == (
        "lean stack, echo, 64B, single, closed:64, loopback, 2s a trial, after 500ms of warm-up"
    )


def test_contests_are_between_scenarios_that_did_the_same(run: Run) -> None:
    protocols, payload, _, rates = groups(run)
    assert [(contest.work, len(contest.members)) for contest in protocols.contests] == [("", 4)]
    assert [(contest.work, len(contest.members)) for contest in payload.contests] == [
        ("64B", 4),
        ("1KiB", 4),
        ("16KiB", 4),
    ]
    assert [contest.label(contest.members[0]) for contest in payload.contests] == ["http1"] * 3
    assert [(ladder.label, len(ladder.rungs)) for ladder in rates.ladders] == [("http1", 5), ("tcp", 5)]
    assert protocols.ladders == ()


def test_figures_of_a_trial_are_what_the_file_says(run: Run, run_path: Path) -> None:
    raw = json.loads(run_path.read_text(encoding="utf-8"))["trials"]
    index = next(number for number, trial in enumerate(raw) if trial["scenario"]["execution"] == "prefork")
    trial, data = run.trials[index], raw[index]
    cpu_s = data["server"]["cpu_user_s"] + data["server"]["cpu_system_s"]
    assert SERVER_CPU.of(trial) == pytest.approx(cpu_s * 1e6 / data["counts"]["completed"])
    assert P99.of(trial) == data["latency_ns"]["p99"]
    first, second = (worker["requests"] for worker in data["server"]["workers"])
    assert worker_shares(trial) == pytest.approx([2 * first / (first + second), 2 * second / (first + second)])
    failed = next(trial for trial in run.trials if trial.error is not None)
    assert {metric.of(failed) for metric in METRICS} == {None}


def test_who_only_hands_requests_on_is_no_worker(run: Run) -> None:
    trial = next(trial for trial in run.trials if trial.scenario.execution == "dispatch" and trial.error is None)
    listener = WorkerUse(2, 4002, 64, 0, 0.2)
    idle = WorkerUse(3, 4003, 0, 0, 0.0)
    server = dataclasses.replace(trial.server, workers=(*trial.server.workers, listener))
    assert worker_shares(dataclasses.replace(trial, server=server)) == worker_shares(trial)
    server = dataclasses.replace(trial.server, workers=(*trial.server.workers, idle))
    assert worker_shares(dataclasses.replace(trial, server=server))[-1] == 0.0


def test_a_summary_is_the_median_of_its_trials_and_a_failed_one_is_missing(run: Run) -> None:
    dispatch = next(summary for summary in summaries(run) if summary.scenario.execution == "dispatch")
    values = sorted(dispatch.by_round(THROUGHPUT).values())
    estimate = dispatch.estimate(THROUGHPUT)
    assert estimate is not None
    assert (estimate.n, estimate.value) == (4, pytest.approx((values[1] + values[2]) / 2))
    assert 1 not in dispatch.by_round(THROUGHPUT)
    assert len(dispatch.failures) == 1


def test_doubts_are_counted_by_kind_the_fatal_first(run: Run) -> None:
    udp = next(s for s in summaries(run) if s.scenario.protocol == "udp" and s.scenario.group == "protocols")
    assert [(tally.kind, tally.fatal, tally.rounds) for tally in udp.doubts] == [
        ("generator-saturated", True, (0, 2, 3)),
        ("errors", False, (0, 1, 2, 3, 4)),
    ]
    assert udp.fatal
    assert "in 3 of 5 rounds" in (udp.why_no_verdict or "")
    assert udp.scenario.name in (udp.why_no_verdict or "")
    http1 = next(s for s in summaries(run) if s.scenario.protocol == "http1" and s.scenario.group == "protocols")
    assert not http1.fatal
    assert http1.why_no_verdict is None


def test_every_kind_of_doubt_has_words() -> None:
    for meaning in doubts.MEANINGS.values():
        assert meaning.short[0].islower()
        assert not meaning.short.endswith(".")
        assert meaning.words.endswith(".")


def test_tables_hold_medians_with_intervals_and_leave_out_what_nothing_measured(run: Run) -> None:
    protocols, *_, rates = groups(run)
    made = table(protocols)
    assert [column.head for column in made.columns] == [
        "answered",
        "p50",
        "p99",
        "max",
        "server CPU a request",
        "failed",
    ]
    assert "of offered" in [column.head for column in table(rates).columns]
    udp = made.rows[-1]
    assert (udp.label, udp.mark) == ("udp", "†")
    assert udp.doubts == ("generator-saturated 3/5 †", "errors 5/5")
    assert "in 3 of 5 rounds" in udp.note
    estimate = protocols.summaries[0].estimate(THROUGHPUT)
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    cell = made.rows[0].cells[0]
    assert cell.text == f"{estimate.value:,.0f}/s"
    assert cell.interval == f"{estimate.low:,.0f}–{estimate.high:,.0f}/s"
    assert cell.value == estimate.value


def test_what_no_trial_measured_says_so(tmp_path: Path) -> None:
    data = build_run(plans=[Plan("g", "http1"), Plan("g", "tcp")], rounds=3)
    for trial in data["trials"]:
        if trial["scenario"]["protocol"] == "tcp":
            trial["server"]["cpu_user_s"] = None
    (group,) = groups(load(tmp_path, data))
    made = table(group)
    cpu = [column.head for column in made.columns].index("server CPU a request")
    assert made.rows[0].cells[cpu].value is not None
    assert (made.rows[1].cells[cpu].text, made.rows[1].cells[cpu].value) == ("not measured", None)


def test_unsupported_scenarios_are_kept_with_their_reason(run: Run) -> None:
    assert [(item.scenario.protocol, item.why) for item in unsupported(run)] == [
        ("udp", "udp has no connections, so there is none to give a thread to")
    ]


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (0.00001, "< 0.01 %"), (0.0123, "1.23 %"), (0.9999, "100 %"), (1.0, "100 %")]
)
def test_shares_tell_none_from_few(share: float, words: str) -> None:
    assert show_share(share) == words
