"""Threads of one process, each with an event loop and a SO_REUSEPORT socket of its own."""

from typing import Any

from servers.control import Control
from servers.execution.loopthreads import LoopThreads
from servers.execution.model import bind_group, not_in_threads
from servers.worker import Lives, TransportKind


class ReuseportThreads:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        return not_in_threads(lives)

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        sockets = bind_group(control.spec, connection, control.spec.workers)
        host, port = sockets[0].getsockname()[:2]
        LoopThreads(connection, control, sockets).serve(host, port, control.wait_until_stopped)
