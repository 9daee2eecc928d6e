"""From a suite to trials: which scenarios, in which rounds, in which order, with which seeds."""

import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from bench import opening, proxies, registry
from bench.contract import MIN_EVENT_BYTES
from bench.errors import UnsupportedError, UsageError
from bench.patterns import parse_pattern
from bench.protocols import PROTOCOLS
from bench.quantities import parse_whole
from bench.scenario import KEYS, Scenario, parse_scenario
from bench.schedule import Closed
from bench.suites import suite_names

DEFAULT_ROUNDS = 5
MAX_ROUNDS = 1000
_SUITE_KEYS = ("description", "rounds", "defaults", "group")
_GROUP_KEYS = ("title", *KEYS)
_MAX_TEXT = 300


@dataclass(frozen=True)
class Suite:
    """Scenarios that are run and reported together. `unsupported` are those that make no sense, each with why."""

    name: str
    description: str
    rounds: int
    scenarios: tuple[Scenario, ...]
    unsupported: tuple[tuple[Scenario, str], ...]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial to come."""

    scenario: Scenario
    round: int
    seed: int


def read_suite(name_or_path: str, overrides: Mapping[str, str | list[str]] | None = None) -> Suite:
    """A suite by name, or from a TOML file. `overrides` are scenario keys that the command line sets for every
    scenario.

    Raises UsageError naming the file, the key and what is allowed.
    """
    path = Path(name_or_path)
    if name_or_path in suite_names():
        text = resources.files("bench.suites").joinpath(f"{name_or_path}.toml").read_text(encoding="utf-8")
        where = name_or_path
    elif path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: cannot read the suite: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path}: not a text file in UTF-8") from None
        where = str(path)
    else:
        registry.choose(name_or_path, suite_names(), "suite (a name, or a path that ends in .toml)")
        raise AssertionError("unreachable")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not valid TOML: {error}") from None
    return _parse_suite(document, path.stem, where, overrides or {})


def _parse_suite(document: dict[str, Any], name: str, where: str, overrides: Mapping[str, str | list[str]]) -> Suite:
    for key in document:
        registry.choose(key, _SUITE_KEYS, where)
    defaults, groups = document.get("defaults", {}), document.get("group", [])
    tables = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    if not isinstance(defaults, dict) or not tables or not groups:
        raise UsageError(f"{where}: a suite has a table [defaults] and one or more tables [[group]]")
    for key in defaults:
        registry.choose(key, KEYS, f"{where}: defaults")
    scenarios: list[Scenario] = []
    for number, group in enumerate(groups, start=1):
        place = f"{where}: group {number}"
        for key in group:
            registry.choose(key, _GROUP_KEYS, place)
        title = _text(group.get("title", f"group {number}"), f"{place}: title")
        values = {**defaults, **{k: v for k, v in group.items() if k != "title"}, **overrides}
        if "workers" in overrides:
            values.setdefault("execution", "single")  # which keeps its one worker, as beside other models
        scenarios.extend(expand(values, place, title))
    rounds = parse_whole(document.get("rounds", DEFAULT_ROUNDS), 1, MAX_ROUNDS, f"{where}: rounds")
    description = _text(document.get("description", ""), f"{where}: description")
    return _sorted_out(name, description, rounds, scenarios)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or any(ord(character) < 32 for character in value) or len(value) > _MAX_TEXT:
        raise UsageError(f"{where}: {value!r:.60} is not a line of text in quotes")
    return value


def single_suite(values: Mapping[str, list[str]], where: str) -> Suite:
    """A suite from the command line alone: every combination of the values given."""
    return _sorted_out("run", "", DEFAULT_ROUNDS, list(expand(values, where, "run")))


def _sorted_out(name: str, description: str, rounds: int, scenarios: list[Scenario]) -> Suite:
    """A suite of these scenarios, each once, those that make no sense apart."""
    why = {scenario: why_unsupported(scenario) for scenario in scenarios}
    supported = tuple(scenario for scenario, reason in why.items() if reason is None)
    unsupported = tuple((scenario, reason) for scenario, reason in why.items() if reason is not None)
    return Suite(name, description, rounds, supported, unsupported)


def why_unsupported(scenario: Scenario) -> str | None:
    """Why a scenario makes no sense: its server refuses the model, or its client the request."""
    if scenario.tls not in (known := PROTOCOLS[scenario.protocol].tls):
        return f"{scenario.protocol} runs with tls {' or '.join(known)} only"
    try:
        client = registry.load(registry.client(scenario.protocol, scenario.client, scenario.pattern))
        pattern, words = parse_pattern(scenario.pattern, "pattern")
        for (word, value), need in pattern.further_needs.items():
            if words[word] == value and not getattr(PROTOCOLS[scenario.protocol], need):
                return f"{scenario.protocol} does not carry the pattern {scenario.pattern}: it has no {need}"
        if pattern.unsupported:
            why: str | None = registry.load(pattern.unsupported)(scenario, words)
            if why is not None:
                return why
        if pattern.needs[0] == "caller" and PROTOCOLS[scenario.protocol].lean_calls and scenario.stack != "lean":
            return f"the stack {scenario.stack} takes no calls over {scenario.protocol}; choose the stack lean"
        if pattern.in_one_process and scenario.execution in registry.SEVERAL_PROCESSES:
            return f"{scenario.pattern} asks a process for what it has kept; choose a model of one, like threads"
        if pattern.conversation:
            if scenario.concurrency.in_flight != 1:
                return f"conversations are held one at a time in each place: write {scenario.concurrency.total}"
        elif pattern.server:
            return None  # what the load talks to is none of the protocol's servers
        elif not pattern.has_events:
            client(scenario.exchange, "", True)
        elif isinstance(scenario.load, Closed):
            return f"a publisher needs a rate: choose an open load for the pattern {scenario.pattern}, like open:100/s"
        elif scenario.payload_bytes < MIN_EVENT_BYTES:
            return f"a pushed event has at least {MIN_EVENT_BYTES} bytes, not {scenario.payload_bytes}"
    except UnsupportedError as error:
        return str(error)
    why = registry.unsupported(scenario.protocol, scenario.execution, scenario.stack)
    return why or opening.why_unsupported(scenario) or proxies.why_unsupported(scenario)


def expand(values: Mapping[str, Any], where: str, group: str) -> Iterator[Scenario]:
    """Every combination of the values: a list stands for one scenario each."""
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    for key, choices in zip(values, lists, strict=True):
        if not choices:
            raise UsageError(f"{where}: {key}: the list is empty")
    for combination in product(*lists):
        fields = dict(zip(values, combination, strict=True))
        if fields.get("execution") == "single":
            fields["workers"] = 1  # beside models with several workers, single still has its one
        yield parse_scenario(fields, where, group)


def plan_trials(scenarios: tuple[Scenario, ...], rounds: int, seed: int) -> Iterator[PlannedTrial]:
    """Rounds of every scenario once, each in an order of its own, so that whatever drifts hits all of them alike.

    Within a round all scenarios have the same seed: what is random in the load is the same for all of them.
    """
    generator = random.Random(seed)
    for round_number in range(rounds):
        trial_seed = generator.getrandbits(32)
        for scenario in generator.sample(scenarios, len(scenarios)):
            yield PlannedTrial(scenario, round_number, trial_seed)
