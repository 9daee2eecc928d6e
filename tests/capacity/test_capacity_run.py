"""A whole run on a service that exists as arithmetic: its stages, what is kept, and how it ends when all goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.report.capacity import write_capacity_page
from bench import cli
from bench.capacity import CapacityRun, Settings, settings_of
from bench.capacityfile import CapacityFile
from bench.capacityview import capacity_view, exit_code
from bench.errors import TargetError
from bench.objectives import DEFAULT, parse_objectives
from bench.placement import Placement
from bench.subjects import Subject
from tests.capacity import simulated

SECOND_NS = 1_000_000_000


def asked(*objectives: str, most: str = "1000/s", plan: str | None = None) -> Settings:
    wanted = parse_objectives(objectives or (DEFAULT,), 5 * SECOND_NS)
    return settings_of(wanted, "constant", "20/s", most, "500ms", "1s", "4", target=plan, headroom="30%", growth="20%")


def fake(limit_per_s: float, workers: int = 2, dies_at: float = 1e9, fails_at: float = 1e9) -> Subject:
    """A service of so many workers with that limit. From a rate on it is not there any more, or answers with errors."""
    gone = False

    def measure(load: str, duration_ns: int, seed: int) -> dict[str, Any]:
        nonlocal gone
        if gone:
            raise TargetError("cannot connect: is the server running?")
        kind, _, amount = load.partition(":")
        rate = float(amount.removesuffix("/s")) if kind == "open" else min(limit_per_s, limit_per_s / 2 * int(amount))
        trial = simulated.trial(workers, simulated.fixed(workers / limit_per_s), rate, duration_ns / 1e9, seed)
        gone = rate >= dies_at
        if rate >= min(fails_at, dies_at):
            trial["counts"] |= {"completed": trial["counts"]["completed"] // 2, "errors": {"status": 1}}
        return {**trial, "scenario": {"load": load, "duration_ns": duration_ns}}

    return Subject(f"fake × {workers}", measure, False, "prefork", workers)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs all stages, and gives what the file holds in the end."""

    def all_stages(settings: Settings, subject: Subject, *others: Subject) -> dict[str, Any]:
        file = CapacityFile(tmp_path / "c.json", settings.record(), 7, Placement((0,), (1,)), ["wirebench", "capacity"])
        CapacityRun(settings, 7, file, lambda _line: None).run(subject, others)
        kept: dict[str, Any] = json.loads((tmp_path / "c.json").read_text())
        return kept

    return all_stages


