"""Programs of others: placed, ended with all that they started, and void if they fail."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.peers.process import PeerProcess, VoidError, pinned, serving

PARENT = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
{then}
"""


def gone(pid: int) -> bool:
    """Whether the process ends within a moment; a zombie that nobody has waited for has ended."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("then", ["sys.exit(0)", "time.sleep(600)"])
def test_what_a_program_started_ends_with_it(then: str, tmp_path: Path) -> None:
    """Even if the program itself has ended before."""
    pid_file = tmp_path / "pid"
    code = PARENT.replace("print(child.pid", f"open({str(pid_file)!r}, 'x').write(str(child.pid)); print(child.pid")
    with PeerProcess("parent", [sys.executable, "-c", code.format(then=then)], (), tmp_path) as process:
        until = time.monotonic() + 10
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < until
            time.sleep(0.01)
        child = int(pid_file.read_text())
        if "exit" in then:
            assert process.output(10) == f"{child}\n"
        assert psutil.pid_exists(child)
    assert gone(child)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('it broke', file=sys.stderr); sys.exit(4)", "thing ended with exit status 4: it broke"),
        ("import time; time.sleep(600)", "thing did not end within 0 s"),
    ],
)
def test_a_program_that_fails_or_hangs_is_void(code: str, reason: str, tmp_path: Path) -> None:
    with (
        PeerProcess("thing", [sys.executable, "-c", code], (), tmp_path) as process,
        pytest.raises(VoidError, match=reason),
    ):
        process.output(10 if "exit" in code else 0.2)


def test_a_program_that_cannot_be_started_is_void(tmp_path: Path) -> None:
    (tmp_path / "thing").write_text("not a program")
    with pytest.raises(VoidError, match="thing cannot be started: Permission denied"):
        PeerProcess("thing", [str(tmp_path / "thing")], (), tmp_path).__enter__()


def test_a_server_that_does_not_start_is_void(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no way')"]
    with (
        pytest.raises(VoidError, match="thing ended with exit status 1: no way"),
        serving("thing", lambda port: command, (), tmp_path),
    ):
        pass


def test_a_server_whose_port_was_taken_gets_another(tmp_path: Path) -> None:
    listen = (
        "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)",
        "raise SystemExit('in use')",
    )
    ports: list[int] = []

    def command(port: int) -> list[str]:
        ports.append(port)
        return [sys.executable, "-c", listen[len(ports) < 2].format(port=port)]

    with serving("thing", command, (), tmp_path) as port:
        assert ports[-1] == port
        assert len(ports) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not place processes")
def test_programs_run_where_they_are_placed_and_the_harness_stays(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    with PeerProcess("thing", [sys.executable, "-c", code], (cpu,), tmp_path) as process:
        assert process.output(10) == f"[{cpu}]\n"
    assert os.sched_getaffinity(0) == before
    with pinned((cpu,)):
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
