"""What is compared with what: protocols under the same conditions, and one protocol under different ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import Plan, build_run, protocol_facts

from analysis.compare import Outcome, compare_summaries
from analysis.doubts import MEANINGS
from analysis.headlines import headlines
from analysis.labels import shared
from analysis.load_results import Run, load_run
from analysis.matching import UNMATCHED, show_tls
from analysis.metrics import REACH, THROUGHPUT
from analysis.properties import FIRST, LATER, property_table
from analysis.summary import Group, groups
from analysis.tables import table
from bench.errors import UsageError
from bench.reporting import run_summary

MIXED = [
    Plan("g", "http1"),
    Plan("g", "http2"),
    Plan("g", "http1", stack="hypercorn"),
    Plan("g", "http2", stack="hypercorn"),
    Plan("g", "http1", tls="1.3"),
]
PUSH = [Plan("g", protocol, load="open:5000/s", pattern="push") for protocol in ("sse", "websocket")]


def load(tmp_path: Path, plans: list[Plan], **more: Any) -> Run:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(build_run(plans=plans) | more), encoding="utf-8")
    return load_run(path)


def only_group(tmp_path: Path, plans: list[Plan]) -> Group:
    (group,) = groups(load(tmp_path, plans))
    return group


def test_a_group_is_parted_by_what_makes_protocols_comparable(tmp_path: Path) -> None:
    group = only_group(tmp_path, MIXED)
    assert [(part.words, [group.label(s) for s in part.summaries]) for part in group.parts] == [
        ("lean tier, no TLS", ["http1", "http2"]),
        ("lean tier, TLS 1.3", ["http1 · TLS 1.3"]),
        ("library tier: hypercorn, no TLS", ["http1 · hypercorn", "http2 · hypercorn"]),
    ]
    assert [summary for part in group.parts for summary in part.summaries] == list(group.summaries)


def test_contests_stay_inside_a_part_or_a_protocol(tmp_path: Path) -> None:
    contests = only_group(tmp_path, MIXED).contests
    assert [(c.work, [c.label(member) for member in c.members]) for c in contests] == [
        ("lean tier, no TLS", ["http1", "http2"]),
        ("library tier: hypercorn, no TLS", ["http1", "http2"]),
        ("http1", ["lean", "hypercorn"]),
        ("http2", ["lean", "hypercorn"]),
        ("http1", ["no TLS", "TLS 1.3"]),
    ]


def test_stacks_are_compared_with_the_same_tls(tmp_path: Path) -> None:
    plans = [Plan("g", "http1", stack=stack, tls=tls) for stack in ("lean", "uvicorn") for tls in ("off", "1.3")]
    group = only_group(tmp_path, plans)
    assert [(part.words, [group.label(s) for s in part.summaries]) for part in group.parts] == [
        ("no TLS", ["lean", "uvicorn"]),
        ("TLS 1.3", ["TLS 1.3", "uvicorn · TLS 1.3"]),
    ]
    assert [summary for part in group.parts for summary in part.summaries] == list(group.summaries)
    assert [contest.work for contest in group.contests] == ["no TLS", "TLS 1.3", "lean", "uvicorn"]


@pytest.mark.parametrize(
    "plans",
    [
        [Plan("g", p, stack="hypercorn", tls="1.3") for p in ("http1", "http2", "http3", "websocket")],
        [Plan("g", "websocket", stack=stack) for stack in ("lean", "websockets", "hypercorn")],
        [Plan("g", "http1", client=client, tls="1.3") for client in ("lean", "httpx")],
        [Plan("g", "http1", tls=tls) for tls in ("off", "1.2", "1.3")],
    ],
)
def test_what_is_matched_is_one_part_and_one_contest(tmp_path: Path, plans: list[Plan]) -> None:
    group = only_group(tmp_path, plans)
    assert [part.words for part in group.parts] == [""]
    assert [len(contest.members) for contest in group.contests] == [len(plans)]
    assert len({group.label(summary) for summary in group.summaries}) == len(plans)


def test_http3_on_a_library_does_not_compete_with_lean_protocols(tmp_path: Path) -> None:
    group = only_group(tmp_path, [Plan("g", p, tls="1.3") for p in ("http1", "http2", "http3")])
    assert [part.words for part in group.parts] == [
        "lean tier, TLS 1.3",
        "library tier: lean ends around a library, TLS 1.3",
    ]
    assert not any("http3" in headline.text for headline in headlines(group))


def test_an_unmatched_comparison_has_no_verdict(tmp_path: Path) -> None:
    group = only_group(tmp_path, MIXED)
    http1, http2, http1_tls, hypercorn1, hypercorn2 = group.summaries
    across = compare_summaries(http1, hypercorn2, THROUGHPUT)
    assert across.outcome is Outcome.NO_VERDICT
    assert across.why_not == MEANINGS[UNMATCHED].short
    assert compare_summaries(http1, http1_tls, THROUGHPUT).why_not is None
    assert compare_summaries(hypercorn1, hypercorn2, THROUGHPUT).why_not is None
    assert compare_summaries(http1, http2, THROUGHPUT).why_not is None


def test_tables_keep_parts_apart_and_the_terminal_says_why(tmp_path: Path) -> None:
    group = only_group(tmp_path, MIXED)
    assert [(words, len(rows)) for words, rows in table(group).parts] == [
        ("lean tier, no TLS", 2),
        ("lean tier, TLS 1.3", 1),
        ("library tier: hypercorn, no TLS", 2),
    ]
    for width in (300, 80):
        text = run_summary(tmp_path / "run.json", width)
        lines = text.splitlines()
        place = lines.index("  [library tier: hypercorn, no TLS]")
        assert lines[place + 1].startswith("  http1 · hypercorn")
        assert "unmatched-stacks: Scenarios side by side here differ" in " ".join(text.split())


def test_shared_conditions_are_said_once(tmp_path: Path) -> None:
    group = only_group(tmp_path, [Plan("g", p, tls="1.3", client="httpx") for p in ("http1", "http2")])
    said = shared([summary.scenario for summary in group.summaries])
    assert said.startswith("lean stack, from httpx, TLS 1.3, echo, ")
    assert [show_tls(tls) for tls in ("off", "1.2", "dtls1.2", "1.2 or later")] == [
        "no TLS",
        "TLS 1.2",
        "DTLS 1.2",
        "TLS 1.2 or later",
    ]


def test_files_from_before_there_were_clients_and_tls_are_read(tmp_path: Path) -> None:
    data = build_run(plans=[Plan("g", "http1")], rounds=2)
    for trial in (*data["trials"], *data["unsupported"]):
        del trial["scenario"]["client"], trial["scenario"]["tls"]
        trial.pop("delivery", None)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    run = load_run(path)
    assert (run.trials[0].scenario.client, run.trials[0].scenario.tls) == ("lean", "off")
    assert (run.trials[0].delivery, run.protocols) == (None, {})


# Push


def test_pushed_events_are_deliveries_with_their_reach(tmp_path: Path) -> None:
    group = only_group(tmp_path, PUSH)
    made = table(group)
    heads = [column.head for column in made.columns]
    assert {"delivered", "server CPU a delivery", "reach"} <= set(heads)
    assert made.rows[0].cells[heads.index("reach")].text == "99 %"
    reach = group.summaries[0].estimate(REACH)
    assert reach is not None
    assert reach.value == pytest.approx(10_000 / 10_100, rel=0.01)
    said = shared([summary.scenario for summary in group.summaries])
    assert "push" in said
    assert "64 subscribers" in said
    assert "echo" not in said


def test_deliveries_are_compared_by_their_delay(tmp_path: Path) -> None:
    first, second = headlines(only_group(tmp_path, PUSH))
    assert first.major
    assert "had the lowest p99 from publishing to delivery, " in first.text
    assert "used the least server CPU for a delivery" in second.text


def test_deliveries_and_answers_do_not_compete(tmp_path: Path) -> None:
    group = only_group(
        tmp_path, [*PUSH, Plan("g", "websocket", load="open:5000/s"), Plan("g", "http1", load="open:5000/s")]
    )
    for contest in group.contests:
        assert len({member.scenario.is_push for member in contest.members}) == 1


# Properties


def test_the_property_table_has_a_column_for_each_protocol(tmp_path: Path) -> None:
    run = load(tmp_path, [Plan("g", "http1")], protocols=protocol_facts("http1", "tcp"))
    made = property_table(run.protocols)
    assert made.names == ("http1", "tcp")
    rows = dict(made.rows)
    assert list(rows) == ["data format", "flow and congestion control", "default port", FIRST, LATER]
    assert rows["data format"] == (("binary frames",), ("binary frames",))
    assert rows[LATER][0] == ("↑ 130 ↓ 180, no TLS", "not counted, TLS 1.3: its server did not start")


def test_counted_bytes_are_checked(tmp_path: Path) -> None:
    facts = protocol_facts("http1")
    facts["http1"]["counted"][0]["first"]["sent_bytes"] = -1
    with pytest.raises(UsageError, match=r"first.sent_bytes"):
        load(tmp_path, [Plan("g", "http1")], protocols=facts)
