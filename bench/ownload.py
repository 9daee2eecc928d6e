"""`wirebench load` without a URL: one trial against the service that a wirebench.toml describes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import display, ownservice, preflight, servicefile, thresholds
from bench.errors import INTERRUPTED, TrialInterruptedError
from bench.loadview import load_view, threshold_lines
from bench.output import answer, say
from bench.placement import choose_placement
from bench.resultfile import Status
from bench.run import choose_seed
from bench.target import target_results


def load_own_service(
    file: str,
    changes: Mapping[str, str],
    load_processes: int,
    seed: int | None,
    json_file: str | None,
    command: Sequence[str],
) -> int:
    """Run the trial and show it; gives the exit status. `changes` are keys of a scenario that go before the file's."""
    own = servicefile.read(Path(file))
    preflight.check([own.scenario(own.target(1), changes)])  # what is wrong is told before anything is started
    placement = choose_placement(load_processes)
    seed = choose_seed(own.seed if seed is None else seed)
    status: Status
    with ownservice.running(own, placement) as running:
        scenario = own.scenario(running.target, changes)
        with display.watch(f"{running.target.address.url}   {scenario.load}", [scenario], rounds=1) as watcher:
            try:
                trial, status = running.trial(scenario, seed, load_processes, placement, watcher), "complete"
            except TrialInterruptedError as interrupt:
                trial, status = interrupt.trial, "interrupted"
    if running.process is not None and (left := running.process.left_behind):
        say(f"the service left {left} process{'es' if left > 1 else ''} behind when it was told to end; killed now")
    results = target_results(trial, placement, command, status, own.path.parent)
    answer(json_file, results.text, lambda: _view(trial))
    return INTERRUPTED if status == "interrupted" else thresholds.exit_code(trial)


def _view(trial: dict[str, Any]) -> str:
    shown = load_view(trial)
    if trial["thresholds"] and trial["error"] is None:
        shown += f"\n\n{threshold_lines(trial['thresholds'])}"
    return shown
