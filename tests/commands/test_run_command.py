"""`wirebench run` as its users run it: real servers, real load, very short."""

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import cli, resultfile
from tests.commands.conftest import DEADLINE_S, Command
from tests.run_file import read_run_file

SHORT = ("--load", "closed:2", "--warmup", "20ms", "--duration", "60ms")


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "results" / "runs").glob("*"))


def wait_until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.01)


def trials_in(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return len(json.loads(text)["trials"]) if text else 0


def test_scenarios_from_options(wirebench: Command, tmp_path: Path) -> None:
    done = wirebench("run", "--protocol", "http1,tcp", *SHORT, "--load", "closed:3", "--rounds", "1", "--seed", "7")
    assert done.returncode in (0, 3), done.stderr  # 3: a machine too busy for so short a trial
    (path,) = runs(tmp_path)
    data = read_run_file(path)
    assert (data["status"], data["seed"], data["rounds"], data["suite"]) == ("complete", 7, 1, "run")
    assert data["command"][:2] == ["wirebench", "run"]
    asked = sorted((t["scenario"]["protocol"], t["scenario"]["load"], t["round"]) for t in data["trials"])
    assert asked == [(protocol, load, 0) for protocol in ("http1", "tcp") for load in ("closed:2", "closed:3")]
    assert sum(trial["counts"]["completed"] for trial in data["trials"]) > 0  # a busy machine may leave one out
    assert done.stdout.splitlines()[-1] == f"results/runs/{path.name}"
    for word in ("http1", "tcp", "closed:3", "answered", "p50", "p99", "server CPU", "load CPU"):
        assert word in done.stdout
    assert set(data["protocols"]) == {"http1", "tcp"}
    counting, *progress = done.stderr.splitlines()
    assert "counting" in counting
    assert [line.split("]")[0] for line in progress] == [f"[{number}/4" for number in range(1, 5)]


def test_a_suite_with_options(wirebench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "rounds = 9\n[defaults]\nprotocol = ['http1', 'tcp', 'udp']\nexecution = ['single', 'threads']\nworkers = 2\n"
        "duration = '60ms'\nwarmup = '0s'\n[[group]]\ntitle = 'first'\nload = ['closed:1', 'closed:2']\n"
    )
    done = wirebench(
        "run", "mine.toml", "--protocol", "tcp,udp", "--load", "closed:3", "--rounds", "1", "--json", "-", "--out", "x"
    )
    assert done.returncode in (0, 3), done.stderr  # 3: a machine too busy for so short a trial
    data = json.loads(done.stdout)
    ran = sorted((t["scenario"]["protocol"], t["scenario"]["execution"], t["scenario"]["load"]) for t in data["trials"])
    assert ran == [("tcp", "single", "closed:3"), ("tcp", "threads", "closed:3"), ("udp", "single", "closed:3")]
    (refused,) = data["unsupported"]
    assert (refused["scenario"]["protocol"], refused["scenario"]["execution"]) == ("udp", "threads")
    (path,) = (tmp_path / "x").iterdir()
    assert path.read_text() == done.stdout


def test_report_names_the_page(wirebench: Command, tmp_path: Path) -> None:
    done = wirebench("run", *SHORT, "--rounds", "1", "--report", "--out", "mine/first.json", "--json", "copy.json")
    assert done.returncode in (0, 3), done.stderr  # 3: a machine too busy for so short a trial
    page = tmp_path / done.stdout.splitlines()[-1]
    assert page.parent == tmp_path / "mine" / "first-report"
    assert page.read_text().startswith("<!")
    assert (tmp_path / "copy.json").read_text() == (tmp_path / "mine" / "first.json").read_text()


def test_a_trial_that_fails_outright_is_not_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server of one of two models cannot be started; the other's trials are run and kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.serverprocess.START_TIMEOUT_S", 10)
    start = "bench.trial.ServerProcess"
    from bench.errors import ServerFailedError
    from bench.serverprocess import ServerProcess

    def fail(protocol: str, execution: str, workers: int, **options: Any) -> ServerProcess:
        if execution == "threads":
            raise ServerFailedError("the server would not")
        return ServerProcess(protocol, execution, workers, **options)

    monkeypatch.setattr(start, fail)
    assert cli.main(["run", "--execution", "single,threads", *SHORT, "--rounds", "1"]) == 3
    out, err = capsys.readouterr()
    assert "the server would not" in out
    assert "failed: the server would not" in err
    (path,) = runs(tmp_path)
    assert sorted(str(trial["error"]) for trial in read_run_file(path)["trials"]) == ["None", "the server would not"]


def started(wirebench: Command, tmp_path: Path, *options: str) -> tuple["subprocess.Popen[str]", Path]:
    """A run of many trials, of which one at least is saved and another is under way."""
    process = wirebench.start(
        "run", "--execution", "prefork", "--workers", "2", *SHORT, "--rounds", "500", "--out", "run.json", *options
    )
    path = tmp_path / "run.json"
    wait_until(lambda: trials_in(path) >= 1, "the first trial")
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 3, "a trial under way")
    return process, path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle(wirebench: Command, tmp_path: Path, number: int) -> None:
    process, path = started(wirebench, tmp_path)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    data = read_run_file(path)
    assert data["status"] == "interrupted"
    assert data["trials"]
    assert err.splitlines()[-2:] == [
        f"wirebench: {len(data['trials'])} of 500 trials are kept in run.json",
        "wirebench: interrupted",
    ]
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_killed_in_the_middle(wirebench: Command, tmp_path: Path) -> None:
    process, path = started(wirebench, tmp_path)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []
    data = read_run_file(path)
    assert data["status"] == "running"
    assert data["trials"]


def test_interrupted_before_anything_was_done(wirebench: Command, tmp_path: Path) -> None:
    process = wirebench.start("run", "--load", "closed:1", "--duration", "60s", "--rounds", "1")
    wait_until(lambda: len(psutil.Process(process.pid).children()) == 2, "the first trial")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert runs(tmp_path) == []


def test_two_runs_at_once(wirebench: Command, tmp_path: Path) -> None:
    both = [wirebench.start("run", *SHORT, "--rounds", "2") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode in (0, 3), err  # 3: a machine too busy for so short a trial
    first, second = (read_run_file(path) for path in runs(tmp_path))
    for data in (first, second):
        assert data["status"] == "complete"
        assert [trial["counts"]["errors"] for trial in data["trials"]] == [{}, {}]
        assert all(trial["server"]["workers"][0]["accepts"] == 2 for trial in data["trials"])


def test_a_disk_that_fills_up_keeps_what_was_saved(wirebench: Command, tmp_path: Path) -> None:
    """No file may grow beyond so much: what the system says then is treated as a full disk is."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000))

    done = wirebench("run", *SHORT, "--rounds", "500", "--out", "run.json", preexec_fn=limit)
    assert done.returncode == 2
    kept = len(read_run_file(tmp_path / "run.json")["trials"])
    assert kept >= 1
    *_, where, error = done.stderr.splitlines()
    assert where.endswith(" of 500 trials are kept in run.json")
    assert error == "wirebench: error: cannot write run.json: File too large"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_full_disk_at_the_start(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resultfile.os, "fsync", full)
    message = refused("run", *SHORT, "--out", "run.json")
    assert message == "cannot write run.json: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_json_that_cannot_be_written_leaves_the_results(wirebench: Command, tmp_path: Path) -> None:
    done = wirebench("run", *SHORT, "--rounds", "1", "--json", "/dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "wirebench: error: cannot write /dev/full: No space left on device"
    assert read_run_file(runs(tmp_path)[0])["status"] == "complete"
