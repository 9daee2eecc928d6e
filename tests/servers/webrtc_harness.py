"""The WebRTC server on the test's own event loop, and peers that talk to it: aiortc's own RTCPeerConnection."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from servers.counters import Counters
from servers.webrtc import WebrtcConnection
from servers.worker import Deferrals, Worker, run_on_loop
from tests.servers.make_worker import make_worker

DEADLINE_S = 10.0


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on an event loop, and see that it leaves nothing running and no complaint."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(3 * DEADLINE_S):
            await test()
        await until(lambda: len(asyncio.all_tasks()) == 1, "all tasks have ended")
        gc.collect()  # an exception that nobody has retrieved is told when its task is collected

    with pytest.MonkeyPatch.context() as patch:
        # Of itself aiortc's peer is on all interfaces but loopback, and a container may have no other.
        patch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
        uvloop.run(watched())
    gc.collect()
    assert not complaints


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that nothing announces."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.002)


class Server:
    """A server in this process."""

    def __init__(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        self.slot = Counters(1)[0]
        self.worker: Worker = make_worker(run_on_loop(loop, Deferrals()), loop.call_later, self.slot)
        self.host = host
        self.port = 0

    async def post(self, body: bytes, path: str = "/webrtc/offer", method: str = "POST") -> tuple[int, bytes]:
        """Status and body of the answer to a request on a connection of its own."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        head_bytes, _, content = answer.partition(b"\r\n\r\n")
        return int(head_bytes.split()[1]), content


@contextlib.asynccontextmanager
async def served(host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """A server. What it still has at the end is aborted, and must go away."""
    server = Server(host)
    listener = await asyncio.get_running_loop().create_server(lambda: WebrtcConnection(server.worker), host, 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for connection in list(server.worker.connections):
            connection.abort()
        await until(lambda: not server.worker.connections, "the server has let go of everything")


class Caller:
    """aiortc's own peer, which nobody here wrote, with the channels that a test opens before `call`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    def channel(self, label: str, **parameters: Any) -> "Inbox":
        return Inbox(self.connection.createDataChannel(label, **parameters))

    async def call(self) -> None:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        local = self.connection.localDescription
        status, answer = await self._server.post(json.dumps({"type": local.type, "sdp": local.sdp}).encode())
        assert status == 200, answer
        await self.connection.setRemoteDescription(RTCSessionDescription(**json.loads(answer)))


@contextlib.asynccontextmanager
async def calling(server: Server) -> AsyncIterator[Caller]:
    caller = Caller(server)
    try:
        yield caller
    finally:
        await caller.connection.close()


class Inbox:
    """One channel of a caller, and what has come on it."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        self.received: asyncio.Queue[bytes | str] = asyncio.Queue()
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        channel.on("message", self.received.put_nowait)
        channel.on("open", self.opened.set)
        channel.on("close", self.closed.set)

    async def ask(self, message: bytes | str) -> bytes | str:
        """The next message after one is sent."""
        async with asyncio.timeout(DEADLINE_S):
            await self.opened.wait()
            self.channel.send(message)
            return await self.received.get()

    async def next(self) -> bytes | str:
        async with asyncio.timeout(DEADLINE_S):
            return await self.received.get()

    async def end(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.closed.wait()
