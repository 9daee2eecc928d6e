"""A worker that is an event loop: what every model but the blocking ones is made of."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from servers.counters import Slot
from servers.service import Service
from servers.worker import Run, Worker, run_on_loop


class LoopWorker:
    """An event loop on the calling thread, with a worker on it that takes connections from a socket or by hand.

    Build it on the thread that is to run it. `run` serves until `stop` is called, then drains: requests in flight have
    `grace_s` seconds to finish.
    """

    def __init__(
        self,
        connection: type[Any],
        service: Service,
        slot: Slot,
        grace_s: float,
        make_run: Callable[[asyncio.AbstractEventLoop], Run] = run_on_loop,
    ) -> None:
        self.loop = uvloop.new_event_loop()
        self.worker = Worker(service, make_run(self.loop), self.loop.call_later, slot)
        self._connection = connection
        self._grace_s = grace_s
        self._slot = slot
        self._stopping = asyncio.Event()
        self._adopting: set[asyncio.Task[None]] = set()

    def run(self, sock: socket.socket | None, backlog: int, on_serving: Callable[[], None]) -> None:
        """Serve what arrives at a bound socket (None: only what `adopt` is given) until stopped. The socket is closed
        when the worker stops; `on_serving` is called once it serves."""
        self._slot.take()
        try:
            self.loop.run_until_complete(self._serve(sock, backlog, on_serving))
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

    def _call_threadsafe(self, callback: Callable[..., None], *args: Any) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(callback, *args)
            return True
        return False

    def _adopt(self, sock: socket.socket) -> None:
        async def adopt() -> None:
            with contextlib.suppress(OSError):  # the client has gone already
                await self.loop.connect_accepted_socket(self._make_connection, sock)

        task = self.loop.create_task(adopt())
        self._adopting.add(task)  # the loop itself holds only a weak reference
        task.add_done_callback(self._adopting.discard)

    def _make_connection(self) -> Any:
        return self._connection(self.worker)

    async def _serve(self, sock: socket.socket | None, backlog: int, on_serving: Callable[[], None]) -> None:
        server = None
        if sock is not None:
            if self._connection.transport_kind == "stream":
                server = await self.loop.create_server(self._make_connection, sock=sock, backlog=backlog)
            else:
                await self.loop.create_datagram_endpoint(self._make_connection, sock=sock)
        on_serving()
        await self._stopping.wait()
        if server is not None:
            server.close()
        self.worker.drain()
        until = self.loop.time() + self._grace_s
        while (self.worker.connections or self._adopting) and self.loop.time() < until:
            await asyncio.sleep(0.005)
            self.worker.drain()  # those too that were accepted, but not yet here
        for connection in list(self.worker.connections):
            connection.abort()
        await asyncio.sleep(0)
