"""Forked processes, each with an event loop of its own, accept on one listening socket that they inherit."""

from typing import Any

from servers.control import Control
from servers.execution.loopprocesses import LoopProcesses
from servers.execution.model import listen


class Prefork:
    def unsupported(self, transport_kind: str) -> str | None:
        return None

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        sock = listen(control.spec, connection.transport_kind)
        LoopProcesses(connection, control, [sock] * control.spec.workers).serve()
