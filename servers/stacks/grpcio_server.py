"""grpcio's server with its thread pool: each call takes a thread until it is over."""

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from servers.worker import Lives, TransportKind, Worker, answer_blocking

THREADS = 32
"""Calls that are served at once; more wait."""


class GrpcioServer:
    """The server of a worker process. Threads of grpcio's own serve; the worker's loop only starts and stops it."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "process"
    alpn: ClassVar[tuple[str, ...]] = ("h2",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="grpcio")
        self._server = grpc.server(self._threads, options=methods.OPTIONS)
        self._calls = _Calls(worker)
        methods.serve_methods(self._server, self._calls.method)

    async def start(self, sock: socket.socket, backlog: int) -> None:
        methods.bind(self._server, self._worker, *sock.getsockname()[:2])
        self._server.start()

    async def stop(self, grace_s: float) -> None:
        stopped = self._server.stop(grace_s)
        self._calls.end_subscriptions()
        while not stopped.is_set():
            await asyncio.sleep(0.005)
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Calls:
    """What serves the calls, on any of the threads."""

    def __init__(self, worker: Worker) -> None:
        self._service = worker.service
        self._counts = worker.counts
        self._lock = threading.Lock()
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
        with self._lock:
            for subscription in self._subscriptions:
                subscription.events.put(None)

    def _count(self) -> None:
        with self._lock:  # adding to a counter is two steps, and this one has many threads
            self._counts[REQUESTS] += 1

    # Methods

    def _run(self, ask: methods.Ask, reply: methods.Reply, request: Any, context: grpc.ServicerContext) -> Any:
        self._count()
        try:
            route, body = ask(self._service, request)
            return reply(methods.not_refused(answer_blocking(route, body)))
        except ServiceError as error:
            context.abort(*methods.status_of(error))

    def _answer(self, answer: Callable[..., Any], request: Any, context: grpc.ServicerContext) -> Any:
        self._count()
        try:
            return answer(self._service, request)
        except ServiceError as error:
            context.abort(*methods.status_of(error))

    def bytes_stream(self, request: pb.BytesRequest, context: grpc.ServicerContext) -> Iterator[pb.BytesReply]:
        return cast(Iterator[pb.BytesReply], self._answer(methods.bytes_stream, request, context))

    def read_todos_stream(self, request: pb.ReadTodosRequest, context: grpc.ServicerContext) -> Iterator[pb.Todo]:
        return cast(Iterator[pb.Todo], self._answer(methods.read_todos_stream, request, context))

    def upload(self, requests: Iterator[pb.UploadRequest], context: grpc.ServicerContext) -> pb.UploadReply:
        self._count()
        upload = Upload()
        for request in requests:
            upload.feed(request.chunk)
        return methods.upload_reply(self._service.operation(Opcode.UPLOAD, 0, 0).execute(upload.finish()))

    def echo_stream(self, requests: Iterator[pb.EchoRequest], context: grpc.ServicerContext) -> Iterator[pb.EchoReply]:
        route = self._service.operation(Opcode.ECHO, 0, 0)
        for request in requests:
            self._count()
            yield pb.EchoReply(payload=route.execute(request.payload))

    def subscribe(self, request: pb.SubscribeRequest, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        self._count()
        try:
            topic = self._service.topics.topic(request.topic)
        except ServiceError as error:
            context.abort(*methods.status_of(error))
        subscription = _Subscription()
        context.add_callback(partial(subscription.events.put, None))
        with self._lock:
            self._subscriptions.add(subscription)
        after_id = request.after if request.HasField("after") else None

        def subscribe() -> None:
            topic.subscribe(subscription, self._post, after_id)
            subscription.stands.set()

        def unsubscribe() -> None:
            topic.unsubscribe(subscription, self._post)

        self._post(subscribe)  # on the worker's thread, so that events are delivered there
        subscription.stands.wait()
        context.send_initial_metadata(())  # tells the client that it is subscribed
        try:
            while (event := subscription.events.get()) is not None:
                yield pb.Event(id=event.id, data=event.data)
                if subscription.takes_more and subscription.is_full:
                    subscription.is_full = False
                    self._post(partial(topic.drained, subscription, self._post))
        finally:
            self._post(unsubscribe)
            with self._lock:
                self._subscriptions.discard(subscription)
        if context.is_active():
            context.abort(*(methods.TOO_SLOW if subscription.behind else methods.STOPPING))


class _Subscription:
    """Events on their way to the thread that sends them."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        """None: no more are to be sent."""
        self.stands = threading.Event()
        self.behind = False
        self.is_full = False
        """The topic waits for its thread to take some."""

    @property
    def takes_more(self) -> bool:
        """Whether the topic may deliver another event."""
        return self.events.qsize() < methods.MAX_WAITING_EVENTS

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self.is_full = True  # before the thread can take the event: it must not miss that the topic waits
        self.events.put(event)
        if self.takes_more:
            self.is_full = False
        return not self.is_full

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self.behind = True
        self.events.put(None)
