"""The result file: one JSON file a run, versioned, replaced atomically after every trial.

`results/README.md` explains the fields and `bench/run.schema.json` fixes them. A crash or an interruption loses at most
the trial under way: until a new version is whole on the disk, the old one stays.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bench.errors import OutputError

SCHEMA_VERSION = 1
KIND = "wirebench-run"

Status = Literal["running", "complete", "interrupted"]


def now() -> str:
    """The current time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ResultFile:
    """One run's results, kept in memory and on disk. Each trial is encoded once, however often the file is written."""

    def __init__(
        self,
        path: Path | None,
        head: dict[str, Any],
        unsupported: list[dict[str, Any]],
        trials: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`path` None keeps the results in memory alone; `trials` are there already. Raises OutputError if the file
        cannot be written."""
        self.path = path
        self._head = {"kind": KIND, "schema": SCHEMA_VERSION, **head, "started": now(), "finished": None}
        self._unsupported = unsupported
        self._trials = [*trials]
        self._encoded = [_encoded(trial) for trial in trials]
        self._status: Status = "running"
        self._write()

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials so far."""
        return self._trials

    def add(self, trial: dict[str, Any]) -> None:
        """Keep one more trial. Raises OutputError; what was written before is still there."""
        self._trials.append(trial)
        self._encoded.append(_encoded(trial))
        self._write()

    def describe_protocols(self, protocols: dict[str, Any]) -> None:
        """What the protocols of the run are (see `bench.wirecount`)."""
        self._head["protocols"] = protocols
        self._write()

    def finish(self, status: Status) -> None:
        """The run has ended."""
        self._status = status
        self._head["finished"] = now()
        self._write()

    def discard(self) -> None:
        """Remove the file: there is nothing in it."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def text(self) -> str:
        """The whole file: each trial on a line of its own."""
        head = json.dumps({**self._head, "status": self._status, "unsupported": self._unsupported}, indent=1)
        trials = ",\n".join(self._encoded)
        return f'{head[:-2]},\n "trials": [\n{trials}\n]}}\n'

    def _write(self) -> None:
        if self.path is not None:
            write_atomically(self.path, self.text())


def _encoded(trial: dict[str, Any]) -> str:
    return json.dumps(trial, separators=(",", ":"))


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step, or leave it as it was and raise OutputError. What is there and no file (a
    pipe, a device) is written to as it is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):  # it is there still after an error, or Ctrl-C
            temporary.unlink()
