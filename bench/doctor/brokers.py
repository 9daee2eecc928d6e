"""The brokers that publish-subscribe can go through: which can be started here, and which answer at the address in the
environment."""

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.brokers import BROKERS, BrokerKind, address_of
from bench.doctor.check import Check
from bench.errors import UsageError
from bench.wire.brokers import without_login

_ANSWER_TIMEOUT_S = 0.3
_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "nats": 4222, "tls": 4222}
"""Where these brokers are when an address has no port."""


def brokers() -> Iterator[Check]:
    """All of them. None but the embedded one is needed."""
    for kind in BROKERS.values():
        yield _check(kind)


def _check(kind: BrokerKind) -> Check:
    try:
        address = address_of(kind, None)
    except UsageError as error:
        return Check("brokers", kind.name, "warn", str(error), f"correct or unset {kind.variable}")
    if address is not None:
        at = f"{without_login(address)} (from {kind.variable})"
        if _listens(address):
            return Check("brokers", kind.name, "ok", f"answers at {at}")
        return Check("brokers", kind.name, "warn", f"nobody answers at {at}", f"start it, or unset {kind.variable}")
    if kind.program is None:
        return Check("brokers", kind.name, "ok", "part of wirebench, started for each trial")
    if kind.program.find() is None:
        fix = f"{kind.program.get}, or set {kind.variable} to the address of one that runs"
        return Check("brokers", kind.name, "warn", "not installed", fix)
    version = kind.program.version()
    return Check("brokers", kind.name, "ok", f"{version or 'installed'}, started for each trial")


def _listens(address: str) -> bool:
    """Whether somebody takes connections there: who it is, only a login would tell."""
    parts = urlsplit(address)
    with contextlib.suppress(OSError, ValueError):
        target = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        with socket.create_connection(target, timeout=_ANSWER_TIMEOUT_S):
            return True
    return False
