"""The main thread accepts; each connection has a thread of its own that blocks."""

import socket
import threading
import time
import traceback
from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.accepting import accept_until_stopped
from servers.execution.blocking import BlockingConnection
from servers.execution.model import MAX_CONNECTIONS, STOP_MARGIN_S, describe, listen, make_service, not_handed_over, pin
from servers.worker import Lives, TransportKind


class ThreadPerConnection:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        if transport_kind != "stream":
            return "datagrams bring no connections to have a thread each; use reuseport"
        if lives == "loop":
            return "its connections need an event loop; use prefork or reuseport"
        return not_handed_over(lives)

    def slots(self, workers: int) -> int:
        return MAX_CONNECTIONS

    def serve(self, connection: type[Any], control: Control) -> None:
        spec = control.spec
        service = make_service(spec, control.counters[0])
        live: dict[int, BlockingConnection] = {}
        free = list(range(MAX_CONNECTIONS - 1, -1, -1))

        def take(sock: socket.socket) -> None:
            worker = free[-1]
            blocking = BlockingConnection(connection, service, control.counters[worker], spec, sock)
            threading.Thread(target=run, args=(worker, blocking), name=f"worker-{worker}", daemon=True).start()
            free.pop()
            live[worker] = blocking

        def run(worker: int, blocking: BlockingConnection) -> None:
            reason = ""
            try:
                pin(spec, worker)
                blocking.run()
            except BaseException as error:  # noqa: BLE001  whatever ends a thread is reported
                traceback.print_exc()
                reason = f"ended with {describe(error)}"
            control.post(partial(ended, worker, reason))

        def ended(worker: int, reason: str) -> None:
            del live[worker]
            free.append(worker)
            if reason:
                control.death(worker, reason, restarted=False)

        listener = listen(spec, connection)
        control.ready(*listener.getsockname()[:2])
        accept_until_stopped(control, listener, take, has_room=lambda: bool(free))
        for blocking in live.values():
            blocking.drain()
        for until in (time.monotonic() + spec.grace_s, time.monotonic() + spec.grace_s + STOP_MARGIN_S):
            while live and time.monotonic() < until:
                control.wait(until - time.monotonic())
            for blocking in live.values():
                blocking.abort()
