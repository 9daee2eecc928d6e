"""What is shown when measuring has ended: the table of a run, the figures and the histogram of a load."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.histograms import Histogram
from bench.loadview import histogram_lines
from bench.output import columns
from bench.reporting import report_folder, run_summary
from tests.analysis.synthetic_run import build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run.json"
    path.write_text(json.dumps(build_run()))
    return path


def test_a_run_has_a_row_for_each_scenario_with_medians_and_intervals(run: Path) -> None:
    text = run_summary(run, width=300)
    data = json.loads(run.read_text())
    scenarios = {(trial["scenario"]["group"], trial["scenario"]["name"]) for trial in data["trials"]}
    rows = [line for line in text.splitlines() if line.startswith("  ") and "/s (" in line and "µs" in line]
    assert len(rows) == len(scenarios)
    one = data["trials"][0]["scenario"]
    rates = [trial["throughput_per_s"] for trial in data["trials"] if trial["scenario"] == one]
    assert f"{np.median(rates):,.0f}/s (" in text


def test_doubts_are_marked_in_the_rows_and_explained_below(run: Path) -> None:
    text = run_summary(run, width=300)
    (number,) = {line.split()[0] for line in text.splitlines() if " noisy-host: " in line}
    explained = text[text.index("\nDoubts\n") :]
    assert "†" in explained
    row = next(line for line in text.splitlines() if line.startswith("  http2") and "/s (" in line)
    assert number in row.split("  ")[-1].replace("†", "").split()
    assert "Trials that gave no figures\n  " in text
    assert "Not supported, and so not run\n  " in text


def test_a_narrow_terminal_gets_intervals_in_lines_of_their_own(run: Path) -> None:
    wide, narrow = run_summary(run, width=300), run_summary(run, width=100)
    assert narrow.count("\n") > wide.count("\n")
    assert max(map(len, narrow.splitlines())) < max(map(len, wide.splitlines()))
    row = next(n for n, line in enumerate(narrow.splitlines()) if line.startswith("  tcp") and "/s" in line)
    assert "–" in narrow.splitlines()[row + 1]
    assert all(len(line) <= 100 for line in narrow[narrow.index("\nDoubts\n") :].splitlines())


def test_where_reports_go() -> None:
    assert report_folder(Path("results/runs/x.json")) == Path("results/reports/x")
    assert report_folder(Path("elsewhere/x.json")) == Path("elsewhere/x-report")
    assert report_folder(Path("x.json")) == Path("x-report")


def test_columns_are_aligned() -> None:
    assert columns([["a", "1"], ["bcd", "22", "x"]], right=[1], indent=1) == " a     1\n bcd  22  x"
    assert columns([]) == ""


def test_a_histogram_counts_every_latency_between_round_numbers() -> None:
    values = np.array([999, 1000, 1001, 2001, 70_000], np.int64)
    counts = np.array([1, 2, 97, 900, 1], np.int64)
    title, *lines = histogram_lines(Histogram(values, counts)).splitlines()
    assert "log scale" in title
    shown = [(line.strip().split("  ")[0], line.split()[-3].replace(",", "")) for line in lines]
    assert shown[:3] == [("≤ 1 µs", "3"), ("≤ 2 µs", "97"), ("≤ 5 µs", "900")]
    assert shown[-1] == ("≤ 100 µs", "1")
    assert [int(count) for _, count in shown if count.isdigit()].count(0) == len(lines) - 4
    bars = [line.count("█") for line in lines]
    assert bars[2] == max(bars) == 40
    assert 0 < bars[-1] < bars[0] < bars[1] < bars[2]


def test_a_histogram_of_one_latency() -> None:
    _, line = histogram_lines(Histogram(np.array([1500], np.int64), np.array([7], np.int64))).splitlines()
    assert line.split()[:3] == ["≤", "2", "µs"]
    assert line.endswith("7  100 %")
