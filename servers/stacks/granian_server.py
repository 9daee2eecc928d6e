"""Granian's embeddable server: Rust threads speak HTTP, and the ASGI application runs on the worker's event loop.

Granian binds the address itself (SO_REUSEPORT). It knows the lowest version of TLS that it takes, not the only one.
"""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.server.embed import Server

from servers.stacks.asgi_app import application
from servers.worker import Lives, TransportKind, Worker

_VERSIONS = {"off": SSLProtocols.tls13, "1.2": SSLProtocols.tls12, "1.3": SSLProtocols.tls13}

_ABORT_S = 0.2
"""How long what is given up may take to end."""


class GranianServer:
    """HTTP/1.1 and WebSocket."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "process"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    mode: ClassVar[Any] = HTTPModes.http1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._application = application(worker)
        self._server: Any
        self._serving: asyncio.Task[None]

    async def start(self, sock: socket.socket, backlog: int) -> None:
        host, port = sock.getsockname()[:2]
        spec = self._worker.spec
        with_tls = spec.tls != "off"
        self._server = Server(
            self._application,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=self.mode,
            websockets=self.mode == HTTPModes.http1,
            backlog=backlog,
            log_enabled=False,
            ssl_cert=Path(spec.certificate) if with_tls else None,
            ssl_key=Path(spec.private_key) if with_tls else None,
            ssl_protocol_min=_VERSIONS[spec.tls],
        )
        self._serving = asyncio.create_task(self._server.serve())
        while not await _listens(host, port):
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.005)

    async def stop(self, grace_s: float) -> None:
        application = self._application
        until = asyncio.get_running_loop().time() + grace_s
        # Granian cuts WebSockets off when it stops; requests may finish.
        application.drain()
        await self._wait_while(lambda: application.conversations, until)
        self._server.stop()
        await self._wait_while(lambda: application.in_flight, until)
        # What still runs would keep Granian's threads, which the loop waits for when it ends.
        application.abort()
        await self._wait_while(lambda: application.in_flight, until + _ABORT_S)
        await self._serving

    async def _wait_while(self, busy: Callable[[], int], until: float) -> None:
        """Wait until nothing is, or until then (in the loop's time)."""
        while busy() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)


async def _listens(host: str, port: int) -> bool:
    """Whether somebody does, at that address. Granian does not say when it is ready."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


class GranianHttp2Server(GranianServer):
    """HTTP/2: by ALPN over TLS, else by prior knowledge."""

    alpn: ClassVar[tuple[str, ...]] = ("h2",)
    mode: ClassVar[Any] = HTTPModes.http2
