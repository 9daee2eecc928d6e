"""`compare`, `export`, `history`, `ab` and `aa` as users meet them: answers, refusals, exit statuses, and nothing left
behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import cli
from bench.ab import Plan
from bench.errors import UsageError
from bench.worktrees import git
from tests.commands.conftest import Command

Refused = Callable[..., str]

SERVER = """
import asyncio, sys
BURN = 1000
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        for _ in range(BURN * data.count(b"\\r\\n\\r\\n")):
            pass
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok" * data.count(b"\\r\\n\\r\\n"))
async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""
COMMAND = f"{sys.executable} server.py {{port}}"
FILE = f'[service]\ncommand = "{COMMAND}"\nurl = "http://127.0.0.1:{{port}}"\n'


def result(path: Path, rounds: int, p50_ns: int, model: str = "A CPU") -> str:
    """A result file with one scenario, by hand: so small that it is seen what matters."""
    scenario = {
        "name": "http1 single closed:64 echo 64B", "group": "run", "protocol": "http1", "stack": "lean", "tier": "lean",
        "pattern": "request-response", "operation": "echo", "payload_bytes": 64, "execution": "single", "workers": 1,
        "load": "closed:64", "connections": "64", "link": "loopback", "warmup_ns": 0, "duration_ns": 10**9,
        "timeout_ns": 10**9, "queue_limit": None,
    }  # fmt: skip
    trials = []
    for number in range(rounds):
        value = p50_ns + number
        latency = dict.fromkeys(("mean", "min", "p50", "p90", "p99", "p999", "max"), value)
        trials.append(
            {
                "scenario": scenario, "round": number, "seed": 1, "started": "2026-03-01T10:00:00Z", "valid": True,
                "counts": {"offered": 9, "sent": 9, "completed": 9, "errors": {}, "dropped": 0},
                "offered_per_s": None, "throughput_per_s": 9.0, "latency_ns": {"count": 9, "hdr": None, **latency},
                "service_ns": None, "lateness_ns": None, "intervals": [], "client": None, "server": None, "wire": None,
                "doubts": [], "error": None,
            }
        )  # fmt: skip
    data: dict[str, Any] = {
        "kind": "wirebench-run", "schema": 1, "suite": "run", "description": "", "command": [], "seed": 1,
        "rounds": rounds, "started": f"2026-03-01T10:00:00.{p50_ns:06}Z", "finished": None, "status": "complete",
        "environment": {"cpu": {"model": model}}, "unsupported": [], "trials": trials,
    }  # fmt: skip
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; gives its status and its answer."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = cli.main(list(arguments))
        return status, capsys.readouterr().out

    return run


Said = Callable[..., tuple[int, str]]


def test_compare_says_worse_by_its_status(said: Said, tmp_path: Path) -> None:
    base, same, slow = (result(tmp_path / f"{n}.json", 8, p50) for n, p50 in (("a", 1000), ("b", 1001), ("c", 1200)))
    status, text = said("compare", base, same, "--metric", "latency_p50_ns")
    assert status == 0
    assert "same" in text
    status, text = said(
        "compare", base, slow, "--export", "junit=out/j.xml", "--export", "github=-", "--json", "said.json"
    )
    assert status == 1
    assert "worse by more than the margin of 5%: latency, p50 of http1" in text
    assert "::error title=wirebench%3A worse::" in text
    assert "<failure" in Path("out/j.xml").read_text()
    assert json.loads(Path("said.json").read_text())["change"] == "worse"
    assert said("compare", slow, base)[0] == 0


def test_compare_where_nothing_was_valid(said: Said, tmp_path: Path) -> None:
    base = result(tmp_path / "a.json", 8, 1000)
    data = json.loads(Path(base).read_text())
    for trial in data["trials"]:
        trial.update(valid=False, doubts=[{"kind": "errors", "fatal": True, "detail": "all"}], counts=None)
    (tmp_path / "b.json").write_text(json.dumps(data))
    status, text = said("compare", base, "b.json")
    assert status == 3
    assert "not valid" in text


