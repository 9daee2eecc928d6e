"""Two revisions of a server, measured in pairs: trial beside trial on one machine, until it is known which is better.

A *side* is a checkout and how a server is started from it. The engine that measures is always the installed one, so
that only the servers differ. Each trial has a server process of its own, and while one side is measured the other does
not run: what a process has by luck (addresses, hashes) is another in each trial, and averages out. Within a pair both
sides meet the same arrivals; of every two pairs each side is first in one.
"""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from analysis.load_results import load_run
from analysis.metrics import Metric
from analysis.regression import PAIRED_SUITE, RunComparison, compare_runs, is_decided, looks_until
from bench import resultfile
from bench.errors import LabFailedError, OutputError, ServerFailedError, TargetError, UsageError
from bench.headroom import with_headroom
from bench.loadprocess import Progress
from bench.output import say
from bench.ownservice import OwnService, running
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.resultfile import ResultFile, write_atomically
from bench.run import Watcher, head
from bench.scenario import Scenario
from bench.target import scenario_record
from bench.trial import NO_FIGURES, run_trial
from bench.worktrees import SIDES, Checkout

COMPARISON = "comparison.json"
_GIVE_UP = 3
"""After so many pairs one after the other in which a side gave no figures, there will be none."""


class Side(Protocol):
    """A server of one revision, and the load that it is asked to bear."""

    name: str
    """The revision as people know it."""
    folder: Path
    """Its checkout."""

    def build(self) -> None:
        """Make of the checkout what can be started. Raises UsageError if it cannot be."""

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """One trial of it, as result files hold it."""


class OwnSide:
    """wirebench's own servers, of a revision of this project."""

    def __init__(self, checkout: Checkout) -> None:
        """Raises UsageError if the checkout has none."""
        self.name = checkout.name
        self.folder = checkout.folder
        if not (self.folder / "servers" / "__main__.py").exists():
            raise UsageError(
                f"{self.name} holds no servers of wirebench; say how yours starts: in a wirebench.toml (see "
                "wirebench init), or with --command 'COMMAND --port {port}'"
            )

    def build(self) -> None:
        _build(self.name, self.folder, [sys.executable, "-m", "compileall", "-q", "bench", "servers"])

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        return run_trial(scenario, number, seed, 1, placement, on_progress, self.folder)


class ServiceSide:
    """A user's service, of a revision of the user's repository. `build` is a command that is run first, if it is not
    empty."""

    def __init__(self, checkout: Checkout, own: OwnService, build: str) -> None:
        """Raises UsageError for a service that is not started here, or a command that no shell could read."""
        if own.command is None:
            raise UsageError(f"{checkout.name}: {own.path.name} has no command, so there is nothing to start")
        self.name = checkout.name
        self.folder = checkout.here
        self._own = own
        try:
            self._words = shlex.split(build)
        except ValueError as error:
            raise UsageError(f"--build: {build!r:.200}: {error}") from None

    def build(self) -> None:
        if self._words:
            _build(self.name, self.folder, self._words)

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        started = resultfile.now()
        try:
            with running(self._own, placement) as service:
                trial = service.trial(scenario, seed, 1, placement, _Progress(on_progress))
        except (ServerFailedError, LabFailedError, TargetError) as error:
            record = scenario_record(self._own.target(1), scenario)
            trial = {**NO_FIGURES, "scenario": record, "seed": seed, "started": started, "error": str(error)}
        return {**trial, "round": number}


class _Progress:
    """A watcher of one load that passes on its progress alone."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.progress = on_progress

    def trial_begins(self, planned: PlannedTrial) -> None:
        pass

    def trial_ended(self, trial: dict[str, Any]) -> None:
        pass


def _build(name: str, folder: Path, command: Sequence[str]) -> None:
    """Raises UsageError with the last that the command said, if it fails."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise UsageError(f"{name} does not build: {command[0]}: {error.strerror}") from None
    try:
        said = process.communicate()[0]
    finally:
        _end_group(process)
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = " | ".join(lines[-3:]) or f"{command[0]} ended with status {process.returncode}"
        raise UsageError(f"{name} does not build: {why}")


def _end_group(process: "subprocess.Popen[str]") -> None:
    if process.returncode is None:  # interrupted
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class Plan:
    """What is asked: `pairs` is the most; `stop_early` says whether it may end sooner, `may_lighten` whether the loads
    were chosen by nobody, so that lighter ones may take their place."""

    scenarios: tuple[Scenario, ...]
    metrics: tuple[Metric, ...]
    margin: float
    pairs: int
    seed: int
    placement: Placement
    command: Sequence[str]
    stop_early: bool = True
    may_lighten: bool = False


