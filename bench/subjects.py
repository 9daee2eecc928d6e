"""Whose capacity can be asked for: a server that runs already, a service of the user's own, or wirebench's servers."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import preflight
from bench.address import parse_address
from bench.errors import TargetError, UsageError
from bench.ownservice import OwnService, running
from bench.placement import Placement
from bench.protocols import PROTOCOLS
from bench.run import Silent
from bench.scenario import Scenario
from bench.schedule import parse_load
from bench.selection import choose_suite
from bench.target import Target, Wanted, parse_target, run_load, target_scenario
from bench.trial import run_trial

Measure = Callable[[str, int, int], dict[str, Any]]
"""A load as users spell it, nanoseconds to measure, a seed: the record of a trial. Raises TargetError where the service
is not there."""

_ANY_LOAD = "open:1/s"
"""Of the scenarios, whose load is replaced in each trial."""


@dataclass(frozen=True)
class Subject:
    """A service whose capacity is asked for: whoever can offer it a load for a while."""

    name: str
    measure: Measure
    outlives: bool
    """Whether there is a service for the next trial where this one did not live through the last."""
    execution: str | None = None
    workers: int | None = None
    """Known of servers that are started here."""


def server_subjects(
    options: Mapping[str, Sequence[str]], load_processes: int, placement: Placement
) -> tuple[Subject, ...]:
    """A server for each combination of the options (keys of a scenario), started anew for each trial.

    Raises UsageError, UnsupportedError."""
    suite = choose_suite(None, {**options, "load": [_ANY_LOAD]})
    preflight.check(suite.scenarios)
    return tuple(_server(scenario, load_processes, placement) for scenario in suite.scenarios)


def _server(scenario: Scenario, load_processes: int, placement: Placement) -> Subject:
    def measure(load: str, duration_ns: int, seed: int) -> dict[str, Any]:
        asked = replace(scenario, load=parse_load(load, "load"), duration_ns=duration_ns)
        return run_trial(asked, 0, seed, load_processes, placement, lambda _progress: None)

    workers = f" × {scenario.workers}" if scenario.execution != "single" else ""
    name = f"{scenario.protocol} {scenario.execution}{workers} {scenario.operation}"
    return Subject(name, measure, True, scenario.execution, scenario.workers)


def target_subject(
    url: str,
    wanted: Wanted,
    trust: tuple[bool, str | None, str | None],
    options: dict[str, str],
    load_processes: int,
    placement: Placement,
) -> Subject:
    """A server that runs already. `trust` is --insecure, --cacert and --tls, `options` keys of a scenario. Raises
    UsageError, TargetError."""
    address = parse_address(url)
    if "request-response" not in PROTOCOLS[address.protocol].patterns:
        raise UsageError(f"{url}: {address.scheme} carries events and no requests, whose capacity this is about")
    target = parse_target(url, wanted, *trust)
    scenario = target_scenario(target, {**options, "load": _ANY_LOAD})
    preflight.check([scenario])
    return Subject(
        f"{target.operation} {target.address.url}", _measure(target, scenario, load_processes, placement), False
    )


def _measure(target: Target, scenario: Scenario, load_processes: int, placement: Placement) -> Measure:
    def measure(load: str, duration_ns: int, seed: int) -> dict[str, Any]:
        asked = replace(scenario, load=parse_load(load, "load"), duration_ns=duration_ns)
        return run_load(target, asked, seed, load_processes, placement.load_only(), Silent())

    return measure


@contextlib.contextmanager
def own_subject(
    own: OwnService, options: Mapping[str, str], load_processes: int, placement: Placement
) -> Iterator[tuple[Subject]]:
    """A service as a wirebench.toml describes it, started once for all trials and ended with the context. `options` are
    keys of a scenario that go before the file's. Raises UsageError, ServerFailedError."""
    own = own.repeated()

    def scenario(target: Target, load: str) -> Scenario:
        return own.scenario(target, {**options, "load": load})

    preflight.check([scenario(own.target(1), _ANY_LOAD)])
    with running(own, placement) as service:

        def measure(load: str, duration_ns: int, seed: int) -> dict[str, Any]:
            if service.process is not None and (death := service.process.death()) is not None:
                raise TargetError(f"the service {death}")
            asked = replace(scenario(service.target, load), duration_ns=duration_ns)
            return service.trial(asked, seed, load_processes, placement, Silent())

        yield (Subject(f"{service.target.operation} {service.target.called}", measure, False),)
