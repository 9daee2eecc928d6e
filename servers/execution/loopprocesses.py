"""Worker processes with an event loop each, under a main process that restarts those that die."""

import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from servers.control import Control
from servers.execution.loopworker import LoopWorker
from servers.execution.model import GaveUpError, make_service, pin
from servers.execution.processes import Children

EARLY_S = 1.0
MAX_EARLY_DEATHS = 5
"""A worker that dies so often within EARLY_S of its start, with no better start in between, will not do better."""


class LoopProcesses:
    """One worker process for each socket given; the same socket may be given more than once.

    The supervisor keeps the sockets, so that a worker's successor finds there what arrived meanwhile.
    """

    def __init__(self, connection: type[Any], control: Control, sockets: Sequence[socket.socket]) -> None:
        self._connection = connection
        self._control = control
        self._sockets = sockets
        self._children = Children(control, self._ended)
        self._started_s = [0.0] * len(sockets)
        self._early_deaths = [0] * len(sockets)
        self._starting = set(range(len(sockets)))
        self._hopeless = ""

    def serve(self) -> None:
        """Serve until stopped. Raises GaveUpError, once everything is stopped, if a worker can't be kept alive."""
        control, address = self._control, self._sockets[0].getsockname()
        control.on_stop = self._stop
        self._children.on_serving = self._starting.discard
        for worker in range(len(self._sockets)):
            self._start(worker)
        while self._starting and not control.stopping:
            control.wait()
        if not control.stopping:
            control.ready(*address[:2])
            control.wait_until_stopped()
        self._children.join()
        if self._hopeless:
            raise GaveUpError(self._hopeless)

    def _start(self, worker: int) -> bool:
        self._started_s[worker] = time.monotonic()
        try:
            self._children.fork(worker, partial(self._run, worker))
        except OSError as error:
            self._give_up(f"worker {worker} cannot be forked: {error.strerror}")
            return False
        return True

    def _give_up(self, why: str) -> None:
        self._hopeless = why
        self._control.stop()

    def _run(self, worker: int) -> None:
        """The life of a worker process."""
        spec = self._control.spec
        sock = self._sockets[worker]
        for other in self._sockets:
            if other is not sock:
                other.close()
        pin(spec, worker)
        slot = self._control.counters[worker]
        loop_worker = LoopWorker(self._connection, make_service(spec, slot), slot, spec)
        loop_worker.stop_at_end_of(self._children.lifeline_fd)
        loop_worker.run(sock, self._children.report_serving)

    def _ended(self, worker: int, code: int, reason: str) -> None:
        stopping = self._control.stopping
        if stopping and code == 0:
            return
        early = time.monotonic() - self._started_s[worker] < EARLY_S
        self._early_deaths[worker] = self._early_deaths[worker] + 1 if early else 0
        hopeless = self._early_deaths[worker] >= MAX_EARLY_DEATHS
        restarted = not (stopping or hopeless) and self._start(worker)
        self._control.death(worker, reason, restarted)
        if hopeless and not stopping:
            self._give_up(f"worker {worker} died {MAX_EARLY_DEATHS} times within {EARLY_S:g} s of its start: {reason}")

    def _stop(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._children.stop()
