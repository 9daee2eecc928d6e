"""`wirebench capacity` as its users start it, and what it says to bad input."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench import cli
from bench.serverprocess import ServerProcess
from tests.commands.conftest import DEADLINE_S, Command

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--objective", "p99"], ["--objective: 'p99' is not an objective", "p99<50ms"]),
        (["--objective", "p99<50"], ["--objective: '50' is not a duration"]),
        (["--objective", "p0<50ms"], ["asks for nothing"]),
        (["--objective", "errors<0%"], ["nothing is below 0%"]),
        (["--objective", "p99<10s"], ["takes longer than --timeout 5 s counts as none"]),
        (["--from", "100/s", "--max-rate", "10/s"], ["--from: 100/s is more than --max-rate 10/s"]),
        (["--duration", "10ms"], ["--duration: '10ms' is too short"]),
        (["--target", "9"], ["--target: '9' is not a rate"]),
        (["--target", "9/s", "--headroom", "100%"], ["--headroom: 100% leaves nothing"]),
        (["--arrivals", "bursts"], ["--arrivals"]),
        (["--workers", "2"], ["single has one worker"]),
        (["--execution", "preforc"], ["did you mean prefork?"]),
        (["--method", "PUT"], ["--method: only servers that run already"]),
        (["http://127.0.0.1:9/", "--workers", "2"], ["--workers: http://127.0.0.1:9/ runs already"]),
        (["sse+http://127.0.0.1:9/"], ["carries events and no requests"]),
        (["nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_is_refused(refused: Refused, arguments: list[str], words: list[str]) -> None:
    server = ["--protocol", "http1"] if arguments[0].startswith("--") else []
    message = refused("capacity", *arguments, *server)
    for word in words:
        assert word in message


def test_nothing_listens_there(refused: Refused, tmp_path: Path) -> None:
    assert "is the server running?" in refused("capacity", "http://127.0.0.1:1/")
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.long
@pytest.mark.alone
def test_an_objective_that_no_server_meets(
    serve: Callable[..., ServerProcess], wirebench: Command, tmp_path: Path
) -> None:
    server = serve("http1")
    short = ("--from", "1/s", "--duration", "500ms", "--warmup", "0s", "--seed", "1")
    done = wirebench(
        "capacity", f"http://{server.address}/health", "--objective", "p99<1us", *short, "--json", "a.json"
    )
    assert done.returncode == 1, done.stderr
    assert "no rate meets the objectives; even at 1/s" in done.stdout
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["searches"][0]["reason"] == "unmet"
    assert len(answer["trials"]) == 2


def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing_running(wirebench: Command, tmp_path: Path) -> None:
    short = ("--operation", "block:for=5ms", "--duration", "500ms", "--warmup", "0s", "--out", "c.json")
    process = wirebench.start("capacity", "--protocol", "http1", *short)
    assert process.stderr is not None
    assert "search: open:20/s" in process.stderr.readline()
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "what was measured is kept in c.json" in err
    assert psutil.wait_procs(started, timeout=5)[1] == []
    kept = json.loads((tmp_path / "c.json").read_text())
    assert kept["status"] == "interrupted"
    assert kept["trials"]


@pytest.mark.long
@pytest.mark.alone
def test_the_capacity_of_a_server_whose_limit_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers that take 5 ms each carry 400/s, less what it takes to wake them: closed loads show how much."""
    monkeypatch.chdir(tmp_path)
    server = ("--protocol", "http1", "--execution", "dispatch", "--workers", "2", "--operation", "block:for=5ms")
    status = cli.main(["capacity", *server, "--objective", "p99<200ms", "--out", "c.json"])
    found = json.loads((tmp_path / "c.json").read_text())
    assert status == 0
    answer = found["searches"][0]
    limit = max(point["throughput_per_s"] for point in found["scaling"]["points"])
    assert limit == pytest.approx(400, rel=0.1)
    assert 0.9 * limit <= answer["rate_per_s"] <= 1.02 * limit
