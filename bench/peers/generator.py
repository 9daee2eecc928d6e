"""A load generator of somebody else's: one process on one core that keeps a server busy and says how fast it was."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.peers.process import PeerProcess
from bench.peers.programs import Program
from bench.peers.target import Target

_MARGIN_S = 20.0
"""What a generator may take to start, connect, stop and print, beyond the time that it sends for."""


class Generator(Protocol):
    """How to run a generator, and how to read what it prints."""

    @property
    def program(self) -> Program:
        """What must be installed."""

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        """The command's arguments. Files that it needs are written to `folder`."""

    def rate_per_s(self, output: str) -> float:
        """Requests a second, from standard output. Raises VoidError for errors that it reports, and for anything that
        is not understood."""


def run_generator(generator: Generator, target: Target, duration_s: int, cpus: Sequence[int]) -> float:
    """Run it once; requests a second. Raises VoidError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-") as name:
        folder = Path(name)
        command = [*generator.program.command(), *generator.arguments(target, duration_s, folder)]
        with PeerProcess(generator.program.name, command, cpus, folder) as process:
            return generator.rate_per_s(process.output(duration_s + _MARGIN_S))
