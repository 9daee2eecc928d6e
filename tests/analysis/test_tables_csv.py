"""CSV files hold what the result file holds."""

import csv
import io

from analysis.export.tables_csv import figures_csv, summary_csv
from analysis.load_results import Run
from analysis.metrics import P99, THROUGHPUT
from analysis.summary import summaries


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_trial_with_its_figures(run: Run) -> None:
    written = rows(figures_csv([run]))
    assert len(written) == len(run.trials)
    for row, trial in zip(written, run.trials, strict=True):
        assert (row["run"], row["name"], row["round"]) == ("quick.json", trial.scenario.name, str(trial.round))
        for metric in (THROUGHPUT, P99):
            value = metric.of(trial)
            assert row[metric.name] == ("" if value is None else str(value))
        assert row["fatal_doubts"].split() == [doubt.kind for doubt in trial.doubts if doubt.fatal]
    failed = next(row for row in written if row["error"])
    assert failed["throughput_per_s"] == failed["completed"] == failed["latency_p99_ns"] == ""
    assert any(row["errors_by_kind"].startswith("timeout=") for row in written)


def test_a_row_for_each_scenario_with_intervals(run: Run) -> None:
    written = rows(summary_csv([run, run]))
    assert len(written) == 2 * len(summaries(run))
    for row, summary in zip(written, summaries(run), strict=False):
        estimate = summary.estimate(THROUGHPUT)
        assert estimate is not None
        found = [float(row[f"throughput_per_s_{part}"]) for part in ("median", "low", "high")]
        assert found == [estimate.value, estimate.low, estimate.high]
