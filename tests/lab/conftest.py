"""Labs for tests, and programs on their nodes."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.topology import two_ends

DEADLINE_S = 60.0


@pytest.fixture(scope="session")
def links() -> None:
    """Skips what needs links, with the reason, where they cannot be had."""
    try:
        with Lab(two_ends(Link())):
            pass
    except UnsupportedError as error:
        pytest.skip(f"links cannot be had: {error}")


class Programs:
    """Programs on the nodes of labs. None runs on when the test ends."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def run(self, lab: Lab, node: str, *command: str, check: bool = True, **options: Any) -> str:
        """Run a program to its end; what it wrote to standard output."""
        how: dict[str, Any] = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
        done = subprocess.run([*lab.within(node), *command], check=False, timeout=DEADLINE_S, **how)
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return str(done.stdout)

    def start(self, lab: Lab, node: str, *command: str, until: str | None = None) -> "subprocess.Popen[str]":
        """Start a program, and wait until it writes a line that has these words in it. Input and output are pipes."""
        process = subprocess.Popen(
            [*lab.within(node), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self._started.append(process)
        seen = []
        while until is not None:
            assert process.stdout is not None
            line = process.stdout.readline()
            seen.append(line)
            assert line, (command, seen)
            if until in line:
                break
        return process

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()
