"""The service as one ASGI 3.0 application, for every server that runs such: HTTP here, WebSocket in
`servers.stacks.asgi_websocket`."""

import asyncio
from functools import cache
from typing import Any

from bench.contract import MAX_BODY_BYTES
from servers.counters import REQUESTS
from servers.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, OPENING, encoded
from servers.service import TEXT, Collect, Refused, Route, event_id
from servers.service_error import ServiceError
from servers.stacks.asgi_delivery import Delivery, Message, Receive, Send
from servers.stacks.asgi_websocket import Conversation
from servers.topics import Event
from servers.worker import Worker, answer_awaited

Fields = list[tuple[bytes, bytes]]


@cache
def application(worker: Worker) -> "Application":
    """The application of a worker; the same one each time."""
    return Application(worker)


class Application:
    """The ASGI callable. It lives on its worker's event loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._service = worker.service
        self._counts = worker.counts
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._streams: set[Delivery] = set()
        self._conversations: set[Conversation] = set()

    @property
    def in_flight(self) -> int:
        """How many requests and WebSockets are being served."""
        return len(self._tasks)

    @property
    def conversations(self) -> int:
        """How many WebSockets are being served."""
        return len(self._conversations)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if scope["type"] == "http":
                await self._answer(scope, receive, send)
            else:
                conversation = Conversation(self._worker, receive, send)
                self._conversations.add(conversation)
                try:
                    await conversation.run(scope, _target(scope))
                finally:
                    self._conversations.discard(conversation)
        finally:
            self._tasks.discard(task)

    def drain(self) -> None:
        """End what does not end by itself: streams of events, and WebSockets once they have no message to answer. It
        may be asked more than once."""
        for stream in self._streams:
            stream.end()
        for conversation in self._conversations:
            conversation.drain()

    def abort(self) -> None:
        """Give up whatever is being served."""
        for task in self._tasks:
            if task is not None:
                task.cancel()

    # HTTP

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        method = scope["method"].encode("ascii")
        head_only = method == b"HEAD"
        body: bytes | None = b""
        try:
            route = self._service.route(_target(scope))
            if method not in route.methods:
                other = route.other
                if other is None or method not in other.methods:
                    allowed = b", ".join(route.methods + (other.methods if other is not None else ()))
                    await _forget_body(receive, method)
                    await _send_refusal(send, 405, b"allowed here: " + allowed, head_only, [(b"allow", allowed)])
                    return
                route = other
            if route.topic is not None:
                route = _resumed(route, scope)
            if method not in (b"GET", b"HEAD"):
                body = await _read_body(receive, route)
        except ServiceError as error:
            if error.status != 413:
                await _forget_body(receive, method)
            await _send_refusal(send, error.status, error.message.encode(), head_only)
            return
        if body is None:
            return
        self._counts[REQUESTS] += 1
        answer = await answer_awaited(route, body)
        if route.topic is not None:
            await self._send_events(route, receive, send, head_only)
        elif route.in_pieces:
            await _send_pieces(send, route, answer, head_only)
        elif isinstance(answer, Refused):
            await _send_refusal(send, answer.status, answer, head_only)
        else:
            fields = [(b"content-type", route.content_type), (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": b"" if head_only else answer})

    async def _send_events(self, route: Route, receive: Receive, send: Send, head_only: bool) -> None:
        """Send a topic's events for as long as both ends want."""
        topic = route.topic
        assert topic is not None
        head = [(b"content-type", route.content_type), (b"cache-control", b"no-cache")]
        start = {"type": "http.response.start", "status": 200, "headers": head}
        if head_only:
            await send(start)
        else:
            delivery = Delivery(_encode_event, topic, self._worker.inbox())
            delivery.put(start)
            delivery.put(_piece(OPENING))
            delivery.begin(route.after_id)
            self._streams.add(delivery)
            if self._worker.draining:
                delivery.end()
            beside = asyncio.gather(_end_with_client(receive, delivery), _keep_alive(delivery))
            try:
                await delivery.send_all(send)
            finally:
                delivery.leave()
                self._streams.discard(delivery)
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})


def _target(scope: Message) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return b"%b?%b" % (path, query) if query else path


def _resumed(route: Route, scope: Message) -> Route:
    """The route for a subscriber that says what it has had already. Raises ServiceError."""
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return route.resumed(event_id(value.decode("latin-1")))
    return route


async def _read_body(receive: Receive, route: Route) -> bytes | None:
    """What a request's body comes to; None if the client has gone. Raises ServiceError 413 for one that is too
    long."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body") and route.receiver is Collect:
        body: bytes = message.get("body", b"")
        return body
    receiver, size_bytes = route.receiver(), 0
    while message["type"] == "http.request":
        piece = message.get("body", b"")
        size_bytes += len(piece)
        if size_bytes > MAX_BODY_BYTES:
            raise ServiceError(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        receiver.feed(piece)
        if not message.get("more_body"):
            return receiver.finish()
        message = await receive()
    return None


async def _forget_body(receive: Receive, method: bytes) -> None:
    """Let a body go by that nobody wants: a server may have to close a connection that has one unread."""
    size_bytes, more = 0, method not in (b"GET", b"HEAD")
    while more and size_bytes <= MAX_BODY_BYTES:
        message = await receive()
        size_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)


async def _send_refusal(send: Send, status: int, message: bytes, head_only: bool, fields: Fields | None = None) -> None:
    body = message + b"\n"
    head = [(b"content-type", TEXT), (b"content-length", b"%d" % len(body)), *(fields or ())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": b"" if head_only else body})


async def _send_pieces(send: Send, route: Route, answer: bytes, head_only: bool) -> None:
    head = [(b"content-type", route.content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if not head_only:
        for piece in route.pieces(answer):
            await send(_piece(piece))
    await send({"type": "http.response.body", "body": b""})


def _piece(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _encode_event(event: Event) -> Message:
    return _piece(encoded(event))


async def _end_with_client(receive: Receive, delivery: Delivery) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    delivery.end()


async def _keep_alive(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        delivery.put(_piece(KEEP_ALIVE))
