"""What `wirebench ab` and `wirebench aa` make of their options, and what they show while they run."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from analysis.load_results import load_run
from analysis.regression import Change, Comparison, choose_metrics
from analysis.simulation import Gates, simulate_gates
from analysis.summary import summaries
from bench import compareview, display, preflight
from bench.ab import COMPARISON, CommandSide, OwnSide, Plan, Service, Side, run_pairs
from bench.errors import UsageError
from bench.output import say
from bench.placement import choose_placement
from bench.run import Silent, Watcher, choose_seed
from bench.scenario import Scenario
from bench.selection import choose_suite
from bench.target import Wanted, target_scenario
from bench.worktrees import SIDES, Checkout, checkouts, repository

FOLDER = Path("results/ab")
"""Where results go that nobody named a place for."""

DEFAULT_URL = "http://127.0.0.1:{port}/"
_DEFAULTS = {"load": "closed:4", "warmup": "300ms", "duration": "1s"}
"""Few connections: most exchanges are then over before anything else gets the CPU, and the median hardly feels it."""

DEFAULT_PAIRS = 200
_GATES = 1000
_SLOWDOWNS = (0.0, 0.05, 0.10)


@dataclass(frozen=True)
class Asked:
    """What the command line says of the load and the servers, option by option; None is not given."""

    suite: str | None
    options: Mapping[str, Sequence[str] | None]
    command: str | None
    url: str | None
    build: str | None
    method: str | None
    metrics: Sequence[str]
    margin: str
    pairs: int
    seed: int | None
    out: str | None
    words: Sequence[str]


def run(asked: Asked, base: str, head: str) -> tuple[Comparison, Path, float]:
    """Compare two revisions of the repository that the current folder is in. Gives also where everything is kept, and
    how long a pair took, in seconds."""
    return _run(asked, base, head, stop_early=True)


def run_equal(asked: Asked, revision: str) -> tuple[Comparison, Path, float]:
    """Compare a revision with itself, for all of the pairs. Raises UsageError for several scenarios."""
    for key, given in asked.options.items():
        if given and (len(given) > 1 or (key != "load" and "," in given[0])):
            raise UsageError(f"--{key}: noise is that of one scenario; choose one")
    return _run(asked, revision, revision, stop_early=False)


def _run(asked: Asked, base: str, head: str, stop_early: bool) -> tuple[Comparison, Path, float]:
    service = _service(asked)
    plan = replace(_plan(asked, service), stop_early=stop_early)
    preflight.check(plan.scenarios)
    top = repository()
    folder = _folder(asked.out)
    watch: AbstractContextManager[Watcher] = nullcontext(Silent())
    with checkouts(top, base, head) as made:
        one, other = (
            _side(checkout, service, folder / f"{name}.log") for name, checkout in zip(SIDES, made, strict=True)
        )
        say(f"base {one.name}, head {other.name}: up to {plan.pairs} pairs, kept in {folder}")
        if sys.stderr.isatty():
            watch = display.watch("base against head", plan.scenarios * 2, plan.pairs)
        with watch as watcher:
            began_s = time.monotonic()
            try:
                found = run_pairs(plan, (one, other), folder, watcher, _say_look)
            except BaseException:
                if (folder / COMPARISON).exists():
                    say(f"what was measured is kept in {folder}")
                raise
            took_s = time.monotonic() - began_s
    pairs = max((len(summary.trials) for summary in summaries(load_run(folder / "head.json"))), default=1)
    return found, folder, took_s / pairs


def _service(asked: Asked) -> Service | None:
    own = {name for name, given in asked.options.items() if given and name not in _LOAD_KEYS}
    if asked.command is None:
        for option, given in (("--url", asked.url), ("--build", asked.build), ("--method", asked.method)):
            if given is not None:
                raise UsageError(f"{option}: it belongs to a server of yours; say how it starts with --command")
        return None
    if asked.suite is not None or own:
        name = "SUITE" if asked.suite is not None else f"--{min(own).replace('_', '-')}"
        raise UsageError(f"{name}: it says what a server of wirebench does, and --command starts one of yours")
    sizes = asked.options.get("payload")
    wanted = Wanted(method=asked.method, payload=sizes[0] if sizes else None)
    return Service(asked.command, asked.url or DEFAULT_URL, asked.build or "", wanted)


_LOAD_KEYS = ("load", "connections", "payload", "warmup", "duration", "timeout")
"""What a load on anybody's server has."""


def _plan(asked: Asked, service: Service | None) -> Plan:
    return Plan(
        _scenarios(asked, service),
        choose_metrics(asked.metrics),
        compareview.parse_margin(asked.margin),
        asked.pairs,
        choose_seed(asked.seed),
        choose_placement(1),
        asked.words,
    )


def _scenarios(asked: Asked, service: Service | None) -> tuple[Scenario, ...]:
    if service is None:
        options = dict(asked.options)
        if asked.suite is None:
            options = {**{key: [value] for key, value in _DEFAULTS.items()}, **{k: v for k, v in options.items() if v}}
        suite = choose_suite(asked.suite, options)
        return suite.scenarios
    values = dict(_DEFAULTS)
    for key in _LOAD_KEYS:
        if (given := asked.options.get(key)) and key != "payload":
            if len(given) > 1:
                raise UsageError(f"--{key}: a server of yours is asked to bear one load at a time")
            values[key] = given[0]
    return (replace(target_scenario(service.target(1), values), group="run"),)


def _side(checkout: Checkout, service: Service | None, output: Path) -> Side:
    return OwnSide(checkout) if service is None else CommandSide(checkout, service, output)


def _folder(out: str | None) -> Path:
    folder = Path(out) if out is not None else FOLDER / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if any((folder / f"{name}.json").exists() for name in SIDES):
        raise UsageError(f"--out: {folder} holds results already; choose another folder")
    return folder


def _say_look(found: Comparison) -> None:
    n = max((answer.n for answer in found.answers), default=0)
    counts = {change: sum(one.change is change for one in found.answers) for change in Change}
    say(f"after {n} pairs: {', '.join(f'{number} {change}' for change, number in counts.items() if number)}")


# A against A


def gates(folder: Path, metrics: Sequence[str], margin: float, most: int) -> tuple[dict[str, float], list[Gates]]:
    """The noise of a trial of each metric (the standard deviation of its logarithm), and what gates of up to `most`
    pairs on these figures would say. Raises UsageError if there are too few pairs."""
    base, head = (load_run(folder / f"{name}.json") for name in SIDES)
    one, other = summaries(base)[0], summaries(head)[0]
    found = {metric: (one.valid_by_round(metric), other.valid_by_round(metric)) for metric in choose_metrics(metrics)}
    found = {metric: sides for metric, sides in found.items() if all(sides) and min(map(_least, sides)) > 0}
    pairs = sorted(set.intersection(*(set(side) for sides in found.values() for side in sides))) if found else []
    if not pairs:
        raise UsageError(f"{folder}: no figure was measured on both sides of a pair")
    base_side, head_side = (
        {metric: np.array([sides[which][number] for number in pairs]) for metric, sides in found.items()}
        for which in (0, 1)
    )
    noise = {
        metric.title: float(np.median(np.abs(np.log(head_side[metric] / base_side[metric])))) / 0.6745 / math.sqrt(2)
        for metric in found
    }
    return noise, [
        simulate_gates(base_side, head_side, one.scenario, slowdown, margin, most, _GATES, seed=number)
        for number, slowdown in enumerate(_SLOWDOWNS)
    ]


def _least(figures: Mapping[int, float]) -> float:
    return min(figures.values())