def run_pairs(
    plan: Plan, sides: tuple[Side, Side], folder: Path, watcher: Watcher, on_look: Callable[[RunComparison], None]
) -> RunComparison:
    """Build both sides, measure pairs until every question is decided, and keep all of it in the folder: a result file
    for each side, and the comparison. An interrupted run keeps what it has. Raises UsageError if a side does not build
    or gives no figures in its first pair."""
    for side in sides:
        side.build()
    files = [_results(plan, side, folder / f"{name}.json") for name, side in zip(SIDES, sides, strict=True)]
    looks = looks_until(plan.pairs)
    found: RunComparison | None = None
    try:
        if plan.may_lighten:
            plan = replace(plan, scenarios=tuple(_lightened(plan, sides[0], scenario) for scenario in plan.scenarios))
        for number, order, seed in _pairs(plan):
            _measure_pair(plan, sides, files, number, order, seed, watcher)
            if number == 0:
                _check_first(sides, files)
            gone = _has_gone(files, len(plan.scenarios))
            if number + 1 in looks or gone:
                found = _look(plan, folder, looks)
                on_look(found)
                if gone or (plan.stop_early and is_decided(found.answers)):
                    break
    except BaseException:
        with contextlib.suppress(OutputError, UsageError):  # what went wrong first is what is told
            for file in files:
                file.finish("interrupted")
            if all(file.trials for file in files):
                _look(plan, folder, looks)
            else:
                for file in files:
                    file.discard()
        raise
    for file in files:
        file.finish("complete")
    assert found is not None  # the last look is at the last pair
    return found


def _lightened(plan: Plan, base: Side, scenario: Scenario) -> Scenario:
    """The scenario with a load that leaves the generator headroom, as base shows it."""

    def measure(tried: Scenario) -> dict[str, Any]:
        trial = base.trial(tried, 0, plan.seed, plan.placement, lambda _: None)
        _check_measured(SIDES[0], base, trial)
        return trial

    chosen = with_headroom(scenario, measure)
    if chosen != scenario:
        say(
            f"{scenario.load} leaves the load generator too little room: both sides get {chosen.load} instead; "
            "--load says another"
        )
    return chosen


def _results(plan: Plan, side: Side, path: Path) -> ResultFile:
    return ResultFile(
        path, head(PAIRED_SUITE, side.name, plan.pairs, plan.seed, plan.placement, plan.command, side.folder), []
    )


def _pairs(plan: Plan) -> Iterator[tuple[int, tuple[int, int], int]]:
    """The number of each pair, which side is first, and its seed."""
    generator = random.Random(plan.seed)
    order = (0, 1)
    for number in range(plan.pairs):
        order = order[::-1] if number % 2 else generator.choice([(0, 1), (1, 0)])
        yield number, order, generator.getrandbits(32)


def _measure_pair(
    plan: Plan,
    sides: tuple[Side, Side],
    files: Sequence[ResultFile],
    number: int,
    order: tuple[int, int],
    seed: int,
    watcher: Watcher,
) -> None:
    for scenario in random.Random(seed).sample(plan.scenarios, len(plan.scenarios)):
        for which in order:
            watcher.trial_begins(PlannedTrial(scenario, number, seed))
            trial = sides[which].trial(scenario, number, seed, plan.placement, watcher.progress)
            files[which].add(trial)
            watcher.trial_ended(trial)


def _check_first(sides: tuple[Side, Side], files: Sequence[ResultFile]) -> None:
    for name, side, file in zip(SIDES, sides, files, strict=True):
        for trial in file.trials:
            _check_measured(name, side, trial)


def _check_measured(name: str, side: Side, trial: dict[str, Any]) -> None:
    if trial["error"] is not None:
        raise UsageError(f"{name}, {side.name}, cannot be measured: {trial['error']}")


def _has_gone(files: Sequence[ResultFile], scenarios: int) -> bool:
    """Whether a side has given nothing any more for a while."""
    last = scenarios * _GIVE_UP
    return any(
        len(file.trials) >= last and all(trial["error"] is not None for trial in file.trials[-last:]) for file in files
    )


def _look(plan: Plan, folder: Path, looks: Sequence[int]) -> RunComparison:
    base, head_ = (load_run(folder / f"{name}.json") for name in SIDES)
    found = compare_runs(base, head_, plan.metrics, plan.margin, len(looks))
    write_atomically(folder / COMPARISON, json.dumps(found.record(), indent=1) + "\n")
    return found
