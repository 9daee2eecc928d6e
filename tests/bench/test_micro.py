"""Microbenchmarks: each does its work, and pyperf reads what comes out."""

import json
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.micro import BENCHMARKS
from bench.microview import run_micro


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_does_the_same_work_again_and_again(name: str) -> None:
    work = BENCHMARKS[name]()
    assert work() == work()


def test_an_unknown_one_is_refused_and_nothing_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="http1-request-parse"):
        run_micro(["nonsense"], True, None)
    kept = tmp_path / "kept.json"
    kept.touch()
    with pytest.raises(UsageError, match="exists already"):
        run_micro([], True, kept)


@pytest.mark.long
def test_pyperf_times_them_in_processes_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("pyperf")
    table, text = run_micro(["tcp-frame-parse", "hpack-encode"], True, tmp_path / "out.json")
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["tcp-frame-parse", "hpack-encode"]
    assert len(json.loads(text)["benchmarks"]) == 2
