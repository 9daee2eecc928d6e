"""Forked processes, each with an event loop of its own, accept on one listening socket that they inherit."""

from typing import Any

from servers.control import Control
from servers.execution.loopprocesses import LoopProcesses
from servers.execution.model import listen, not_in_threads, not_shared
from servers.worker import Lives, TransportKind


class Prefork:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        return not_shared(transport_kind) or not_in_threads(lives)

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        sock = listen(control.spec, connection)
        LoopProcesses(connection, control, [sock] * control.spec.workers).serve()