def test_runs_of_different_machines_are_compared_only_if_asked(refused: Refused, said: Said, tmp_path: Path) -> None:
    one, other = result(tmp_path / "a.json", 8, 1000), result(tmp_path / "b.json", 8, 1000, model="Another")
    assert "differ in cpu model; compare them all the same with --across-machines" in refused("compare", one, other)
    assert said("compare", one, other, "--across-machines")[0] == 0


def test_bad_input_of_compare_and_export(refused: Refused, tmp_path: Path) -> None:
    run = result(tmp_path / "a.json", 3, 1000)
    assert "no such file" in refused("compare", run, "nothing.json")
    assert "--margin" in refused("compare", run, run, "--margin", "0%")
    assert "--metric" in refused("compare", run, run, "--metric", "speed")
    assert "markdown, junit, github, csv" in refused("compare", run, run, "--export", "pdf=x")
    assert "like junit=FILE" in refused("compare", run, run, "--export", "junit")
    assert "pyperf" in refused("export", run, "nonsense=-")


def test_export_shows_a_format(said: Said, tmp_path: Path) -> None:
    status, text = said("export", result(tmp_path / "a.json", 3, 1000), "openmetrics=-", "bencher=b.json")
    assert status == 0
    assert text.endswith("# EOF\n")
    assert "http1 single closed:64 echo 64B" in json.loads(Path("b.json").read_text())


