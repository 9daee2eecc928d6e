"""The brokers that publish-subscribe can go through: what each is, where it is, and one to start where none runs.

A broker's address comes from an option or from the environment; without one, its program is started as a child
process in a folder of its own, on ports of its own, and is ended with all that it wrote.
"""

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bench import registry
from bench.errors import UnsupportedError, UsageError
from bench.peers.programs import Program
from bench.wire.brokers import Connect


@dataclass(frozen=True)
class RunningBroker:
    """A broker, or a store (see `bench.stores`), that answers. `pids` are its processes where this project started it,
    the main one first; else empty."""

    name: str
    address: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class BrokerKind:
    """A broker that can be chosen."""

    name: str
    client: str
    """"module:function" of its `bench.wire.brokers.Connect`."""
    package: str
    """The Python package that the client needs."""
    schemes: tuple[str, ...]
    start: str
    """"module:function" of what starts one: a context manager that is given CPUs and gives a RunningBroker."""
    variable: str | None = None
    """The environment variable that may have its address. None for the embedded one, which is this project's own."""
    program: Program | None = None

    def can_start(self) -> bool:
        """Whether its program is here."""
        return self.program is None or self.program.find() is not None


_STARTED = "bench.brokerprocesses"

BROKERS: Mapping[str, BrokerKind] = {
    kind.name: kind
    for kind in (
        BrokerKind("embedded", "clients.brokers.embedded:connect", "uvloop", ("wirebench",), f"{_STARTED}:embedded"),
        BrokerKind(
            "rabbitmq",
            "clients.brokers.rabbitmq:connect",
            "aio_pika",
            ("amqp", "amqps"),
            f"{_STARTED}:rabbitmq",
            "WIREBENCH_RABBITMQ",
            Program("rabbitmq-server", "apt-get install rabbitmq-server"),
        ),
        BrokerKind(
            "redis",
            "clients.brokers.redis_streams:connect",
            "redis",
            ("redis", "rediss"),
            f"{_STARTED}:redis",
            "WIREBENCH_REDIS",
            Program("redis-server", "apt-get install redis-server", "--version"),
        ),
        BrokerKind(
            "nats",
            "clients.brokers.nats_jetstream:connect",
            "nats",
            ("nats", "tls"),
            f"{_STARTED}:nats",
            "WIREBENCH_NATS",
            Program("nats-server", "apt-get install nats-server", "--version"),
        ),
    )
}
"""The default comes first."""


def choose(name: str) -> BrokerKind:
    """Raises UsageError."""
    return BROKERS[registry.choose(name, BROKERS, "broker")]


def connect(kind: BrokerKind) -> Connect:
    """How its users come to it. Raises UnsupportedError where its package is missing."""
    if importlib.util.find_spec(kind.package) is None:
        raise UnsupportedError(f"the broker {kind.name} needs the Python package {kind.package}; pip install wirebench")
    return cast(Connect, registry.load(kind.client))


def address_of(kind: BrokerKind, option: str | None) -> str | None:
    """The address that an option gives, or else the environment; None if neither does. Raises UsageError."""
    source, address = ("--broker-address", option) if option else (kind.variable, os.environ.get(kind.variable or ""))
    if not address:
        return None
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in kind.schemes or not rest:
        allowed = " or ".join(f"{scheme}://" for scheme in kind.schemes)
        raise UsageError(f"{source}: not an address of the broker {kind.name}; it begins with {allowed}")
    return address


def require_program(kind: BrokerKind) -> None:
    """Raises UnsupportedError for a broker that cannot be started here."""
    if not kind.can_start():
        assert kind.program is not None
        raise UnsupportedError(
            f"the broker {kind.name}: {kind.program.name} is not installed ({kind.program.get}), and {kind.variable}"
            " has no address of one that runs"
        )


def use(address: str, where: str) -> None:
    """Have everything that is started from here on use the broker at an address. Raises UsageError."""
    scheme = address.partition("://")[0]
    for kind in BROKERS.values():
        if kind.variable is not None and scheme in kind.schemes:
            os.environ[kind.variable] = address
            return
    schemes = ", ".join(f"{scheme}://" for kind in BROKERS.values() if kind.variable for scheme in kind.schemes)
    raise UsageError(f"{where}: no address of a broker; those begin with {schemes}")


@contextlib.contextmanager
def running(
    name: str, option: str | None = None, cpus: Sequence[int] = (), start: str | None = None
) -> Iterator[RunningBroker]:
    """A broker to use while the context lasts: the one that is there, or else one that is started on these CPUs and
    stopped. `start` refers to what starts it, where that is not the kind's own.

    Raises UsageError, UnsupportedError where there is no address and no program, ServerFailedError if it does not
    start.
    """
    kind = choose(name)
    address = address_of(kind, option)
    if address is not None:
        yield RunningBroker(name, address, ())
        return
    require_program(kind)
    from bench.programhost import hosted

    with hosted(f"the broker {name}", start or kind.start, {"cpus": list(cpus)}) as gave:
        yield RunningBroker(gave["name"], gave["address"], tuple(gave["pids"]))
