"""Runs a suite: trial after trial, each saved when it has ended."""

import contextlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench import environment, wirecount
from bench.errors import OutputError, UsageError
from bench.loadprocess import Progress
from bench.placement import Placement
from bench.plan import PlannedTrial, Suite, plan_trials
from bench.resultfile import ResultFile
from bench.trial import run_trial

RUNS = Path("results/runs")
"""Where results go that nobody named a place for, below the current folder."""


class Watcher(Protocol):
    """Is told what happens, as it happens."""

    def trial_begins(self, planned: PlannedTrial) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def trial_ended(self, trial: dict[str, Any]) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def trial_begins(self, planned: PlannedTrial) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass

    def trial_ended(self, trial: dict[str, Any]) -> None:
        pass


def run_suite(
    suite: Suite,
    rounds: int,
    seed: int,
    load_processes: int,
    placement: Placement,
    results: ResultFile,
    watcher: Watcher,
) -> None:
    """Count what the protocols put on the wire, then run every scenario in every round, and save after every trial.

    However it ends, the file says so; one that was interrupted before its first trial ended is not kept.
    """
    try:
        results.describe_protocols(wirecount.describe((s.protocol, s.tls) for s in suite.scenarios))
        for planned in plan_trials(suite.scenarios, rounds, seed):
            watcher.trial_begins(planned)
            trial = run_trial(
                planned.scenario, planned.round, planned.seed, load_processes, placement, watcher.progress
            )
            results.add(trial)
            watcher.trial_ended(trial)
    except BaseException:
        with contextlib.suppress(OutputError):  # what went wrong first is what is told
            results.finish("interrupted")
        if not results.trials:
            results.discard()
        raise
    results.finish("complete")


def open_results(
    path: Path, suite: Suite, rounds: int, seed: int, placement: Placement, command: Sequence[str]
) -> ResultFile:
    """The file of a run that is about to begin, at a reserved path. Raises OutputError if it cannot be written."""
    unsupported = [{"scenario": scenario.record(), "why": why} for scenario, why in suite.unsupported]
    try:
        return ResultFile(path, head(suite.name, suite.description, rounds, seed, placement, command), unsupported)
    except OutputError:
        path.unlink(missing_ok=True)
        raise


def head(
    suite: str,
    description: str,
    rounds: int,
    seed: int,
    placement: Placement,
    command: Sequence[str],
    service: Path | None = None,
) -> dict[str, Any]:
    """What a result file says about its run as a whole. `service` is where the code is of what was measured, if it is
    not the wirebench that measures."""
    return {
        "suite": suite,
        "description": description,
        "command": list(command),
        "seed": seed,
        "rounds": rounds,
        "environment": environment.describe(placement, service),
    }


def choose_seed(seed: int | None) -> int:
    """The seed that was asked for, or one that was drawn."""
    return random.SystemRandom().getrandbits(31) if seed is None else seed


def reserve_path(out: str | None, suite: str) -> Path:
    """A new, empty file for the results: `out` if it ends in .json, else a file in the folder `out`, named after the
    time and the suite. It is new even if another run begins at the same instant.

    Raises UsageError if `out` is a file that has results in it, OutputError if nothing can be written there.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder, names = Path(out or RUNS), [f"{stamp}-{suite}.json"] + [f"{stamp}-{suite}-{n}.json" for n in range(2, 1000)]
    if folder.suffix == ".json" and not folder.is_dir():
        folder, names = folder.parent, [folder.name]
    for name in names:
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.open("x").close()
        except FileExistsError:
            if folder.is_dir():
                continue
            raise OutputError(f"cannot write {path}: {folder} is a file; choose another place with --out") from None
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place with --out") from None
        return path
    raise UsageError(f"--out: {path} exists already and may hold results; choose another name, or remove it first")


def exit_code(trials: Sequence[dict[str, Any]]) -> int:
    """0 if the measurement is of use; 3 if a trial failed outright, or no trial at all is free of fatal doubts."""
    failed = any(trial["error"] is not None for trial in trials)
    return 3 if failed or not any(trial["valid"] for trial in trials) else 0
