"""What an execution model is: it says who accepts connections and who runs requests.

A model is a class with three members; it composes with every protocol whose transport it can carry. To add one, add a
file here and its name to `bench.registry`.
"""

import errno
import os
import socket
from typing import Any, Protocol

from servers.control import Control, ServerSpec


class StartError(Exception):
    """The server cannot start. The message is one line for the user."""


class ExecutionModel(Protocol):
    """One way of taking connections and running requests."""

    def unsupported(self, transport_kind: str) -> str | None:
        """Why this model makes no sense over that transport ("stream" or "datagram"); None if it does."""

    def slots(self, workers: int) -> int:
        """How many counters the model needs for so many workers."""

    def serve(self, connection: type[Any], control: Control) -> None:
        """Serve until `control` says stop: finish what is in flight, and return with nothing left running."""


def listen(spec: ServerSpec, transport_kind: str, reuse_port: bool = False) -> socket.socket:
    """A bound socket; a stream socket listens too. Raises StartError if the address cannot be had."""
    stream = transport_kind == "stream"
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        if stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((spec.host, spec.port))
        if stream:
            sock.listen(spec.backlog)
    except OSError as error:
        sock.close()
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise StartError(
            f"cannot listen on {spec.host} port {spec.port}: {reason}; choose another --port, or 0 for any free one"
        ) from None
    sock.setblocking(False)
    return sock


def pin(spec: ServerSpec, worker: int) -> None:
    """Pin the calling thread to its CPU, if the spec names CPUs."""
    if spec.cpus:
        os.sched_setaffinity(0, {spec.cpus[worker % len(spec.cpus)]})
