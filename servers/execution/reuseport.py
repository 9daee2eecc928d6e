"""Processes, each with an event loop and a SO_REUSEPORT socket of its own."""

from typing import Any

from servers.control import Control
from servers.execution.loopprocesses import LoopProcesses
from servers.execution.model import bind_group
from servers.worker import Lives, TransportKind


class Reuseport:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        return None

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        LoopProcesses(connection, control, bind_group(control.spec, connection, control.spec.workers)).serve()
