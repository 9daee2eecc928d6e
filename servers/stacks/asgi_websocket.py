"""WebSocket, as an ASGI application has it.

The path of a connection says what its messages are, as in `servers.websocket`: requests of that route, each answered by
one message of the same kind (text or binary; binary where the answer is no text); or, below `/topics/`, events to
publish, and then each event of the topic is delivered as a message. ASGI knows whole messages only, so no answer comes
in pieces.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from bench.contract import Opcode
from servers.counters import REQUESTS
from servers.service import TEXT, Collect, Refused, Route
from servers.service_error import ServiceError
from servers.stacks.asgi_delivery import Delivery, Message, Receive, Send
from servers.topics import Event, Topic
from servers.worker import Worker, answer_awaited

_BINARY_ONLY: Final = (Opcode.BYTES, Opcode.UPLOAD)
"""Operations whose answers are no text, whatever they were asked with."""

# Codes to close with (RFC 6455, section 7.4.1; 1013 from IANA's registry); 0 to go on.
_GO_ON, _GOING_AWAY, _UNSUPPORTED, _TOO_BIG, _TRY_AGAIN = 0, 1001, 1003, 1009, 1013


class _LeftError(Exception):
    """The client has closed."""


class Conversation:
    """One WebSocket."""

    def __init__(self, worker: Worker, receive: Receive, send: Send) -> None:
        self._worker = worker
        self._receive = receive
        self._send = send
        self._listening: asyncio.Task[Any] | None = None
        """The conversation's task, while it waits for a message."""

    async def run(self, scope: Message, target: bytes) -> None:
        """From the opening request to the end."""
        await self._receive()  # the client asks to be connected
        try:
            if self._worker.draining:
                raise ServiceError(503, "the server is stopping")
            route = self._worker.service.route(target)
        except ServiceError as error:
            await self._refuse(scope, error)
            return
        topic = route.other.topic if route.other is not None else None
        try:
            if topic is not None:
                code = await self._discuss(topic, route)
            else:
                await self._send({"type": "websocket.accept"})
                code = await self._converse(partial(self._answer, route))
        except _LeftError:
            return
        await self._send({"type": "websocket.close", "code": code})

    def drain(self) -> None:
        """End the conversation if it waits for its client; else it ends after the answer."""
        if self._listening is not None:
            self._listening.cancel()

    async def _converse(self, take: Callable[[Message], Awaitable[int]]) -> int:
        """Have each message taken, until the client leaves (_LeftError) or the conversation is to be closed; gives the
        code for that."""
        worker, task = self._worker, asyncio.current_task()
        try:
            while not worker.draining:
                self._listening = task
                message = await self._receive()
                self._listening = None
                if message["type"] != "websocket.receive":
                    raise _LeftError
                worker.counts[REQUESTS] += 1
                code = await take(message)
                if code != _GO_ON:
                    return code
        except asyncio.CancelledError:
            if not (worker.draining and self._listening):
                raise
        finally:
            self._listening = None
        return _GOING_AWAY

    async def _answer(self, route: Route, message: Message) -> int:
        text = message.get("text")
        body: bytes = message["bytes"] if text is None else text.encode()
        if route.receiver is not Collect:
            receiver = route.receiver()
            receiver.feed(body)
            body = receiver.finish()
        answer = await answer_awaited(route, body)
        if text is None or route.opcode in _BINARY_ONLY:
            await self._send({"type": "websocket.send", "bytes": answer})
        else:
            await self._send({"type": "websocket.send", "text": answer.decode()})
        return _GO_ON

    async def _discuss(self, topic: Topic, publishing: Route) -> int:
        """Publish a client's messages, and deliver everybody's. Gives the code to close with."""
        delivery = Delivery(_encode_event, topic, self._worker.inbox())
        delivery.begin()
        try:
            await self._send({"type": "websocket.accept"})
            conversing = asyncio.create_task(self._converse(partial(_publish, publishing)))
            sending = asyncio.create_task(delivery.send_all(self._send))
            try:
                await asyncio.wait((conversing, sending), return_when=asyncio.FIRST_COMPLETED)
                return _TRY_AGAIN if delivery.behind else await conversing
            finally:
                conversing.cancel()
                sending.cancel()
                await asyncio.gather(conversing, sending, return_exceptions=True)
        finally:
            delivery.leave()

    async def _refuse(self, scope: Message, error: ServiceError) -> None:
        """Answer the opening request with a status; a server that cannot makes it 403."""
        if "websocket.http.response" in (scope.get("extensions") or ()):
            body = error.message.encode() + b"\n"
            fields = [(b"content-type", TEXT), (b"content-length", b"%d" % len(body))]
            await self._send({"type": "websocket.http.response.start", "status": error.status, "headers": fields})
            await self._send({"type": "websocket.http.response.body", "body": body})
        else:
            await self._send({"type": "websocket.close"})


async def _publish(publishing: Route, message: Message) -> int:
    text = message.get("text")
    if text is None:
        return _UNSUPPORTED
    answer = await answer_awaited(publishing, text.encode())
    if isinstance(answer, Refused):
        return _TOO_BIG if answer.status == 413 else _TRY_AGAIN
    return _GO_ON


def _encode_event(event: Event) -> Message:
    try:
        return {"type": "websocket.send", "text": event.data.decode()}
    except UnicodeDecodeError:  # published through another protocol
        return {"type": "websocket.send", "bytes": event.data}
