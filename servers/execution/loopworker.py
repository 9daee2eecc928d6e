"""A worker that is an event loop: what every model but the blocking ones is made of."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from servers.control import ServerSpec
from servers.counters import Slot
from servers.execution.acceptor import Acceptor
from servers.service import Service
from servers.worker import Deferrals, Listener, Run, Worker, run_on_loop


class LoopWorker:
    """An event loop on the calling thread, with a worker on it that takes connections from a socket or by hand.

    Build it on the thread that is to run it. `run` serves until `stop` is called, then drains: requests in flight have
    the spec's grace to finish. `among_threads` says that other workers are threads of this process.
    """

    def __init__(
        self,
        connection: type[Any],
        service: Service,
        slot: Slot,
        spec: ServerSpec,
        make_run: Callable[[asyncio.AbstractEventLoop, Deferrals], Run] = run_on_loop,
        among_threads: bool = False,
    ) -> None:
        self.loop = uvloop.new_event_loop()
        post = self._call_threadsafe
        deferrals = Deferrals()
        run = make_run(self.loop, deferrals)
        self.worker = Worker(service, run, self.loop.call_later, lambda: post, slot, spec, deferrals)
        self._connection = connection
        self._among_threads = among_threads
        self._slot = slot
        self._stopping = asyncio.Event()
        self._acceptor: Acceptor

    def run(self, sock: socket.socket | None, on_serving: Callable[[], None]) -> None:
        """Serve what arrives at a bound socket (None: only what `adopt_threadsafe` is given) until stopped. The socket
        is closed when the worker stops; `on_serving` is called once it serves."""
        self._slot.take()
        try:
            self.loop.run_until_complete(self._serve(sock, on_serving))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()
            if sock is not None:
                sock.close()
            self._slot.give_back()

    def stop(self) -> None:
        """Stop gracefully. Called on the worker's own thread."""
        self._stopping.set()

    def stop_threadsafe(self) -> None:
        """Stop gracefully. Called from any other thread."""
        self._call_threadsafe(self._stopping.set)

    def stop_at_end_of(self, fd: int) -> None:
        """Stop gracefully once `fd` is readable: a pipe that nobody writes to and whose other end is closed."""

        def stop() -> None:
            self.loop.remove_reader(fd)
            self._stopping.set()

        self.loop.add_reader(fd, stop)

    def adopt_threadsafe(self, sock: socket.socket) -> None:
        """Take over a connection that another thread has accepted. Called from that thread."""
        if not self._call_threadsafe(self._adopt, sock):
            sock.close()

    def _adopt(self, sock: socket.socket) -> None:
        self._acceptor.adopt(sock)

    def _call_threadsafe(self, callback: Callable[..., None], *args: Any) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(callback, *args)
            return True
        return False

    async def _serve(self, sock: socket.socket | None, on_serving: Callable[[], None]) -> None:
        spec = self.worker.spec
        listener: Listener
        if self._connection.lives in ("listener", "process"):
            listener = self._connection(self.worker)
        else:
            listener = self._acceptor = Acceptor(self.worker, self._connection, self._among_threads)
        if sock is not None:
            await listener.start(sock, spec.backlog)
        on_serving()
        await self._stopping.wait()
        self.worker.draining = True
        self.worker.service.hold_nothing()
        await listener.stop(spec.grace_s)
