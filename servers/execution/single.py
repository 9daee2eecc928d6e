"""One process, one thread, one event loop: it accepts, reads, runs and answers."""

from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.loopworker import LoopWorker
from servers.execution.model import listen, make_service, pin
from servers.worker import Lives, TransportKind


class Single:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        return None

    def slots(self, workers: int) -> int:
        return 1

    def serve(self, connection: type[Any], control: Control) -> None:
        spec = control.spec
        sock = listen(spec, connection)
        pin(spec, 0)
        slot = control.counters[0]
        worker = LoopWorker(connection, make_service(spec, slot), slot, spec)
        control.on_stop = worker.stop
        worker.loop.add_reader(control.fileno(), control.on_readable)
        worker.run(sock, partial(control.ready, *sock.getsockname()[:2]))
