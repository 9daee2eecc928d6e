"""Hypercorn, on a worker's event loop: its TCP server for each connection, its UDP server for each socket.

What is set differently from Hypercorn's defaults is what would end connections that the lean servers keep: idle ones,
and those with many requests.
"""

import asyncio
import socket
import sys
from functools import cache
from typing import Any, ClassVar

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.udp_server import UDPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import LifespanState

from bench.contract import MAX_BODY_BYTES
from servers.counters import ACCEPTS
from servers.stacks.asgi_app import application
from servers.worker import Lives, TransportKind, Worker

_NEVER_S = 10**6

_CANCELLED_WITHIN_S = 0.1


class _Shared:
    """What the connections of a worker share."""

    def __init__(self, worker: Worker) -> None:
        self.application = application(worker)
        self.wrapped: Any = ASGIWrapper(self.application)  # type: ignore[arg-type]  # ours takes any scope
        self.context = WorkerContext(max_requests=None)
        self.state: LifespanState = {}
        self.config = Config()
        self.config.keep_alive_timeout = _NEVER_S
        self.config.keep_alive_max_requests = sys.maxsize
        self.config.websocket_max_message_size = MAX_BODY_BYTES
        if worker.spec.tls != "off":
            self.config.certfile = worker.spec.certificate
            self.config.keyfile = worker.spec.private_key
        self._ending: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """Have idle connections close, and the others when they are."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self.context.terminated.set())
        self.application.drain()


@cache
def _shared(worker: Worker) -> _Shared:
    return _Shared(worker)


class HypercornServer(asyncio.StreamReaderProtocol):
    """One client: of HTTP/1.1, of WebSocket, or without TLS of HTTP/2 by prior knowledge."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    def __init__(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(asyncio.StreamReader(loop=loop), self._serve, loop)
        self._worker = worker
        self._shared = _shared(worker)
        self._serving: asyncio.Task[None]

    def drain(self) -> None:
        self._shared.drain()

    def abort(self) -> None:
        self._serving.cancel()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shared = self._shared
        loop = asyncio.get_running_loop()
        server = TCPServer(shared.wrapped, loop, shared.config, shared.context, shared.state, reader, writer)
        self._worker.counts[ACCEPTS] += 1
        self._worker.connections.add(self)
        self._serving = loop.create_task(server.run())
        self._serving.add_done_callback(self._ended)

    def _ended(self, serving: asyncio.Task[None]) -> None:
        self._worker.connections.discard(self)


class HypercornHttp2Server(HypercornServer):
    """One client of HTTP/2: by ALPN over TLS, else by prior knowledge."""

    alpn: ClassVar[tuple[str, ...]] = ("h2",)


class HypercornHttp3Server:
    """One UDP socket, and so all clients of a worker. Hypercorn keeps ten datagrams at most and drops the others, so
    that long uploads live on retransmission; and it does not tell clients when it stops."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = ("h3",)

    def __init__(self, worker: Worker) -> None:
        self._shared = _shared(worker)
        self._serving: asyncio.Task[None]
        self._transport: asyncio.DatagramTransport

    async def start(self, sock: socket.socket, backlog: int) -> None:
        shared = self._shared
        loop = asyncio.get_running_loop()
        self._transport, server = await loop.create_datagram_endpoint(
            lambda: UDPServer(shared.wrapped, loop, shared.config, shared.context, shared.state), sock=sock
        )
        self._serving = loop.create_task(server.run())

    async def stop(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._shared.drain()
        until = loop.time() + grace_s
        while self._shared.application.in_flight and loop.time() < until:
            await asyncio.sleep(0.005)
        while not self._serving.done():
            # Hypercorn waits for the timers that it replaces, and takes a cancellation in that moment for theirs.
            self._serving.cancel()
            await asyncio.wait((self._serving,), timeout=_CANCELLED_WITHIN_S)
        self._transport.close()
