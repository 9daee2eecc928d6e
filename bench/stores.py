"""The stores that servers keep sessions in and that are programs of their own: found or started as brokers are (see
`bench.brokers`), and there for as long as the trial, whatever becomes of the server."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from bench import brokers
from bench.brokers import RunningBroker
from bench.errors import UnsupportedError
from bench.scenario import Scenario

REDIS = "redis"


def running(place: str, cpus: Sequence[int] = ()) -> AbstractContextManager[RunningBroker]:
    """The store that `place` names while the context lasts, as `bench.brokers.running` does it. Other places than those
    of programs need nothing, and have no address.

    Entering raises what that raises.
    """
    if place == REDIS:
        return brokers.running(REDIS, cpus=cpus, start="bench.brokerprocesses:redis_store")
    return contextlib.nullcontext(RunningBroker(place, "", ()))


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
