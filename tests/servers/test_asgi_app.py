"""The ASGI application by itself, between a server and a client that do what these tests tell them to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from make_worker import make_worker

from bench.contract import MAX_BODY_BYTES
from servers.counters import REQUESTS, Counters
from servers.stacks.asgi_app import Application
from servers.stacks.asgi_delivery import MAX_WAITING
from servers.topics import MAX_BEHIND
from servers.worker import Deferrals, Worker, run_on_loop

Message = dict[str, Any]


def make_application() -> tuple[Worker, Application]:
    loop = asyncio.get_running_loop()
    worker = make_worker(run_on_loop(loop, Deferrals()), loop.call_later, Counters(1)[0])
    return worker, Application(worker)


def http(method: str, path: bytes, query: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    return {"type": "http", "method": method, "raw_path": path, "query_string": query, "headers": headers}


class Server:
    """Gives the application the messages of a script, then waits; keeps what is sent."""

    def __init__(self, *script: Message) -> None:
        self.sent: list[Message] = []
        self.script = list(script)
        self.left = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()

    async def receive(self) -> Message:
        if self.script:
            return self.script.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.taking.wait()
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def body_of(*pieces: bytes) -> list[Message]:
    return [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces] + [{"type": "http.request"}]


def test_a_body_that_is_too_long_is_refused_as_soon_as_it_is() -> None:
    async def test() -> None:
        worker, application = make_application()
        mebibyte = bytes(1 << 20)
        pieces = body_of(*[mebibyte] * (MAX_BODY_BYTES >> 20), b"x", b"never read")
        server = Server(*pieces)
        await application(http("PUT", b"/upload"), server.receive, server.send)
        assert server.status == 413
        assert len(server.script) == 2
        assert worker.counts[REQUESTS] == 0

    run(test)


@pytest.mark.parametrize("path", [b"/echo", b"/upload"])
def test_a_client_that_leaves_in_mid_request_gets_nothing(path: bytes) -> None:
    async def test() -> None:
        worker, application = make_application()
        server = Server({"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"})
        await application(http("POST", path), server.receive, server.send)
        assert server.sent == []
        assert worker.counts[REQUESTS] == 0
        assert application.in_flight == 0

    run(test)


def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    async def test() -> None:
        _, application = make_application()
        server = Server()
        await application(http("HEAD", b"/bytes/64"), server.receive, server.send)
        assert (b"content-length", b"64") in server.sent[0]["headers"]
        assert server.body == b""

    run(test)


def test_a_stream_of_events_ends_with_its_client() -> None:
    async def test() -> None:
        worker, application = make_application()
        topic = worker.service.topics.topic("news")
        server = Server(*body_of())
        streaming = asyncio.create_task(application(http("GET", b"/topics/news"), server.receive, server.send))
        await until(lambda: topic.subscribers == 1)
        topic.publish(b"one")
        await until(lambda: b"data: one" in server.body if server.sent else False)
        server.left.set()
        await streaming
        assert topic.subscribers == 0

    run(test)


def test_a_subscriber_that_takes_nothing_is_cut_off_without_a_gap() -> None:
    """What was published to it in its last moments is not delivered either: it comes back for it."""

    async def test() -> None:
        worker, application = make_application()
        topic = worker.service.topics.topic("news")
        server = Server(*body_of())
        streaming = asyncio.create_task(application(http("GET", b"/topics/news"), server.receive, server.send))
        await until(lambda: topic.subscribers == 1)
        server.taking.clear()
        for number in range(MAX_BEHIND + MAX_WAITING + 10):
            topic.publish(b"%d" % number)
        server.taking.set()
        await streaming
        delivered = [line for line in server.body.split(b"\n") if line.startswith(b"data: ")]
        assert 0 < len(delivered) <= MAX_WAITING
        assert delivered == [b"data: %d" % number for number in range(len(delivered))]

    run(test)


def test_draining_ends_streams_and_websockets_that_listen() -> None:
    async def test() -> None:
        worker, application = make_application()
        stream, socket = Server(*body_of()), Server({"type": "websocket.connect"})
        scope = {"type": "websocket", "raw_path": b"/echo", "query_string": b"", "extensions": {}}
        serving = asyncio.gather(
            application(http("GET", b"/topics/news"), stream.receive, stream.send),
            application(scope, socket.receive, socket.send),
        )
        await until(lambda: bool(socket.sent and stream.sent))
        worker.draining = True
        application.drain()
        application.drain()
        await serving
        assert stream.sent[-1] == {"type": "http.response.body", "body": b""}
        assert socket.sent == [{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1001}]
        late = Server({"type": "websocket.connect"})
        await application(scope, late.receive, late.send)
        assert late.sent == [{"type": "websocket.close"}]

    run(test)


def test_a_cancellation_that_is_not_draining_is_no_end_of_its_own_making() -> None:
    async def test() -> None:
        _, application = make_application()
        socket = Server({"type": "websocket.connect"})
        scope = {"type": "websocket", "raw_path": b"/echo", "query_string": b"", "extensions": {}}
        serving = asyncio.create_task(application(scope, socket.receive, socket.send))
        await until(lambda: bool(socket.sent))
        await asyncio.sleep(0)
        application.abort()
        with pytest.raises(asyncio.CancelledError):
            await serving

    run(test)
