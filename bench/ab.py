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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from analysis.load_results import load_run
from analysis.metrics import Metric
from analysis.regression import PAIRED_SUITE, Comparison, compare_runs, is_decided, looks_until
from bench import resultfile
from bench.address import SCHEMES, parse_address
from bench.errors import LabFailedError, LoadFailedError, OutputError, ServerFailedError, TargetError, UsageError
from bench.loadprocess import Progress
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.resultfile import ResultFile, write_atomically
from bench.run import Watcher, head
from bench.scenario import Scenario
from bench.serviceprocess import PORT, Command, Ready, ServiceProcess, await_ready, free_port
from bench.target import Target, Wanted, parse_target, run_load, scenario_record
from bench.trial import NO_FIGURES, run_trial
from bench.worktrees import SIDES, Checkout

COMPARISON = "comparison.json"
_HOST = "127.0.0.1"
_GIVE_UP = 3
"""After so many pairs one after the other in which a side gave no figures, there will be none."""


class Side(Protocol):
    """A server of one revision, and the load that it is asked to bear."""

    name: str
    """The revision as people know it."""

    def build(self) -> None:
        """Make of the checkout what can be started. Raises UsageError if it cannot be."""

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """One trial of it, as result files hold it."""


class OwnSide:
    """wirebench's own servers, of a revision of this project."""

    def __init__(self, checkout: Checkout) -> None:
        self.name = checkout.name
        self._folder = checkout.folder

    def build(self) -> None:
        if not (self._folder / "servers" / "__main__.py").exists():
            raise UsageError(
                f"{self.name} holds no servers of wirebench; say how yours starts: --command 'COMMAND --port {{port}}'"
            )
        _build(self.name, self._folder, [sys.executable, "-m", "compileall", "-q", "bench", "servers"])

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        return run_trial(scenario, number, seed, 1, placement, on_progress, self._folder)


@dataclass(frozen=True)
class Service:
    """How somebody's server is started in a checkout and reached: words with {port} in them. `build` is run first, if
    it is not empty."""

    command: str
    url: str
    build: str
    wanted: Wanted

    def __post_init__(self) -> None:
        for option, text in (("--command", self.command), ("--url", self.url)):
            if PORT not in text:
                raise UsageError(f"{option}: {text!r:.200} has no {{port}} in it, where the port goes that is free")
            words(text, option)
        words(self.build, "--build")
        if self.target(1).address.host not in (_HOST, "localhost"):
            raise UsageError(f"--url: {self.url}: the server is started here; write an address of {_HOST}")

    def target(self, port: int) -> Target:
        """What the load is pointed at. Raises UsageError; for a gRPC method, which is looked up, TargetError too."""
        address = parse_address(self.url.replace(PORT, str(port)))
        # Its certificate is not what is measured.
        return parse_target(address.url, self.wanted, SCHEMES[address.scheme].tls, None, None)


def words(command: str, option: str) -> list[str]:
    """A command in its words, as a shell splits them. Raises UsageError."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{option}: {command!r:.200}: {error}") from None


class CommandSide:
    """A user's server, of a revision of the user's repository. What it writes goes to the file `output`."""

    def __init__(self, checkout: Checkout, service: Service, output: Path) -> None:
        self.name = checkout.name
        self._folder = checkout.here
        self._service = service
        self._command = Command(tuple(words(service.command, "--command")), self._folder, output)

    def build(self) -> None:
        if self._service.build:
            _build(self.name, self._folder, words(self._service.build, "--build"))

    def trial(
        self, scenario: Scenario, number: int, seed: int, placement: Placement, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        started = resultfile.now()
        port = free_port()
        target = self._service.target(1)
        try:
            with ServiceProcess(self._command, port, placement.server) as process:
                await_ready(parse_address(self._service.url.replace(PORT, str(port))), Ready(), process)
                target = self._service.target(port)
                watcher = _Progress(on_progress)
                trial = run_load(target, scenario, seed, 1, placement.load_only(), watcher, process)
        except (ServerFailedError, LoadFailedError, LabFailedError, TargetError) as error:
            trial = {**NO_FIGURES, "seed": seed, "started": started, "error": str(error)}
        name = f"{scenario.protocol} {scenario.load} {target.operation}"
        record = scenario_record(target, scenario) | {"name": name[:300], "group": scenario.group}
        return {**trial, "scenario": record, "round": number}


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
    """What is asked: `pairs` is the most; `until` says whether it may end sooner."""

    scenarios: tuple[Scenario, ...]
    metrics: tuple[Metric, ...]
    margin: float
    pairs: int
    seed: int
    placement: Placement
    command: Sequence[str]
    stop_early: bool = True


def run_pairs(
    plan: Plan, sides: tuple[Side, Side], folder: Path, watcher: Watcher, on_look: Callable[[Comparison], None]
) -> Comparison:
    """Build both sides, measure pairs until every question is decided, and keep all of it in the folder: a result file
    for each side, and the comparison. An interrupted run keeps what it has. Raises UsageError if a side does not build
    or gives no figures in its first pair."""
    for side in sides:
        side.build()
    files = [_results(plan, side, folder / f"{name}.json") for name, side in zip(SIDES, sides, strict=True)]
    looks = looks_until(plan.pairs)
    found: Comparison | None = None
    try:
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


def _results(plan: Plan, side: Side, path: Path) -> ResultFile:
    return ResultFile(path, head(PAIRED_SUITE, side.name, plan.pairs, plan.seed, plan.placement, plan.command), [])


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
            if trial["error"] is not None:
                raise UsageError(f"{name}, {side.name}, cannot be measured: {trial['error']}")


def _has_gone(files: Sequence[ResultFile], scenarios: int) -> bool:
    """Whether a side has given nothing any more for a while."""
    last = scenarios * _GIVE_UP
    return any(
        len(file.trials) >= last and all(trial["error"] is not None for trial in file.trials[-last:]) for file in files
    )


def _look(plan: Plan, folder: Path, looks: Sequence[int]) -> Comparison:
    base, head_ = (load_run(folder / f"{name}.json") for name in SIDES)
    found = compare_runs(base, head_, plan.metrics, plan.margin, len(looks))
    write_atomically(folder / COMPARISON, json.dumps(found.record(), indent=1) + "\n")
    return found
