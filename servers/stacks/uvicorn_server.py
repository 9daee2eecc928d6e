"""uvicorn's protocols (httptools, websockets), on a worker's event loop.

What is set differently from uvicorn's defaults is what the lean servers do not do either: an access log, looking for a
proxy's fields, compression of messages, pings, and ending connections that are idle.
"""

import asyncio
import logging
from email.utils import formatdate
from functools import cache
from typing import ClassVar

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from bench.contract import MAX_BODY_BYTES
from servers.counters import ACCEPTS
from servers.stacks.asgi_app import application
from servers.worker import Lives, TransportKind, Worker

_NEVER_S = 10**6


class _Shared:
    """What the connections of a worker share."""

    def __init__(self, worker: Worker) -> None:
        self.application = application(worker)
        self.config = Config(
            self.application,
            ws=_Websocket,
            ws_max_size=MAX_BODY_BYTES,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=_NEVER_S,
        )
        self.config.load()
        logging.getLogger("uvicorn.error").addFilter(_is_no_false_alarm)
        self.state = ServerState()
        self.state.connections = worker.connections  # type: ignore[assignment]  # they are ours, which are theirs too
        self._later = worker.later
        self._tick()

    def _tick(self) -> None:
        """What uvicorn's own server does each second."""
        date = (b"date", formatdate(usegmt=True).encode("ascii"))
        self.state.default_headers = [date, *self.config.encoded_headers]
        self._later(1.0, self._tick)


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """uvicorn complains of an application that has refused a WebSocket with a status, though it lets it do so."""
    return record.msg != "ASGI callable returned without completing handshake."


@cache
def _shared(worker: Worker) -> _Shared:
    return _Shared(worker)


class UvicornConnection(HttpToolsProtocol):
    """One client. uvicorn itself puts it among the worker's connections, and takes it away."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    def __init__(self, worker: Worker) -> None:
        shared = _shared(worker)
        super().__init__(shared.config, shared.state, {})
        self._worker = worker

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._worker.counts[ACCEPTS] += 1

    def drain(self) -> None:
        self.shutdown()

    def abort(self) -> None:
        self.transport.abort()


class _Websocket(WebSocketsSansIOProtocol):
    """What a connection turns into that asks for WebSocket."""

    def drain(self) -> None:
        if self.handshake_complete:
            self.app.drain()
        elif not self.transport.is_closing():
            self.shutdown()

    def abort(self) -> None:
        self.transport.abort()
