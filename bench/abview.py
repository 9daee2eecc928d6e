"""What `wirebench ab` and `wirebench aa` make of their options, and what they show while they run."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from analysis.load_results import load_run
from analysis.regression import Change, RunComparison, choose_metrics
from analysis.simulation import Gates, simulate_gates
from analysis.summary import summaries
from bench import compareview, display, ownservice, preflight, servicefile
from bench.ab import COMPARISON, OwnSide, Plan, ServiceSide, Side, run_pairs
from bench.address import SCHEMES
from bench.errors import UsageError
from bench.output import say
from bench.ownservice import OwnService
from bench.placement import choose_placement
from bench.run import Silent, Watcher, choose_seed
from bench.scenario import Scenario, parse_payload
from bench.selection import choose_suite
from bench.worktrees import SIDES, Checkout, checkouts, repository

FOLDER = Path("results/ab")
"""Where results go that nobody named a place for."""

DEFAULT_URL = "http://127.0.0.1:{port}/"
_LENGTHS = {"warmup": "300ms", "duration": "1s"}
_LOAD = {"load": "closed:4"}
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


def run(asked: Asked, base: str, head: str) -> tuple[RunComparison, Path, float]:
    """Compare two revisions of the repository that the current folder is in. Gives also where everything is kept, and
    how long a pair took, in seconds."""
    return _run(asked, base, head, stop_early=True)


def run_equal(asked: Asked, revision: str) -> tuple[RunComparison, Path, float]:
    """Compare a revision with itself, for all of the pairs. Raises UsageError for several scenarios."""
    for key, given in asked.options.items():
        if given and (len(given) > 1 or (key != "load" and "," in given[0])):
            raise UsageError(f"--{key}: noise is that of one scenario; choose one")
    return _run(asked, revision, revision, stop_early=False)


def _run(asked: Asked, base: str, head: str, stop_early: bool) -> tuple[RunComparison, Path, float]:
    _check(asked)
    margin, metrics = compareview.parse_margin(asked.margin), choose_metrics(asked.metrics)
    top = repository()
    folder = _folder(asked.out)
    watch: AbstractContextManager[Watcher] = nullcontext(Silent())
    with checkouts(top, base, head) as made:
        (one, other), scenarios, may_lighten = _sides(asked, made, folder)
        preflight.check(scenarios)
        seed, placement = choose_seed(asked.seed), choose_placement(1)
        plan = Plan(scenarios, metrics, margin, asked.pairs, seed, placement, asked.words, stop_early, may_lighten)
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


_LOAD_KEYS = ("load", "connections", "warmup", "duration", "timeout")
"""What a load on a service of the user's own has."""


def _own_words(asked: Asked) -> str:
    """What is said that only wirebench's own servers can be told; empty if nothing is."""
    if asked.suite is not None:
        return "SUITE"
    keys = _LOAD_KEYS if asked.command is None else (*_LOAD_KEYS, "payload")
    return min((f"--{key}" for key, given in asked.options.items() if given and key not in keys), default="")


def _check(asked: Asked) -> None:
    """Raises UsageError for options that contradict each other, before anything is checked out."""
    if asked.command is not None:
        if own := _own_words(asked):
            raise UsageError(f"{own}: it says what a server of wirebench does, and --command starts one of yours")
        _from_options(asked)
    for option, given in (("--url", asked.url), ("--method", asked.method)):
        if given is not None and asked.command is None:
            raise UsageError(f"{option}: it belongs to a server of yours; say how it starts with --command")


def _sides(
    asked: Asked, made: tuple[Checkout, Checkout], folder: Path
) -> tuple[tuple[Side, Side], tuple[Scenario, ...], bool]:
    """Both sides, what is asked of them, and whether nobody said at which load: of a service of the user's own, as
    --command or the file of each checkout describes it; else of wirebench's own servers. Raises UsageError."""
    said_load = bool(asked.options.get("load"))
    if asked.command is None and (
        _own_words(asked) or not any((each.here / ownservice.FILE).exists() for each in made)
    ):
        if asked.build is not None:
            raise UsageError("--build: it belongs to a server of yours; say how it starts with --command")
        return (OwnSide(made[0]), OwnSide(made[1])), _scenarios(asked), not said_load and asked.suite is None
    base, head = (_own(asked, each, folder / f"{name}.log") for name, each in zip(SIDES, made, strict=True))
    scenario, other = (_scenario(asked, own) for own in (base, head))
    if base.mix != head.mix or scenario != other:
        raise UsageError(
            f"base and head ask for different things: the requests or the load in {ownservice.FILE} have changed "
            "between them; compare revisions that ask the same"
        )
    build = asked.build or ""
    return (
        (ServiceSide(made[0], base, build), ServiceSide(made[1], head, build)),
        (scenario,),
        not (said_load or base.load.get("load")),
    )


def _own(asked: Asked, checkout: Checkout, output: Path) -> OwnService:
    """The service of a checkout. What it writes goes to `output`."""
    own = _read(checkout) if asked.command is None else _from_options(asked)
    if own.command is not None:
        cwd = checkout.here if asked.command is not None else own.command.cwd
        own = replace(own, command=replace(own.command, cwd=cwd, output=output.resolve()))
    return own.repeated()


def _read(checkout: Checkout) -> OwnService:
    path = checkout.here / ownservice.FILE
    if not path.exists():
        raise UsageError(
            f"{checkout.name} holds no {path.name}; compare revisions that do, or say how both start with --command"
        )
    try:
        return servicefile.read(path)
    except UsageError as error:
        raise UsageError(f"{checkout.name}: {str(error).replace(f'{checkout.here}/', '')}") from None


def _from_options(asked: Asked) -> OwnService:
    """The service that --command starts, with one request. Raises UsageError."""
    base, path = _split(asked.url or DEFAULT_URL)
    sizes = asked.options.get("payload")
    request: dict[str, Any] = {"path": path}
    if asked.method is not None:
        request["method"] = asked.method
    if sizes:
        request["body"] = "w" * parse_payload(_single("payload", sizes), "--payload")
    # Its certificate is not what is measured.
    secure = (scheme := base.partition("://")[0]) in SCHEMES and SCHEMES[scheme].tls
    service = {"command": asked.command, "url": base, "insecure": secure}
    document = {"service": service, "request": [request]}
    return servicefile.from_document(document, Path("command line"))


def _split(url: str) -> tuple[str, str]:
    """An address in its server and its path."""
    scheme, mark, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    return f"{scheme}{mark}{authority}", f"/{path}"


def _scenario(asked: Asked, own: OwnService) -> Scenario:
    options = {key: given for key in _LOAD_KEYS if (given := asked.options.get(key))}
    spelled = {key: _single(key, given) for key, given in options.items()}
    return own.scenario(own.target(1), {**_LOAD, **_LENGTHS, **own.load, **spelled})


def _single(key: str, given: Sequence[str]) -> str:
    if len(given) > 1:
        raise UsageError(f"--{key}: a service of yours is asked to bear one load at a time")
    return given[0]


def _scenarios(asked: Asked) -> tuple[Scenario, ...]:
    options = dict(asked.options)
    if asked.suite is None:
        defaults = {key: [value] for key, value in {**_LOAD, **_LENGTHS}.items()}
        options = defaults | {key: given for key, given in options.items() if given}
    return choose_suite(asked.suite, options).scenarios


def _folder(out: str | None) -> Path:
    folder = Path(out) if out is not None else FOLDER / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if any((folder / f"{name}.json").exists() for name in SIDES):
        raise UsageError(f"--out: {folder} holds results already; choose another folder")
    return folder


def _say_look(found: RunComparison) -> None:
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
