"""What is kept of a capacity search: `results/README.md` explains it."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.capacity import conclusions
from analysis.load_capacity import KIND, SCHEMA_VERSION
from bench import environment, resultfile
from bench.errors import OutputError
from bench.placement import Placement
from bench.resultfile import write_atomically


class CapacityFile:
    """One file, replaced whole after every trial. `settings` are as `bench.capacity.Settings` records them."""

    def __init__(
        self, path: Path, settings: dict[str, Any], seed: int, placement: Placement, command: Sequence[str]
    ) -> None:
        """Raises OutputError if it cannot be written."""
        self.path = path
        self._head = {
            "kind": KIND,
            "schema": SCHEMA_VERSION,
            "command": list(command),
            "seed": seed,
            "settings": settings,
            "environment": environment.describe(placement),
            "started": resultfile.now(),
        }
        self._status: resultfile.Status = "running"
        self._finished: str | None = None
        self.searches: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self._encoded: list[str] = []
        self._write()

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a trial. Raises OutputError."""
        self.trials.append(entry)
        self._encoded.append(json.dumps(entry, separators=(",", ":")))
        self._write()

    def conclude(self, search: dict[str, Any]) -> None:
        """Keep how a search ended."""
        self.searches.append(search)
        self._write()

    def finish(self, status: resultfile.Status) -> None:
        """Nothing more is measured."""
        self._status, self._finished = status, resultfile.now()
        self._write()

    def record(self) -> dict[str, Any]:
        """Everything but the trials; once nothing more is measured, with what follows from them."""
        return self._so_far() if self._status == "running" else self.concluded()

    def concluded(self) -> dict[str, Any]:
        """Everything but the trials, with what follows from those that there are."""
        so_far = self._so_far()
        return {**so_far, **conclusions({**so_far, "trials": self.trials})}

    def _so_far(self) -> dict[str, Any]:
        return {**self._head, "finished": self._finished, "status": self._status, "searches": self.searches}

    def text(self) -> str:
        """The whole file: each trial on a line of its own."""
        head = json.dumps(self.record(), indent=1)
        trials = ",\n".join(self._encoded)
        return f'{head[:-2]},\n "trials": [\n{trials}\n]}}\n'

    def interrupt(self) -> None:
        """The run ended before its time; a file without a trial is not kept."""
        with contextlib.suppress(OutputError):  # what went wrong first is what is told
            self.finish("interrupted")
        if not self.trials:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _write(self) -> None:
        write_atomically(self.path, self.text())
