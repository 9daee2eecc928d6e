"""What takes the connections of a protocol whose server does not do so itself: from a socket, or by hand."""

import asyncio
import contextlib
import socket
from typing import Any

from servers.execution.accepting import SHORTAGE_PAUSE_S, accept
from servers.tls import secured_connection, server_context
from servers.worker import Worker


class Acceptor:
    """Makes a connection for each client that comes to a socket, or an endpoint of the socket itself; and for each
    socket that another thread has accepted. It lives on the running event loop (see `servers.worker.Listener`).

    `among_threads` says that other event loops of the process accept too. An event loop that is short of descriptors
    gives up one that it holds in reserve, to turn the next client away; where loops take each other's, all of them try
    again without end. So there it accepts by itself, and rests.
    """

    def __init__(self, worker: Worker, connection: type[Any], among_threads: bool = False) -> None:
        self._worker = worker
        self._among_threads = among_threads
        self._listener: socket.socket | None = None
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._adopting: set[asyncio.Task[None]] = set()
        self._context = server_context(worker.spec, connection.alpn) if connection.transport_kind == "stream" else None

    async def start(self, sock: socket.socket, backlog: int) -> None:
        if self._connection.transport_kind == "stream" and self._among_threads:
            self._listener = sock
            sock.listen(backlog)
            self._accept_more()
        elif self._connection.transport_kind == "stream":
            self._server = await self._loop.create_server(self._make, sock=sock, backlog=backlog)
        else:
            await self._loop.create_datagram_endpoint(self._make, sock=sock)

    def _accept_more(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        if not accept(listener, self.adopt):
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(SHORTAGE_PAUSE_S, self._accept_more)

    def adopt(self, sock: socket.socket) -> None:
        """Take over a connection that another thread has accepted."""

        async def adopt() -> None:
            with contextlib.suppress(OSError):  # the client has gone already
                await self._loop.connect_accepted_socket(self._make, sock)

        task = self._loop.create_task(adopt())
        self._adopting.add(task)  # the loop itself holds only a weak reference
        task.add_done_callback(self._adopting.discard)

    async def stop(self, grace_s: float) -> None:
        worker = self._worker
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        worker.drain()
        until = self._loop.time() + grace_s
        while (worker.connections or self._adopting) and self._loop.time() < until:
            await asyncio.sleep(0.005)
            worker.drain()  # those too that were accepted, but not yet here
        for connection in list(worker.connections):
            connection.abort()
        await asyncio.sleep(0)

    def _make(self) -> Any:
        if self._context is None:
            return self._connection(self._worker)
        return secured_connection(self._worker, self._connection, self._context, self._loop.call_later)
