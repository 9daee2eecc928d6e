"""A broker in the place of a trial's server (see `bench.serverprocess`)."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from bench import brokers
from bench.contract import MIN_EVENT_BYTES
from bench.errors import UnsupportedError
from bench.proxies import NO_HOPS
from bench.scenario import Scenario
from bench.serverprocess import Death, WorkerCounts


class BrokerServer:
    """A broker that answers while the context lasts. Entering raises UsageError, UnsupportedError,
    ServerFailedError."""

    events: Sequence[Death] = ()

    def __init__(self, words: Mapping[str, Any], cpus: Sequence[int]) -> None:
        """`words` are those of the pattern; the one it has no broker without is `broker`."""
        self._name: str = words["broker"]
        self._cpus = cpus
        self._context = ExitStack()

    def __enter__(self) -> Self:
        self._broker = self._context.enter_context(brokers.running(self._name, cpus=self._cpus))
        parts = urlsplit(self._broker.address)
        self.host, self.port = parts.hostname or "", parts.port or 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, traceback)

    @property
    def broker(self) -> str:
        """The address that its users connect to, with what they log in with."""
        return self._broker.address

    def pids(self) -> list[int]:
        """Its processes; none where it was not started here."""
        return list(self._broker.pids)

    def stats(self) -> tuple[list[WorkerCounts], list[Death]]:
        """Nothing is known of its workers."""
        return [], []


def why_unsupported(scenario: Scenario, words: Mapping[str, Any]) -> str | None:
    """Why a scenario cannot go through its broker; None if it can."""
    if scenario.link is not None or scenario.via != NO_HOPS or scenario.restart:
        return "brokers are reached over loopback without hops, and go on until the end of the trial"
    if (scenario.execution, scenario.stack, scenario.tls) != ("single", "lean", "off"):
        return "brokers bring execution model, stack and security of their own; leave out those of servers"
    if scenario.payload_bytes < MIN_EVENT_BYTES:
        return f"a message has at least {MIN_EVENT_BYTES} bytes, not {scenario.payload_bytes}"
    kind = brokers.choose(words["broker"])
    try:
        brokers.connect(kind)
        if brokers.address_of(kind, None) is None:
            brokers.require_program(kind)
    except UnsupportedError as error:
        return str(error)
    return None
