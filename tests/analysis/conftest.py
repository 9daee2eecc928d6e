"""A made-up result file that tests of the analysis share."""

import json
from pathlib import Path

import pytest
from synthetic_run import build_run

from analysis.load_results import Run, load_run
from analysis.report import write_report


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "quick.json"
    path.write_text(json.dumps(build_run()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run(run_path: Path) -> Run:
    return load_run(run_path)


@pytest.fixture(scope="session")
def page(run_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that file."""
    return write_report([run_path], tmp_path_factory.mktemp("report"))
