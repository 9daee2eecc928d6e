"""Results as other programs read them, by those programs or their parsers."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from synthetic_run import Plan, build_run

from analysis.export import OF_COMPARISON, OF_RUN
from analysis.load_results import Run, load_run
from analysis.metrics import P50, THROUGHPUT
from analysis.regression import METRICS, RunComparison, compare_runs
from bench.registry import load


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and one in which latency is half as long again and nothing else differs."""
    folder = tmp_path_factory.mktemp("exports")
    found = []
    for name, factor in (("base", 1.0), ("head", 1.5)):
        data = build_run(rounds=12, plans=[Plan("run", "http1"), Plan('a "b"|<c>', "tcp")], noise=0.005)
        for trial in data["trials"]:
            trial["latency_ns"] |= {key: trial["latency_ns"][key] * factor for key in ("p50", "p99")}
        found.append(folder / f"{name}.json")
        found[-1].write_text(json.dumps(data), encoding="utf-8")
    return found[0], found[1]


@pytest.fixture(scope="module")
def run(paths: tuple[Path, Path]) -> Run:
    return load_run(paths[0])


@pytest.fixture(scope="module")
def comparison(paths: tuple[Path, Path]) -> RunComparison:
    return compare_runs(load_run(paths[0]), load_run(paths[1]), margin=0.05)


def written(name: str, of: Run | RunComparison) -> str:
    text: str = load((OF_RUN if isinstance(of, Run) else OF_COMPARISON)[name])(of)
    return text


def test_junit_holds_a_case_for_each_question(comparison: RunComparison) -> None:
    root = ElementTree.fromstring(written("junit", comparison))
    assert root.tag == "testsuites"
    for suite in root:
        cases = list(suite)
        assert suite.attrib["tests"] == str(len(cases)) == str(len(METRICS))
        assert suite.attrib["failures"] == str(len(suite.findall("testcase/failure"))) == "2"
        assert {case.attrib["classname"] for case in cases} == {suite.attrib["name"]}
        failed = {case.attrib["name"] for case in cases if case.find("failure") is not None}
        assert failed == {"latency_p50_ns", "latency_p99_ns"}


def test_github_gets_an_annotation_a_line(comparison: RunComparison) -> None:
    lines = written("github", comparison).splitlines()
    errors = [line for line in lines if line.startswith("::error title=wirebench%3A worse::")]
    assert len(errors) == 4
    assert all("latency" in line and "+50.0 %25" in line for line in errors)


def test_markdown_has_a_row_of_seven_cells_for_each_question(comparison: RunComparison) -> None:
    lines = [line for line in written("markdown", comparison).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(comparison.answers)
    assert {line.replace(r"\|", "").count("|") for line in lines} == {8}
    assert "worse" in lines[2]
    assert "<c>" not in "".join(lines)


def test_csv_has_the_fields_of_the_json(comparison: RunComparison) -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", comparison))))
    assert [row["change"] for row in rows] == [str(one.change) for one in comparison.answers]
    assert set(rows[0]) == set(comparison.record()["answers"][0])


def test_figures_as_csv_have_a_row_for_each_trial(run: Run) -> None:
    assert len(list(csv.DictReader(io.StringIO(written("csv", run))))) == len(run.trials)


def test_pyperf_compares_two_runs(paths: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("pyperf")
    files = []
    for path in paths:
        files.append(tmp_path / path.name)
        files[-1].write_text(written("pyperf", load_run(path)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", *map(str, files)], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stdout.split())
    assert "http1 single closed:64 echo 64B: latency_p50_ns" in said
    assert "1.50x slower" in said
    assert "time_per_answer_ns" in said.partition("hidden")[2]


def test_github_action_benchmark_gets_what_is_smaller_for_better(run: Run) -> None:
    entries = json.loads(written("github-action-benchmark", run))
    assert len(entries) == len({entry["name"] for entry in entries}) == 2 * len(METRICS)
    assert all(isinstance(entry["value"], float) and entry["unit"] for entry in entries)
    rates = [trial.throughput_per_s for trial in run.trials if trial.scenario.protocol == "http1"]
    (each,) = (one for one in entries if one["name"].startswith("http1") and "time_per_answer" in one["name"])
    assert 1e9 / max(filter(None, rates)) <= each["value"] <= 1e9 / min(filter(None, rates))


def test_bencher_gets_measures_with_bounds(run: Run) -> None:
    found = json.loads(written("bencher", run))
    assert len(found) == 2
    for benchmark, measures in found.items():
        assert len(benchmark) <= 1024  # of a name, as its reference says; a measure's name has 64
        assert all(len(name) <= 64 for name in measures)
        measure = measures[P50.name]
        assert measure["lower_value"] <= measure["value"] <= measure["upper_value"]


def test_openmetrics_is_read_by_its_parser(run: Run) -> None:
    text = written("openmetrics", run)
    assert text.endswith("# EOF\n")
    assert f"wirebench_{THROUGHPUT.name}" in text
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    family = families["wirebench_latency_p50_seconds"]
    assert family.unit == "seconds"
    assert len(family.samples) == 6
    assert any(sample.labels["scenario"].startswith('a "b"|<c>: ') for sample in family.samples)
    assert {sample.labels["estimate"] for sample in family.samples} == {"median", "low", "high"}
