"""The websockets library's asyncio server, on a worker's event loop.

What is set differently from its defaults is what the lean server does not do either: compression of messages, pings,
and a limit for messages below the service's.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from bench.contract import MAX_BODY_BYTES, Opcode
from servers.counters import ACCEPTS, REQUESTS
from servers.service import Collect, Refused, Route
from servers.service_error import ServiceError
from servers.tls import server_context
from servers.topics import Event, Topic
from servers.worker import Lives, TransportKind, Worker, answer_awaited

_BINARY_ONLY: Final = (Opcode.BYTES, Opcode.UPLOAD)
"""Operations whose answers are no text, whatever they were asked with."""


class _Connection(ServerConnection):
    """One client: the library's connection, which can be asked to end."""

    def __init__(self, owner: "WebsocketsServer", *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.listening = False
        """The handler waits for a message of the client."""
        self._owner = owner
        self._closing: asyncio.Task[None] | None = None
        self.is_full = False
        self.on_drained: Callable[[], object] = lambda: None
        """Called when what was written is sent, as far as it was too much."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.accepted(self)
        if self._owner.draining:
            self.retire()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_full = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_full = False
        self.on_drained()

    def retire(self) -> None:
        """Close, unless there is a message to answer; then the handler closes."""
        if self.protocol.state is State.CONNECTING:
            self.transport.abort()
        elif self.listening and self._closing is None:
            self._closing = self.loop.create_task(self.close(CloseCode.GOING_AWAY))


class WebsocketsServer:
    """The library's server. The path of a connection says what its messages are, as in `servers.websocket`."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.draining = False
        self._server: Server
        self._connections: set[_Connection] = set()
        self._handlers: set[asyncio.Task[Any]] = set()

    async def start(self, sock: socket.socket, backlog: int) -> None:
        self._server = await serve(
            self._handle,
            sock=sock,
            backlog=backlog,
            ssl=server_context(self._worker.spec, self.alpn),
            create_connection=partial(_Connection, self),  # type: ignore[arg-type]  # "a factory", its documentation says
            process_request=self._refuse,
            compression=None,
            ping_interval=None,
            max_size=MAX_BODY_BYTES,
        )

    async def stop(self, grace_s: float) -> None:
        self.draining = True
        self._server.close(close_connections=False)
        for connection in self._connections:
            connection.retire()
        try:
            async with asyncio.timeout(grace_s):
                await self._server.wait_closed()
        except TimeoutError:
            for connection in self._connections:
                connection.transport.abort()
            for handler in self._handlers:
                handler.cancel()
            await self._server.wait_closed()

    def accepted(self, connection: _Connection) -> None:
        """A client has come."""
        self._worker.counts[ACCEPTS] += 1
        self._connections.add(connection)

    def lost(self, connection: _Connection) -> None:
        """A client has gone."""
        self._connections.discard(connection)

    def _refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse an opening request, or not."""
        try:
            self._find(request.path)
        except ServiceError as error:
            return connection.respond(HTTPStatus(error.status), error.message + "\n")
        return None

    def _find(self, target: str) -> tuple[Route, Topic | None]:
        """What the messages of a connection are for: requests, or events of a topic. Raises ServiceError."""
        route = self._worker.service.route(target.encode("latin-1", "replace"))
        return route, route.other.topic if route.other is not None else None

    async def _handle(self, connection: Any) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        route, topic = self._find(connection.request.path)
        try:
            if topic is None:
                await self._answer_all(connection, route)
            else:
                await self._discuss(connection, topic, route)
        except ConnectionClosed:
            return
        finally:
            self._handlers.discard(handler)

    async def _receive(self, connection: _Connection) -> str | bytes | None:
        """The next message; None if the server stops."""
        if self.draining:
            await connection.close(CloseCode.GOING_AWAY)
            return None
        connection.listening = True
        message = await connection.recv()
        connection.listening = False
        self._worker.counts[REQUESTS] += 1
        return message

    async def _answer_all(self, connection: _Connection, route: Route) -> None:
        binary_only = route.opcode in _BINARY_ONLY
        while (message := await self._receive(connection)) is not None:
            is_text = isinstance(message, str)
            body = message.encode() if isinstance(message, str) else message
            if route.receiver is not Collect:
                receiver = route.receiver()
                receiver.feed(body)
                body = receiver.finish()
            answer = await answer_awaited(route, body)
            if route.in_pieces and answer:
                await connection.send(route.pieces(answer), text=is_text and not binary_only)
            else:
                await connection.send(answer, text=is_text and not binary_only)

    async def _discuss(self, connection: _Connection, topic: Topic, publishing: Route) -> None:
        """Publish a client's messages, and deliver everybody's."""
        subscription = _Subscription(connection)
        post = self._worker.inbox()
        connection.on_drained = partial(topic.drained, subscription, post)
        topic.subscribe(subscription, post)
        try:
            while (message := await self._receive(connection)) is not None:
                if not isinstance(message, str):
                    await connection.close(CloseCode.UNSUPPORTED_DATA, "events are text")
                    return
                answer = await answer_awaited(publishing, message.encode())
                if isinstance(answer, Refused):
                    code = CloseCode.MESSAGE_TOO_BIG if answer.status == 413 else CloseCode.TRY_AGAIN_LATER
                    await connection.close(code, answer.decode())
                    return
        finally:
            topic.unsubscribe(subscription, post)


class _Subscription:
    """A client that gets events."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._connection.transport.abort()

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        message: str | bytes = event.data
        with contextlib.suppress(UnicodeDecodeError):  # published through another protocol
            message = event.data.decode()
        broadcast((self._connection,), message)
        return not self._connection.is_full
