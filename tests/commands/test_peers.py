"""`wirebench peers` as a whole: its answers, its exit codes, what is left of it when it is interrupted."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.errors import OutputError, UsageError
from bench.peers import programs, run
from bench.peers.process import VoidError
from bench.peers.programs import PythonProgram
from tests.peers.peer_questions import always, question, script

ROOT = Path(__file__).resolve().parents[2]


def test_json_of_a_real_comparison(
    need: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("wrk")
    path = tmp_path / "peers.json"
    assert run.run_peers(1, "1s", ["http1-wrk"], str(path)) == 0
    document = json.loads(path.read_text())
    assert (document["kind"], document["schema"], document["status"]) == ("wirebench-peers", 1, "complete")
    (answer,) = document["answers"]
    assert answer["voids"] == []
    ((ours, theirs),) = answer["rows"]
    assert answer["value"]["median"] == pytest.approx(ours / theirs)
    assert min(ours, theirs) > 100
    assert answer["met"] is (ours / theirs >= 1)
    versions = {program["name"]: program["version"] for program in document["programs"]}
    assert versions["wrk"]
    out, err = capsys.readouterr()
    assert "wirebench against wrk" in out
    assert "pair 1 of 1" in err


def test_nothing_but_json_on_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_peers(monkeypatch)
    assert run.run_peers(1, "1s", ["http1-wrk"], "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["answers"][0]["missing"] == ["wrk"]


def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where none of the other programs is installed."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "_DIRECTORIES", "")
    monkeypatch.setattr(PythonProgram, "find", lambda self: None)


def test_without_any_peer_the_rest_is_measured_and_what_is_missing_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_peers(monkeypatch)
    only = ["http1-wrk", "http2-h2load", "server-uvicorn", "lateness-5000"]
    assert run.run_peers(1, "1s", only, None) == 0
    out = capsys.readouterr().out
    assert out.count("not installed") == 3
    assert "engine, open:5000/s, lean http1" in out
    assert "wrk (apt-get install wrk)" in out
    assert "uvicorn (pip install 'wirebench[peers]')" in out


def test_a_question_without_a_pair_that_counts_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = question(always(1.0), script([], "b", [VoidError("no")]))
    monkeypatch.setattr(run, "questions", lambda: [broken])
    assert run.run_peers(1, "1s", [], None) == 3
    monkeypatch.setattr(run, "questions", lambda: [question(always(1.0), always(2.0))])
    assert run.run_peers(1, "1s", [], None) == 0  # below its target, and measured


@pytest.mark.parametrize(
    ("duration", "only", "message"),
    [
        ("1500ms", [], "--duration: '1500ms' is not a whole number of seconds"),
        ("0s", [], "--duration: '0s'"),
        ("fast", [], "--duration: 'fast' is not a duration"),
        ("1s", ["http1-wkr"], "--only: 'http1-wkr' is unknown.*did you mean http1-wrk?"),
    ],
)
def test_bad_input(duration: str, only: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run.run_peers(1, duration, only, None)


def test_a_file_that_cannot_be_written_is_known_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(run, "questions", lambda: [question(script(measured, "a", [1]), script(measured, "b", [1]))])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run.run_peers(1, "1s", [], str(tmp_path / "file" / "peers.json"))
    assert measured == []


def test_interrupted_leaves_what_was_done_and_no_process(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    code = (
        f"import sys; from bench.peers.run import run_peers;sys.exit(run_peers(50, '1s', ['tcp-http1'], {str(path)!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "pair 1 of 50" in process.stderr.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "raw TCP against HTTP/1.1" in out
    document = json.loads(path.read_text())
    assert document["status"] == "interrupted"
    assert len(document["answers"][0]["rows"]) >= 1
    assert psutil.wait_procs(children, timeout=5)[1] == []
