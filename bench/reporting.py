"""What a run is turned into when it has ended: a table for the terminal, a report."""

from collections.abc import Sequence
from pathlib import Path

from bench.run import RUNS

REPORTS = RUNS.parent / "reports"


def summary(path: Path) -> str:
    """The table of a result file: a row for each scenario, and the doubts below."""
    return str(path)


def report_folder(run: Path) -> Path:
    """Where the report of a run goes that nobody named a place for: beside the run, and in results/reports for those in
    results/runs."""
    return REPORTS / run.stem if run.parent == RUNS else run.with_name(f"{run.stem}-report")


def write_report(runs: Sequence[Path], folder: Path, png: bool = False, svg: bool = False) -> Path:
    """Write the report of these runs into a folder. Gives the page. Raises UsageError, OutputError."""
    from analysis import report

    return report.write_report(runs, folder, png=png, svg=svg)
