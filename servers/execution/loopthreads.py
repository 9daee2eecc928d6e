"""Worker threads with an event loop each, under a main thread that watches over them."""

import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.loopworker import LoopWorker
from servers.execution.model import STOP_MARGIN_S, GaveUpError, describe, make_service, pin


class LoopThreads:
    """One worker thread for each socket given (None: a worker that only adopts connections)."""

    def __init__(self, connection: type[Any], control: Control, sockets: Sequence[socket.socket | None]) -> None:
        self.live: dict[int, LoopWorker] = {}
        """The workers that serve, by number."""
        self._connection = connection
        self._control = control
        self._sockets = sockets
        self._service = make_service(control.spec, control.counters[0])
        self._starting = set(range(len(sockets)))
        self._hopeless = ""

    def serve(self, host: str, port: int, until_stopped: Callable[[], None]) -> None:
        """Serve at that address until stopped; the main thread does `until_stopped` meanwhile.

        A thread that dies is reported and missed. Raises GaveUpError when none is left.
        """
        control = self._control
        control.on_stop = self._stop
        for worker, sock in enumerate(self._sockets):
            threading.Thread(target=self._run, args=(worker, sock), name=f"worker-{worker}", daemon=True).start()
        while self._starting:
            control.wait()
        if self.live:
            control.ready(host, port)
            until_stopped()
        until = time.monotonic() + control.spec.grace_s + STOP_MARGIN_S
        while self.live and time.monotonic() < until:
            control.wait(until - time.monotonic())
        if self._hopeless:
            raise GaveUpError(self._hopeless)

    def _run(self, worker: int, sock: socket.socket | None) -> None:
        control, spec = self._control, self._control.spec
        reason = ""
        try:
            pin(spec, worker)
            loop_worker = LoopWorker(
                self._connection, self._service, control.counters[worker], spec, among_threads=True
            )
            loop_worker.run(sock, partial(control.post, partial(self._serving, worker, loop_worker)))
        except BaseException as error:  # noqa: BLE001  whatever ends a thread is reported
            traceback.print_exc()
            reason = f"ended with {describe(error)}"
        control.post(partial(self._ended, worker, reason))

    # On the main thread

    def _serving(self, worker: int, loop_worker: LoopWorker) -> None:
        self._starting.discard(worker)
        self.live[worker] = loop_worker
        if self._control.stopping:
            loop_worker.stop_threadsafe()

    def _ended(self, worker: int, reason: str) -> None:
        self._starting.discard(worker)
        self.live.pop(worker, None)
        if reason:
            self._control.death(worker, reason, restarted=False)
            if not (self.live or self._starting or self._control.stopping):
                self._hopeless = f"no worker is left: worker {worker} {reason}"
                self._control.stop()

    def _stop(self) -> None:
        for loop_worker in self.live.values():
            loop_worker.stop_threadsafe()
