"""A server whose workers die when they are told to: what they do then is up to the execution model."""

import asyncio
from typing import Any, ClassVar, cast

from bench.contract import Opcode
from servers.counters import ACCEPTS, REQUESTS
from servers.service import Route
from servers.worker import Worker


class WorkerDies(SystemExit):
    """Passes through an event loop's handling of errors in callbacks, as SystemExit and KeyboardInterrupt do."""


def _die(_body: bytes) -> bytes:
    raise WorkerDies("told to")


def _live(_body: bytes) -> bytes:
    return b"alive\n"


class FaultyConnection(asyncio.Protocol):
    """Answers "alive" to any line but two: "die" kills who runs the request, "die later" the loop that reads it."""

    transport_kind: ClassVar = "stream"
    lives: ClassVar = "thread"
    alpn: ClassVar[tuple[str, ...]] = ()

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._worker.counts[ACCEPTS] += 1
        self._worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._worker.counts[REQUESTS] += 1
        if data == b"die later\n":
            asyncio.get_running_loop().call_soon(_die, data)
        else:
            self._worker.run(self, None, Route(Opcode.HEALTH, _die if data == b"die\n" else _live), b"")

    def answer(self, token: Any, route: Route, answer: bytes) -> None:
        self._transport.write(answer)

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
