"""A service of the user's own, as the wirebench.toml in its repository describes it (`bench.servicefile` reads it)."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.address import parse_address, parse_security
from bench.errors import TrialInterruptedError, UsageError
from bench.mix import Mix
from bench.placement import Placement
from bench.protocols import PROTOCOLS
from bench.run import Watcher
from bench.scenario import Scenario
from bench.schedule import Open
from bench.serviceprocess import PORT, Command, Ready, ServiceProcess, await_ready, check_port_is_free, free_port
from bench.servicerequests import told_by_server
from bench.target import Target, mix_target, run_load, target_scenario
from bench.thresholds import Threshold, judge

FILE = "wirebench.toml"


def why_unsupported(_scenario: Scenario, _words: Mapping[str, Any]) -> str:
    """Why the pattern mix is none for suites."""
    return f"a mix is what a {FILE} describes: write one with wirebench init, and run it with wirebench load"


@dataclass(frozen=True)
class OwnService:
    """What a wirebench.toml says. `command` is None where the service is not started here."""

    path: Path
    url: str
    """With `{port}` where the port is of the kernel's choice."""
    command: Command | None
    ready: Ready | None
    """None where nothing is started and nothing is said about it: the load itself will see."""
    insecure: bool
    cacert: str | None
    tls: str | None
    mix: Mix
    load: Mapping[str, str]
    """Keys of a scenario, as users write them."""
    seed: int | None
    thresholds: tuple[Threshold, ...]

    def target(self, port: int) -> Target:
        """Where the load goes, if the service has that port. Raises UsageError."""
        address = parse_address(self.url.replace(PORT, str(port)))
        security = parse_security(address, self.insecure, self.cacert, self.tls)
        return mix_target(address, security, self.mix, self.url)

    def scenario(self, target: Target, changes: Mapping[str, str]) -> Scenario:
        """The scenario of a load against it: the file's, with `changes` to keys of a scenario. Raises UsageError."""
        where = "command line" if changes else f"{self.path}: load"  # the file was right when it was read
        scenario = target_scenario(target, {**self.load, **changes}, where)
        self._check_rate(scenario)
        return scenario

    def repeated(self) -> "OwnService":
        """The same for a measurement of many trials, which says itself how long they are, and judges them itself: no
        warm-up, no duration and no thresholds."""
        kept = {key: value for key, value in self.load.items() if key not in ("warmup", "duration")}
        return replace(self, load=kept, thresholds=())

    def _check_rate(self, scenario: Scenario) -> None:
        if not isinstance(scenario.load, Open):
            return
        most = max(max(stage.from_per_s, stage.to_per_s) for stage in scenario.load.stages)
        for threshold in self.thresholds:
            if threshold.metric == "rate" and not threshold.is_upper and threshold.limit > most:
                raise UsageError(
                    f"{self.path}: load: thresholds: {threshold.text!r} can never hold: the load "
                    f"{scenario.load} offers {most:g}/s at most"
                )


@dataclass(frozen=True)
class Running:
    """A service that is ready for load, and where that goes."""

    own: OwnService
    target: Target
    process: ServiceProcess | None
    """None where the service was not started here."""

    def trial(
        self, scenario: Scenario, seed: int, load_processes: int, placement: Placement, watcher: Watcher
    ) -> dict[str, Any]:
        """One trial at the scenario's load, as result files hold it, with the thresholds judged. Raises
        TargetError, and UnsupportedError where a link cannot be had."""
        try:
            trial = run_load(self.target, scenario, seed, load_processes, placement.load_only(), watcher, self.process)
        except TrialInterruptedError as interrupt:
            trial = interrupt.trial
            raise TrialInterruptedError({**trial, "thresholds": judge(self.own.thresholds, trial)}) from None
        return {**trial, "thresholds": judge(self.own.thresholds, trial)}


@contextlib.contextmanager
def running(own: OwnService, placement: Placement) -> Iterator[Running]:
    """The service, started if the file says how, and ready. Whatever was started is ended with the context.

    Raises UsageError, ServerFailedError, TargetError.
    """
    port = free_port() if PORT in own.url else 0
    target = own.target(port)
    address = target.address
    with contextlib.ExitStack() as stack:
        process = None
        if own.command is not None:
            if not port and PROTOCOLS[address.protocol].transport_kind == "stream":
                check_port_is_free(address.host, address.port)
            process = stack.enter_context(ServiceProcess(own.command, port or address.port, placement.server))
        if own.ready is not None:
            await_ready(address, own.ready, process)
        mix = told_by_server(own.mix, address, target.security)
        yield Running(own, replace(target, mix=mix), process)
