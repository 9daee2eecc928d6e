"""The main process accepts, and forks a process for each connection, which blocks."""

import socket
from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.accepting import accept_until_stopped
from servers.execution.blocking import BlockingConnection
from servers.execution.model import MAX_CONNECTIONS, listen, make_service, not_handed_over, pin
from servers.execution.processes import Children
from servers.worker import Lives, TransportKind


class ProcessPerConnection:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        if transport_kind != "stream":
            return "datagrams bring no connections to have a process each; use reuseport"
        if lives == "loop":
            return "its connections need an event loop; use prefork or reuseport"
        return not_handed_over(lives)

    def slots(self, workers: int) -> int:
        return MAX_CONNECTIONS

    def serve(self, connection: type[Any], control: Control) -> None:
        spec = control.spec
        free = list(range(MAX_CONNECTIONS - 1, -1, -1))

        service = make_service(spec, control.counters[0])  # each process has it as it is now

        def take(sock: socket.socket) -> None:
            worker = free[-1]
            slot = control.counters[worker]
            blocking = BlockingConnection(connection, service, slot, spec, sock)
            children.fork(worker, partial(run, worker, blocking), on_terminate=blocking.drain)
            sock.close()
            free.pop()

        def run(worker: int, blocking: BlockingConnection) -> None:
            listener.close()
            service.topics.count_in(control.counters[worker])
            pin(spec, worker)
            blocking.run()

        def ended(worker: int, code: int, reason: str) -> None:
            free.append(worker)
            if code != 0 and not control.stopping:
                control.death(worker, reason, restarted=False)

        children = Children(control, ended)
        listener = listen(spec, connection)
        control.ready(*listener.getsockname()[:2])
        accept_until_stopped(control, listener, take, has_room=lambda: bool(free))
        children.stop()
        children.join()
