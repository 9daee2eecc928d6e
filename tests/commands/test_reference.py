"""The published run: what `make reference` measures, and that it is small enough to be committed."""

import shlex
import subprocess
from pathlib import Path

import pytest

from analysis.load_results import load_run
from bench import environment
from bench.childprocess import ROOT
from bench.placement import choose_placement
from bench.selection import choose_suite
from bench.suites import suite_names

LIMIT_BYTES = 15_000_000


def make(*words: str) -> str:
    """What make says of a goal. The environment is there, however old its marker is."""
    done = subprocess.run(
        ["make", "--old-file=.venv/.ready", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_reference_run_is_every_claim_and_every_suite(tmp_path: Path) -> None:
    lines = make("--dry-run", "reference", f"REFERENCE={tmp_path}").splitlines()
    commands = [shlex.split(line.partition("||")[0])[1:] for line in lines if "/wirebench " in line]
    (claims,) = [command for command in commands if command[0] == "claims"]
    runs = [command for command in commands if command[0] == "run"]
    assert commands == [claims, *runs]
    assert sorted(name for _, name, *_ in runs) == suite_names()
    for _, name, *words in runs:
        options: dict[str, list[str]] = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            options.setdefault(option.removeprefix("--"), []).append(value)
        assert options.pop("json") == [f"{tmp_path}/suites/{name}.json"]
        assert options.pop("seed") == ["1"]
        whole = choose_suite(name, {})
        assert int(options.pop("rounds", [str(whole.rounds)])[0]) >= 3
        assert len(choose_suite(name, options).scenarios) == len(whole.scenarios)


def test_a_suite_of_it_is_measured_once(tmp_path: Path) -> None:
    asked = ("suites", f"REFERENCE={tmp_path}", "SUITES=quick")
    make(*asked, f"quick=--rounds 1 --protocol tcp --warmup 0s --duration 100ms --out {tmp_path}/runs")
    kept = tmp_path / "suites" / "quick.json.gz"
    run = load_run(kept)
    assert (run.suite, run.status, len(run.trials)) == ("quick", "complete", 1)
    before = kept.read_bytes()
    make(*asked)
    assert kept.read_bytes() == before


def test_the_reference_run_is_small() -> None:
    files = [path for path in (ROOT / "results" / "reference").rglob("*") if path.suffix in (".json", ".gz", ".svg")]
    assert 0 < sum(path.stat().st_size for path in files) <= LIMIT_BYTES


def test_measuring_it_is_no_change_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "bench" / "environment.py"))

    def is_dirty() -> bool:
        return bool(environment.describe(choose_placement(1))["wirebench"]["dirty"])

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "quick.json").write_text("{}")
    assert not is_dirty()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "trial.py").write_text("")
    assert is_dirty()
