"""One listener thread accepts and reads every connection, and balances requests over worker threads that run them.

The counters have one more slot, the last, for the listener: it accepts, and answers by itself what needs no running,
like a refusal.
"""

import asyncio
import contextlib
import math
import threading
import time
import traceback
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import Any

from servers.control import Control
from servers.counters import REQUESTS
from servers.execution.loopworker import LoopWorker
from servers.execution.model import STOP_MARGIN_S, GaveUpError, describe, listen, make_service, not_handed_over, pin
from servers.service import Route
from servers.worker import Connection, Deferral, Deferrals, Lives, TransportKind, answer_blocking

_Job = tuple[Connection, Any, Route, bytes, Deferral | None]


class Dispatch:
    def unsupported(self, transport_kind: TransportKind, lives: Lives) -> str | None:
        if transport_kind == "quic" or lives == "loop":
            return "its requests run on the event loop that reads them; use threads or reuseport-threads"
        return not_handed_over(lives)

    def slots(self, workers: int) -> int:
        return workers + 1

    def serve(self, connection: type[Any], control: Control) -> None:
        spec = control.spec
        sock = listen(spec, connection)
        run = RunOnThreads(control)
        slot = control.counters[spec.workers]
        listener = LoopWorker(connection, make_service(spec, slot), slot, spec, run.on_loop)
        control.on_stop = listener.stop
        listener.loop.add_reader(control.fileno(), control.on_readable)
        run.start()
        listener.run(sock, partial(control.ready, *sock.getsockname()[:2]))
        run.finish()


class RunOnThreads:
    """Runs each request on the worker thread that has the fewest; a wait is a sleep of that thread."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._loop: asyncio.AbstractEventLoop
        self._deferrals: Deferrals
        workers = control.spec.workers
        self._listener_counts = control.counters[workers].values
        self._queues: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(workers)]
        self._loads: list[float] = [0] * workers
        """Requests that each worker has; infinitely many if it is dead."""
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"worker-{worker}", daemon=True)
            for worker in range(workers)
        ]
        self._answered: deque[tuple[int, Connection, Any, Route, Deferral | None, bytes]] = deque()
        self._woken = False
        """The loop has been told of answers, and has not looked yet."""
        self._hopeless = ""

    def on_loop(self, loop: asyncio.AbstractEventLoop, deferrals: Deferrals) -> "RunOnThreads":
        """The loop that requests come from, and answers go back to."""
        self._loop = loop
        self._deferrals = deferrals
        return self

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let the workers end. Raises GaveUpError if that is why the server stopped."""
        for queue in self._queues:
            queue.put(None)
        until = time.monotonic() + STOP_MARGIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._hopeless:
            raise GaveUpError(self._hopeless)

    def __call__(self, connection: Connection, token: Any, route: Route, body: bytes) -> None:
        self._listener_counts[REQUESTS] -= 1  # it counts where it runs
        deferral = None if route.defer is None else self._deferrals.add(connection, token)
        self._assign((connection, token, route, body, deferral))

    def _assign(self, job: _Job) -> None:
        load = min(self._loads)
        worker = self._loads.index(load)
        self._loads[worker] = load + 1
        self._queues[worker].put(job)

    def _deliver(self) -> None:
        self._woken = False  # before the answers are looked at: one that comes meanwhile wakes the loop again
        answered, loads = self._answered, self._loads
        while answered:
            worker, connection, token, route, deferral, answer = answered.popleft()
            loads[worker] -= 1
            if deferral is not None:
                self._deferrals.remove(connection, deferral)
            connection.answer(token, route, answer)

    def _died(self, worker: int, reason: str, job: _Job | None) -> None:
        self._loads[worker] = math.inf
        self._control.death(worker, reason, restarted=False)
        if job is not None:
            job[0].abort()  # its client would wait for ever
        if min(self._loads) == math.inf:
            self._hopeless = f"no worker is left: worker {worker} {reason}"
            self._control.stop()
        while not self._queues[worker].empty():
            if (waiting := self._queues[worker].get()) is not None:
                self._assign(waiting)

    # On a worker thread

    def _run(self, worker: int) -> None:
        slot = self._control.counters[worker]
        queue = self._queues[worker]
        job = None
        slot.take()
        try:
            pin(self._control.spec, worker)
            while (job := queue.get()) is not None:
                connection, token, route, body, deferral = job
                slot.values[REQUESTS] += 1
                if route.defer is None or deferral is None:
                    self._reply(worker, connection, token, route, None, answer_blocking(route, body))
                else:
                    deferral.hold(route.defer(body, partial(self._reply, worker, connection, token, route, deferral)))
        except BaseException as error:  # noqa: BLE001  whatever ends a thread is reported
            traceback.print_exc()
            self._control.post(partial(self._died, worker, f"ended with {describe(error)}", job))
        slot.give_back()

    def _reply(
        self, worker: int, connection: Connection, token: Any, route: Route, deferral: Deferral | None, answer: bytes
    ) -> None:
        """Called from any thread."""
        self._answered.append((worker, connection, token, route, deferral, answer))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the grace is over, and the loop closed
                self._loop.call_soon_threadsafe(self._deliver)
