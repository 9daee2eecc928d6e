"""One listener thread accepts, and hands connections in turn to worker threads that have an event loop each."""

import itertools
import socket
from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.accepting import accept_until_stopped
from servers.execution.loopthreads import LoopThreads
from servers.execution.model import listen, not_handed_over
from servers.worker import Lives, TransportKind


class Threads:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        if transport_kind != "stream":
            return "datagrams bring no connections to hand to threads; use reuseport-threads"
        return not_handed_over(lives)

    def slots(self, workers: int) -> int:
        return workers

    def serve(self, connection: type[Any], control: Control) -> None:
        threads = LoopThreads(connection, control, [None] * control.spec.workers)
        turns = itertools.count()

        def take(sock: socket.socket) -> None:
            workers = list(threads.live.values())
            workers[next(turns) % len(workers)].adopt_threadsafe(sock)

        listener = listen(control.spec, connection)
        host, port = listener.getsockname()[:2]
        accept = partial(accept_until_stopped, control, listener, take, has_room=lambda: bool(threads.live))
        threads.serve(host, port, accept)
