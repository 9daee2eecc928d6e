"""The stores that servers keep sessions in and that are programs of their own: found or started as brokers are (see
`bench.brokers`), and there for as long as the trial, whatever becomes of the server."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import brokers
from bench.errors import UnsupportedError
from bench.scenario import Scenario

REDIS = "redis"


@dataclass(frozen=True)
class RunningStore:
    """A store that answers; no address where the server needs none. `pids` are its processes where it was started here,
    the main one first."""

    address: str
    pids: tuple[int, ...]


@contextlib.contextmanager
def running(place: str, cpus: Sequence[int] = ()) -> Iterator[RunningStore]:
    """The store that `place` names while the context lasts: the one that is there, or else one that is started on these
    CPUs. Other places than those of programs need nothing.

    Raises UsageError, UnsupportedError where there is no address and no program, ServerFailedError if it does not
    start.
    """
    if place != REDIS:
        yield RunningStore("", ())
        return
    kind = brokers.choose(REDIS)
    address = brokers.address_of(kind, None)
    if address is not None:
        yield RunningStore(address, ())
        return
    brokers.require_program(kind)
    from bench.programhost import hosted

    with hosted("the store redis", "bench.brokerprocesses:redis_store", {"cpus": list(cpus)}) as gave:
        yield RunningStore(gave["address"], tuple(gave["pids"]))


def why_unsupported(scenario: Scenario, words: Mapping[str, Any]) -> str | None:
    """Why a scenario's sessions cannot be kept where it says; None if they can."""
    if words["kept"] != REDIS:
        return None
    if scenario.link is not None:
        return "a server reaches redis over loopback, and a link's server has one of its own: leave the link out"
    kind = brokers.choose(REDIS)
    try:
        if brokers.address_of(kind, None) is None:
            brokers.require_program(kind)
    except UnsupportedError as error:
        return str(error)
    return None
