"""grpcio's asyncio server (grpc.aio), on the worker's event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, ClassVar, cast

import grpc

from bench.contract import Opcode
from bench.wire import wirebench_pb2 as pb
from servers.counters import REQUESTS
from servers.service import Upload
from servers.service_error import ServiceError
from servers.stacks import grpcio_methods as methods
from servers.topics import Event
from servers.worker import Lives, TransportKind, Worker, answer_awaited


class GrpcioAioServer:
    """The server of a worker process."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "process"
    alpn: ClassVar[tuple[str, ...]] = ("h2",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._calls = _Calls(worker)
        self._server = grpc.aio.server(options=methods.OPTIONS)
        methods.serve_methods(self._server, self._calls.method)

    async def start(self, sock: socket.socket, backlog: int) -> None:
        methods.bind(self._server, self._worker, *sock.getsockname()[:2])
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        self._calls.end_subscriptions()
        await self._server.stop(grace_s)


class _Calls:
    """What serves the calls."""

    def __init__(self, worker: Worker) -> None:
        self._service = worker.service
        self._counts = worker.counts
        self._post = worker.inbox()
        self._subscriptions: set[_Subscription] = set()

    def method(self, name: str) -> Callable[..., Any]:
        """What serves the method of that name."""
        if name in methods.OPERATIONS:
            return partial(self._run, *methods.OPERATIONS[name])
        if name in methods.AT_ONCE:
            return partial(self._answer, methods.AT_ONCE[name])
        return cast(Callable[..., Any], getattr(self, name))

    def end_subscriptions(self) -> None:
        """Send all subscribers away."""
        for subscription in self._subscriptions:
            subscription.events.put_nowait(None)

    # Methods

    async def _run(self, ask: methods.Ask, reply: methods.Reply, request: Any, context: Any) -> Any:
        self._counts[REQUESTS] += 1
        try:
            route, body = ask(self._service, request)
            return reply(methods.not_refused(await answer_awaited(route, body)))
        except ServiceError as error:
            await context.abort(*methods.status_of(error))

    async def _answer(self, answer: Callable[..., Any], request: Any, context: Any) -> Any:
        self._counts[REQUESTS] += 1
        try:
            return answer(self._service, request)
        except ServiceError as error:
            await context.abort(*methods.status_of(error))

    async def bytes_stream(self, request: pb.BytesRequest, context: Any) -> AsyncIterator[pb.BytesReply]:
        for reply in await self._answer(methods.bytes_stream, request, context):
            yield reply

    async def read_todos_stream(self, request: pb.ReadTodosRequest, context: Any) -> AsyncIterator[pb.Todo]:
        for todo in await self._answer(methods.read_todos_stream, request, context):
            yield todo

    async def upload(self, requests: AsyncIterator[pb.UploadRequest], context: Any) -> pb.UploadReply:
        self._counts[REQUESTS] += 1
        upload = Upload()
        async for request in requests:
            upload.feed(request.chunk)
        return methods.upload_reply(self._service.operation(Opcode.UPLOAD, 0, 0).execute(upload.finish()))

    async def echo_stream(self, requests: AsyncIterator[pb.EchoRequest], context: Any) -> AsyncIterator[pb.EchoReply]:
        route = self._service.operation(Opcode.ECHO, 0, 0)
        async for request in requests:
            self._counts[REQUESTS] += 1
            yield pb.EchoReply(payload=route.execute(request.payload))

    async def subscribe(self, request: pb.SubscribeRequest, context: Any) -> AsyncIterator[pb.Event]:
        self._counts[REQUESTS] += 1
        try:
            topic = self._service.topics.topic(request.topic)
        except ServiceError as error:
            await context.abort(*methods.status_of(error))
        subscription = _Subscription()
        self._subscriptions.add(subscription)
        topic.subscribe(subscription, self._post, request.after if request.HasField("after") else None)
        try:
            await context.send_initial_metadata(())  # tells the client that it is subscribed
            while (event := await subscription.events.get()) is not None:
                yield pb.Event(id=event.id, data=event.data)
                if subscription.takes_more:
                    topic.drained(subscription, self._post)
        finally:
            topic.unsubscribe(subscription, self._post)
            self._subscriptions.discard(subscription)
        await context.abort(*(methods.TOO_SLOW if subscription.behind else methods.STOPPING))


class _Subscription:
    """Events that wait to be sent."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        """None: no more are to be sent."""
        self.behind = False

    @property
    def takes_more(self) -> bool:
        """Whether the topic may deliver another event."""
        return self.events.qsize() < methods.MAX_WAITING_EVENTS

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self.events.put_nowait(event)
        return self.takes_more

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self.behind = True
        self.events.put_nowait(None)
