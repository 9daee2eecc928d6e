"""What an execution model is: it says who accepts connections and who runs requests.

A model is a class with three members; it composes with every protocol whose transport it can carry. To add one, add a
file here and its name to `bench.registry`.
"""

import errno
import os
import socket
from pathlib import Path
from typing import Any, Protocol

from servers.control import Control, ServerSpec
from servers.counters import Slot
from servers.service import Service
from servers.worker import Lives, TransportKind

STOP_MARGIN_S = 0.5
"""What a worker may take to end, beyond the grace it gives to requests in flight."""


MAX_CONNECTIONS = 1024
"""How many connections the models with a thread or process for each have at once; more wait to be accepted."""


_FAST_OPEN, _FAST_OPEN_SERVER = Path("/proc/sys/net/ipv4/tcp_fastopen"), 2
"""The setting, of the network namespace that one is in, and its bit for servers (ip-sysctl)."""


class StartError(Exception):
    """What the server is asked to be cannot be had here. The message is one line for the user."""


class GaveUpError(Exception):
    """The server cannot go on. The message is one line for the user."""


class ExecutionModel(Protocol):
    """One way of taking connections and running requests."""

    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        """Why this model makes no sense for a server with that transport, whose connections live there; None if it
        does."""

    def slots(self, workers: int) -> int:
        """How many counters the model needs for so many workers."""

    def serve(self, connection: type[Any], control: Control) -> None:
        """Serve until `control` says stop: finish what is in flight, and return with nothing left running.

        Raises StartError, or GaveUpError once everything has been stopped.
        """


def not_shared(transport_kind: TransportKind) -> str | None:
    """Why connections of that transport cannot come from one socket that many workers read; None if they can."""
    if transport_kind == "quic":
        return "each datagram of a QUIC connection could reach another worker of a shared socket; use reuseport"
    return None


def not_handed_over(lives: Lives) -> str | None:
    """Why a connection that is accepted elsewhere cannot be handed to such a server; None if it can."""
    if lives in ("listener", "process"):
        return "this stack takes its connections from the socket itself; use single or reuseport"
    return None


def not_in_threads(lives: Lives) -> str | None:
    """Why a server cannot have many workers on one socket, or in one process; None if it can."""
    if lives == "process":
        return "this stack binds its address itself, once in a process; use single or reuseport"
    return None


def describe(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(": ")


def listen(spec: ServerSpec, connection: type[Any]) -> socket.socket:
    """A bound socket; that of a stream listens too, unless the server binds the address itself and it only holds that.
    Raises StartError if the address cannot be had."""
    if connection.lives == "process":
        (sock,) = bind_group(spec, connection, 1)
        return sock
    return _bind(spec, connection.transport_kind, spec.port, backlog=spec.backlog)


def bind_group(spec: ServerSpec, connection: type[Any], size: int) -> list[socket.socket]:
    """So many sockets bound to one address, among which the kernel spreads what arrives (SO_REUSEPORT).

    Stream sockets do not listen yet: each gets connections from when its worker listens. Raises StartError if the
    address cannot be had.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise StartError("this system has no SO_REUSEPORT; choose another execution model, like prefork")
    transport_kind = connection.transport_kind
    first = _bind(spec, transport_kind, spec.port)
    # The first takes the port for itself, and only then shares it: with the option set before, the port could be one
    # that another server of the same user has, and both would get a part of the connections.
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port = first.getsockname()[1]
    return [first, *(_bind(spec, transport_kind, port, reuse_port=True) for _ in range(1, size))]


def _bind(
    spec: ServerSpec, transport_kind: TransportKind, port: int, reuse_port: bool = False, backlog: int | None = None
) -> socket.socket:
    stream = transport_kind == "stream"
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        if stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if stream and spec.fast_open:
            _set_fast_open(sock, spec.backlog)
        sock.bind((spec.host, port))
        if stream and backlog is not None:
            sock.listen(backlog)
    except (OSError, OverflowError) as error:
        sock.close()
        if isinstance(error, OverflowError):
            reason = "a port is 0 to 65535"
        else:
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise StartError(
            f"cannot listen on {spec.host} port {spec.port}: {reason}; choose another --port, or 0 for any free one"
        ) from None
    sock.setblocking(False)
    return sock


def _set_fast_open(sock: socket.socket, queue: int) -> None:
    """Take data with a SYN, of so many clients at a time that have not finished their handshake (RFC 7413)."""
    try:
        value = int(_FAST_OPEN.read_text())
    except OSError:
        raise StartError("this kernel has no TCP Fast Open; use Linux 3.7 or newer") from None
    if not value & _FAST_OPEN_SERVER:
        raise StartError(
            f"TCP Fast Open is off for servers: net.ipv4.tcp_fastopen is {value}, and needs {_FAST_OPEN_SERVER} too; "
            "a link has ends of its own, where it is 3: add one, like rtt=1ms"
        )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, queue)


def make_service(spec: ServerSpec, slot: Slot) -> Service:
    """The service of a process; `slot` is that of one of its workers."""
    return Service(spec.state, spec.policy, slot, spec.redis)


def pin_all(spec: ServerSpec) -> None:
    """Keep the whole process on the CPUs that the spec names, if it names any: the listener or supervisor too.

    Raises StartError where that cannot be done.
    """
    if not spec.cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise StartError("this system cannot pin a thread to a CPU; leave the CPUs out")
    available = os.sched_getaffinity(0)
    if missing := set(spec.cpus) - available:
        allowed = ", ".join(map(str, sorted(available)))
        raise StartError(f"CPU {min(missing)} cannot be had; those available here are {allowed}")
    os.sched_setaffinity(0, set(spec.cpus))


def pin(spec: ServerSpec, worker: int) -> None:
    """Pin the calling thread to its CPU, if the spec names CPUs."""
    if spec.cpus:
        os.sched_setaffinity(0, {spec.cpus[worker % len(spec.cpus)]})