def test_every_stage_is_kept_and_shown(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = asked("p99<60ms", "p90<40ms", most="400/s", plan="1000/s")
    record = run(settings, fake(100.0), fake(200.0, workers=4))
    assert (record["kind"], record["schema"], record["status"]) == ("wirebench-capacity", 1, "complete")
    answer, *others = record["searches"]
    assert 95 <= answer["rate_per_s"] <= 102
    assert answer["reason"] == "objective"
    assert "latency grew" in answer["why"] or "p9" in answer["why"]
    assert [search["objectives"] for search in others[:2]] == [["p99<60ms"], ["p90<40ms"]]
    assert others[2]["rate_per_s"] == pytest.approx(200, rel=0.05)
    assert {entry["stage"] for entry in record["trials"]} == {"search", "confirm", "curve", "concurrency"}
    assert [point["rate_per_s"] for point in record["curve"]] == sorted(
        point["rate_per_s"] for point in record["curve"]
    )
    assert [found["workers"] for found in record["workers"]] == [2, 4]
    assert record["queue"]["servers"] == 2
    plan = record["plan"][0]
    assert plan["units"] == -(-1200 // (answer["rate_per_s"] * 0.7))
    assert exit_code(record) == 0
    text = capacity_view(record)
    assert text.startswith("fake × 2\ncapacity  ")
    page = write_capacity_page(record, tmp_path / "page").read_text()
    assert page.count("<svg") == 3 + bool(record["scaling"])
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_report_of_a_capacity_file_is_its_page(
    run: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(asked(most="40/s"), fake(100.0))
    kept = str(tmp_path / "c.json")
    assert cli.main(["report", kept, "--out", str(tmp_path / "page"), "--png"]) == 0
    assert "At least 40/s" in (tmp_path / "page" / "report.html").read_text()
    assert (tmp_path / "page" / "images" / "latency.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert cli.main(["report", kept, kept]) == 2
    assert "a capacity file has a page of its own" in capsys.readouterr().err
    record = json.loads((tmp_path / "c.json").read_text())
    record["searched"] = record.pop("searches")
    (tmp_path / "bad.json").write_text(json.dumps(record, separators=(",", ":"), sort_keys=True))  # by another's hand
    assert cli.main(["report", str(tmp_path / "bad.json")]) == 2
    assert "'searches' is a required property" in capsys.readouterr().err


def test_answers_are_told_as_soon_as_they_are_known(tmp_path: Path) -> None:
    settings = asked("p99<60ms", "p90<40ms", most="400/s")
    lines: list[str] = []
    file = CapacityFile(tmp_path / "c.json", settings.record(), 7, Placement((), ()), [])
    CapacityRun(settings, 7, file, lines.append).run(fake(100.0), (fake(200.0, workers=4),))
    said = [line.partition(":")[0] for line in lines if not line.startswith(("search", "confirm", "curve", "concurr"))]
    first = "capacity of fake × 2, p99<60ms and p90<40ms and errors<1%"
    assert said[0] == first
    assert said[-1] == first.replace("× 2", "× 4")
    assert {"knee", "queue"} <= set(said)
    assert lines.index(next(line for line in lines if line.startswith(first))) < len(lines) / 2


def test_a_rate_that_others_refute_is_nothing_to_doubt_the_answer_for(run: Callable[..., dict[str, Any]]) -> None:
    record = run(asked("p99<60ms"), fake(100.0))
    refuted = [entry for entry in record["trials"] if (entry["stage"], entry["outcome"]) == ("confirm", "missed")]
    assert refuted
    assert not any("not steady" in doubt for doubt in record["doubts"])


@pytest.mark.parametrize(("execution", "is_doubted"), [("prefork", True), ("dispatch", False)])
def test_connections_that_fell_unevenly_are_told_with_the_answer(
    run: Callable[..., dict[str, Any]], execution: str, is_doubted: bool
) -> None:
    even = fake(100.0)

    def measure(load: str, duration_ns: int, seed: int) -> dict[str, Any]:
        busy = [{"requests": count, "cpu_s": None} for count in (700, 300)]
        used = {"cpu_user_s": None, "cpu_system_s": None, "deaths": []}
        return even.measure(load, duration_ns, seed) | {"server": {"workers": busy, **used}}

    record = run(asked("p99<60ms"), Subject("uneven", measure, False, execution, 2))
    text = capacity_view(record)
    assert ("the busiest worker got 1.4 times its even share" in text.splitlines()[1]) is is_doubted
    assert ("A model that shares out requests (dispatch) does not." in text) is is_doubted


def test_objectives_that_no_rate_meets(run: Callable[..., dict[str, Any]]) -> None:
    record = run(asked("p99<1ms"), fake(100.0))
    assert exit_code(record) == 1
    assert "no rate meets the objectives; even at 1/s: p99 20 ms (p99<1ms)" in capacity_view(record)
    assert record["curve"][0]["rate_per_s"] == 1.0


def test_a_service_that_answers_with_errors_under_load(run: Callable[..., dict[str, Any]]) -> None:
    record = run(asked("p50<200ms"), fake(100.0, fails_at=60.0))
    assert exit_code(record) == 0
    assert 57 <= record["searches"][0]["rate_per_s"] < 60
    assert "errors 5" in record["searches"][0]["why"]


def test_a_service_that_dies_under_load(run: Callable[..., dict[str, Any]]) -> None:
    record = run(asked("p99<100ms"), fake(100.0, dies_at=60.0))
    assert exit_code(record) == 3
    assert record["searches"][0]["reason"] == "died"
    assert "capacity  none confirmed; short trials were met up to 40/s" in capacity_view(record)
    assert [entry["outcome"] for entry in record["trials"]] == ["met", "met", "missed"]


def test_a_service_that_is_not_there(run: Callable[..., dict[str, Any]]) -> None:
    subject = fake(100.0, dies_at=0.0)
    subject.measure("open:1/s", SECOND_NS, 1)
    with pytest.raises(TargetError):
        run(asked(), subject)


def test_the_highest_rate_allowed(run: Callable[..., dict[str, Any]]) -> None:
    record = run(asked(most="40/s"), fake(100.0))
    assert exit_code(record) == 0
    assert "capacity  at least 40/s" in capacity_view(record)


def test_an_interrupted_run_keeps_what_was_measured(tmp_path: Path) -> None:
    path, settings, subject = tmp_path / "c.json", asked(), fake(100.0)
    file = CapacityFile(path, settings.record(), 7, Placement((), ()), [])
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CapacityRun(settings, 7, file, tell).run(subject, ())
    file.interrupt()
    record = json.loads(path.read_text())
    assert record["status"] == "interrupted"
    assert len(record["trials"]) == 3
