"""The command as its users start it, in a folder of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import cli

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


class Command:
    """Starts `wirebench` in a folder. What it starts is gone when the test ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start it, with pipes for all three streams unless options say otherwise."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        environment.pop("WIREBENCH_DEBUG", None)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments],
            **{"cwd": self.folder, "env": environment, "text": True, **streams, **options},
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def wirebench(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    for process in command.started:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """`refused("run", "nonsense")` runs the command in this process, which must end with status 2 and one line on
    standard error, and start no process; gives that line."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: str, status: int = 2) -> str:
        assert cli.main(list(arguments)) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("wirebench: error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err.removeprefix("wirebench: error: ").rstrip("\n")

    before = set(psutil.Process().children())  # those of a broker beside, which may start some of its own, are not ours
    yield run
    assert set(psutil.Process().children()) <= before
    for number, handler in handlers.items():
        signal.signal(number, handler)
