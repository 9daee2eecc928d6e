"""Reading result files: what good ones give, and the one line that bad ones get."""

import copy
import gzip
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from synthetic_run import Plan, build_run

from analysis.doubts import MEANINGS
from analysis.load_results import Run, load_run
from bench.doubts import DoubtKind
from bench.errors import UsageError
from bench.resultfile import KIND, SCHEMA_VERSION

SCHEMA: dict[str, Any] = json.loads((files("bench") / "run.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return build_run(plans=[Plan("g", "http1"), Plan("g", "http1", "dispatch", troubles=frozenset({"failed"}))])


def test_a_good_file_gives_its_run(run: Run, run_path: Path) -> None:
    data = json.loads(run_path.read_text(encoding="utf-8"))
    assert (run.suite, run.seed, run.rounds, run.status) == ("quick", 1, 5, "complete")
    assert run.command == tuple(data["command"])
    assert len(run.trials) == len(data["trials"])
    trial, raw = run.trials[0], data["trials"][0]
    assert trial.latency_ns is not None
    assert trial.latency_ns.p99 == raw["latency_ns"]["p99"]
    assert trial.counts is not None
    assert trial.counts.failed == sum(raw["counts"]["errors"].values()) + raw["counts"]["dropped"]
    assert [worker.requests for worker in trial.server.workers] == [w["requests"] for w in raw["server"]["workers"]]
    assert trial.where.endswith("quick.json: $.trials[0]")


def test_what_was_not_measured_is_none_never_zero(run: Run) -> None:
    failed = next(trial for trial in run.trials if trial.error is not None)
    assert failed.counts is None
    assert failed.throughput_per_s is None
    assert failed.latency_ns is None
    assert failed.client.cpu_user_s is None
    assert failed.server.workers == ()


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_names_that_are_not_known_are_ignored(tmp_path: Path, small: dict[str, Any]) -> None:
    data = copy.deepcopy(small)
    data["colour"] = "blue"
    data["trials"][0]["scenario"]["mood"] = "good"
    assert len(load_run(write(tmp_path / "more.json", data)).trials) == 10


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: d.update(kind="something"), "not a wirebench result file"),
        (lambda d: d.update(schema=2), "schema version 2, and this wirebench reads up to 1; update wirebench"),
        (lambda d: d.update(schema="1"), "$.schema"),
        (lambda d: d.pop("seed"), "'seed' is a required property"),
        (lambda d: d.update(status="done"), "$.status: 'done' is not one of"),
        (lambda d: d.update(started="yesterday"), "$.started"),
        (lambda d: d["trials"][3]["counts"].update(sent=-1), "$.trials[3].counts.sent: -1 is less than the minimum"),
        (lambda d: d["trials"][2].pop("doubts"), "$.trials[2]: 'doubts' is a required property"),
        (
            lambda d: d["trials"][0].update(throughput_per_s="fast"),
            "$.trials[0].throughput_per_s: 'fast' is not of type",
        ),
        (lambda d: d["trials"][0]["scenario"].update(workers=0), "$.trials[0].scenario.workers: 0 is less than"),
        (lambda d: d["trials"][0]["scenario"].update(name="a\u0000b"), "$.trials[0].scenario.name"),
        (lambda d: d["trials"][0]["scenario"].update(load="fast"), "$.trials[0].scenario.load"),
        (lambda d: d["trials"][0].update(doubts=[{"kind": "odd", "fatal": True, "detail": ""}]), "doubts[0].kind"),
        (lambda d: d["trials"][0].update(latency_ns={"count": 1}), "$.trials[0].latency_ns: 'mean' is a required"),
        (lambda d: d.update(trials={"a": "x" * 5000}), "$.trials: does not keep the rule type"),
    ],
)
def test_a_file_that_breaks_the_schema_gets_one_line_that_names_the_place(
    tmp_path: Path, small: dict[str, Any], spoil: Spoil, says: str
) -> None:
    data = copy.deepcopy(small)
    spoil(data)
    path = write(tmp_path / "bad.json", data)
    with pytest.raises(UsageError) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("{", "is cut short"),
        ('{"kind": "wirebench-run", "tri', "is cut short"),
        ('{"kind" 3}', "is not valid JSON: line 1, column 9"),
        ("[1, 2]", "not a wirebench result file"),
        ("hello", "is not valid JSON"),
        ('{"kind": NaN}', "NaN is no number; what was not measured is null"),
        ('{"kind": 1e999}', "1e999 is out of range"),
        ('{"kind": "\\ud800"}', "not UTF-8"),
        ("[" * 100_000, "is not valid JSON"),
        (f'{{"kind": {"9" * 5000}}}', "is not valid JSON"),
    ],
)
def test_what_is_no_json_gets_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "bad.json", text)
    with pytest.raises(UsageError) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_a_usage_error(tmp_path: Path, small: dict[str, Any]) -> None:
    text = json.dumps(small)
    for cut in range(0, len(text) - 1, len(text) // 37):
        with pytest.raises(UsageError):
            load_run(write(tmp_path / "cut.json", text[:cut]))


def test_a_file_may_be_compressed(tmp_path: Path, small: dict[str, Any]) -> None:
    packed = gzip.compress(json.dumps(small).encode())
    path = tmp_path / "quick.json.gz"
    path.write_bytes(packed)
    assert len(load_run(path).trials) == len(small["trials"])
    for spoilt, says in (
        (packed[:-20], "is cut short"),
        (packed[:-8] + b"\0" * 8, "cannot be decompressed"),
        (packed[:10] + b"\xff" * 20 + packed[30:], "cannot be decompressed"),
        (gzip.compress(b"nothing"), "is not valid JSON"),
    ):
        path.write_bytes(spoilt)
        with pytest.raises(UsageError, match=says):
            load_run(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(UsageError, match="not UTF-8 text"):
        load_run(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: no such file"):
        load_run(tmp_path / "none.json")
    with pytest.raises(UsageError, match="is a folder"):
        load_run(tmp_path)


def test_the_schema_is_one_and_agrees_with_the_writer() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["kind"]["const"] == KIND
    assert SCHEMA["properties"]["schema"]["const"] == SCHEMA_VERSION
    kinds = SCHEMA["$defs"]["trial"]["properties"]["doubts"]["items"]["properties"]["kind"]["enum"]
    assert kinds == list(MEANINGS) == [str(kind) for kind in DoubtKind]


def test_the_page_about_results_explains_every_field() -> None:
    page = (Path(__file__).parents[2] / "results" / "README.md").read_text(encoding="utf-8")
    names = set()

    def collect(schema: Any) -> None:
        if isinstance(schema, dict):
            names.update(schema.get("properties", {}))
            for part in schema.values():
                collect(part)
        elif isinstance(schema, list):
            for part in schema:
                collect(part)

    collect(SCHEMA)
    assert {"throughput_per_s", "cpu_share_max", "deaths", "queue_limit"} <= names
    assert {name for name in names if f"`{name}`" not in page} == set()
