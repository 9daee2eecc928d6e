"""A worker that is an event loop: what every model but the blocking ones is made of."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from servers.counters import Slot
from servers.service import Service
from servers.worker import Run, RunOnLoop, Worker


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
        make_run: Callable[[asyncio.AbstractEventLoop], Run] = RunOnLoop,
    ) -> None:
        self.loop = uvloop.new_event_loop()
        self.worker = Worker(service, make_run(self.loop), self.loop.call_later, slot)
        self._connection = connection
        self._grace_s = grace_s
        self._slot = slot
        self._stopping = asyncio.Event()

    def run(self, sock: socket.socket | None, backlog: int) -> None:
        """Serve what arrives at a bound socket (None: only what `adopt` is given) until stopped."""
        self._slot.take()
        try:
            self.loop.run_until_complete(self._serve(sock, backlog))
        finally:
            self.loop.close()
            self._slot.give_back()

    def stop(self) -> None:
        """Stop gracefully. Called on the worker's own thread."""
        self._stopping.set()

    def stop_threadsafe(self) -> None:
        """Stop gracefully. Called from any other thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(self._stopping.set)

    def _make_connection(self) -> Any:
        return self._connection(self.worker)

    async def _serve(self, sock: socket.socket | None, backlog: int) -> None:
        close: Callable[[], None] = lambda: None
        if sock is not None:
            if self._connection.transport_kind == "stream":
                close = (await self.loop.create_server(self._make_connection, sock=sock, backlog=backlog)).close
            else:
                await self.loop.create_datagram_endpoint(self._make_connection, sock=sock)
        await self._stopping.wait()
        close()
        self.worker.drain()
        until = self.loop.time() + self._grace_s
        while self.worker.connections and self.loop.time() < until:
            await asyncio.sleep(0.005)
        for connection in list(self.worker.connections):
            connection.abort()
        await asyncio.sleep(0)