def test_a_history_of_several_machines_is_shown_only_if_asked(refused: Refused, said: Said, tmp_path: Path) -> None:
    runs = [result(tmp_path / f"{n}.json", 3, (1000 if n < 8 else 1300) + n) for n in range(16)]
    assert said("history", "add", *runs, "--folder", "h")[0] == 0
    status, text = said("history", "show", "--folder", "h", "--metric", "latency_p50_ns")
    assert status == 0
    assert "worse by 30.7% from 2026-03-01T10:00:00.001308Z" in text
    said("history", "add", result(tmp_path / "x.json", 3, 1000, model="Another"), "--folder", "h")
    assert "2 machines" in refused("history", "show", "--folder", "h")
    status, text = said("history", "show", "--folder", "h", "--all-machines", "--json", "-")
    assert status == 0
    machines = {one["machine"] for one in json.loads(text)}
    assert len(machines) == 2
    assert said("history", "show", "--folder", "h", "--machine", min(machines)[:5])[0] == 0
    assert "is none of" in refused("history", "show", "--folder", "h", "--machine", "zzz")
    assert "no history there" in refused("history", "show", "--folder", "nowhere")
    assert "ends in .svg or .png" in refused("history", "plot", "--folder", "h", "--all-machines", "--out", "a.pdf")
    assert said("history", "plot", "--folder", "h", "--all-machines", "--out", "a.svg")[0] == 0
    assert "latency, p50" in Path("a.svg").read_text()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository: the tag base is a server, the tag slow one that takes longer; worktrees lie beside it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    top = tmp_path / "repo"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    for name, server in (("base", SERVER), ("slow", SERVER.replace("BURN = 1000", "BURN = 5000"))):
        (top / "server.py").write_text(server, encoding="utf-8")
        git(top, "add", "server.py")
        git(top, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", name)
        git(top, "tag", name)
    return top


def left_behind(top: Path) -> list[str]:
    """Worktrees, folders and processes that should have gone."""
    found = [line for line in git(top, "worktree", "list").splitlines()[1:] if line]
    found += [path.name for path in (top.parent / "tmp").iterdir() if path.name.startswith("wirebench-ab")]
    for process in psutil.process_iter(["cwd"]):
        if str(process.info["cwd"] or "").startswith(str(top.parent / "tmp")):
            found.append(str(process))
    return found


def test_ab_refuses_what_it_cannot_compare(repo: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    command = ["--command", COMMAND]
    assert "is no revision" in refused("ab", "--base", "nothing", *command)
    assert "Missing option" in refused("ab", *command)
    assert "--protocol: it says what a server of wirebench does" in refused(
        "ab", "--base", "base", "--protocol", "tcp", *command
    )
    assert "--url: it belongs to a server of yours" in refused(
        "ab", "--base", "base", "--url", "http://127.0.0.1:{port}"
    )
    for option, wrong, words in (
        ("--command", "server '{port}", "service: command: no closing quotation"),
        (
            "--url",
            "ftp://127.0.0.1:{port}/",
            "service: url: 'ftp://127.0.0.1:{port}': requests are carried over http://",
        ),
        ("--method", "GET IT", "request 1: method: 'GET IT' is no method"),
    ):
        assert words in refused("ab", "--base", "base", *command, option, wrong)
    (repo / "kept").mkdir()
    (repo / "kept" / "base.json").touch()
    assert "holds results already" in refused("ab", "--base", "base", "--out", "kept", *command)
    assert left_behind(repo) == []


def test_ab_asks_both_sides_for_the_same(repo: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    assert "holds no servers of wirebench" in refused("ab", "--base", "base")
    for path in ("/", "/other", "other"):
        (repo / "wirebench.toml").write_text(FILE + f'[[request]]\npath = "{path}"\n', encoding="utf-8")
        git(repo, "add", "wirebench.toml")
        git(repo, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", path)
    ab = ["ab", "--head", "HEAD~1", "--base"]
    assert "base and head ask for different things: the requests or the load" in refused(*ab, "HEAD~2")
    assert re.search(r"error: base \(\w{12}\) holds no wirebench.toml; compare", "error: " + refused(*ab, "base"))
    assert re.search(r"HEAD \(\w{12}\): wirebench.toml: request 1: path: 'other' is no path", refused(*ab, "HEAD"))
    several = ("--load", "closed:1", "--load", "closed:2")
    assert "--load: a service of yours is asked to bear one load" in refused(*ab, "HEAD~1", *several)
    assert left_behind(repo) == []


def test_only_a_load_that_nobody_said_may_be_lightened(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, str]] = []

    def noted(plan: Plan, *_: object) -> None:
        asked.append((plan.may_lighten, str(plan.scenarios[0].load)))
        raise UsageError("enough")

    monkeypatch.setattr("bench.abview.run_pairs", noted)
    monkeypatch.chdir(repo)
    server = ["ab", "--base", "base", "--command", COMMAND]
    assert cli.main(server) == cli.main([*server, "--load", "closed:8"]) == 2
    for load in ("", '[load]\nload = "closed:2"\n'):
        (repo / "wirebench.toml").write_text(FILE + '[[request]]\npath = "/"\n' + load, encoding="utf-8")
        git(repo, "add", "wirebench.toml")
        git(repo, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "file")
        assert cli.main(["ab", "--base", "HEAD"]) == 2
    assert asked == [(True, "closed:4"), (False, "closed:8"), (True, "closed:4"), (False, "closed:2")]


def test_a_base_that_does_not_build_is_bad_input(repo: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    assert cli.main(["ab", "--base", "base", "--command", COMMAND, "--build", "sh -c 'echo no rule; exit 3'"]) == 2
    assert left_behind(repo) == []


@pytest.mark.long
@pytest.mark.alone
def test_ab_finds_a_server_that_is_slower_and_ab_interrupted_keeps_what_it_has(repo: Path, tmp_path: Path) -> None:
    options = ["--command", COMMAND, "--load", "closed:4", "--duration", "200ms", "--warmup", "50ms", "--out"]
    command = Command(repo)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "ab", "--base", "base", "--head", "slow", "--pairs", "14", *options, "worse"],
        cwd=repo,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "worse" in done.stdout
    assert left_behind(repo) == []
    process = command.start("ab", "--base", "base", "--head", "base", *options, "cut")
    until = time.monotonic() + 60
    while len(json.loads(_read(repo / "cut" / "head.json")).get("trials", [])) < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "what was measured is kept in cut" in errors
    assert json.loads(_read(repo / "cut" / "base.json"))["status"] == "interrupted"
    assert (repo / "cut" / "comparison.json").exists()
    assert left_behind(repo) == []


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else "{}"


@pytest.mark.long
@pytest.mark.alone
def test_aa_says_how_noisy_the_machine_is(repo: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    status, text = said("aa", "base", "--command", COMMAND, "--duration", "500ms", "--pairs", "10", "--json", "-")
    assert status == 0
    found = json.loads(text)
    assert found["gates"][0]["worse_comparisons"] <= 0.02
    assert set(found["noise"]) >= {"latency, p50", "CPU of the server for a request"}
    assert left_behind(repo) == []
