"""Threads of one process, each with an event loop of its own, accept on one shared socket."""

from typing import Any

from servers.control import Control
from servers.execution.loopthreads import LoopThreads
from servers.execution.model import listen, not_in_threads, not_shared
from servers.worker import Lives, TransportKind


class AcceptThreads:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        return not_shared(transport_kind) or not_in_threads(lives)

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        with listen(control.spec, connection) as sock:
            host, port = sock.getsockname()[:2]
            # Each loop closes the socket that it is given: a descriptor each, of the same socket.
            sockets = [sock.dup() for _ in range(control.spec.workers)]
        LoopThreads(connection, control, sockets).serve(host, port, control.wait_until_stopped)
