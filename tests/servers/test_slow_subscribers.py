"""Subscribers that do not read, on real sockets: what each policy does to them, and to everybody else."""

import asyncio
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bench.contract import BLOCK, DROP_OLDEST
from bench.serverprocess import ServerProcess
from bench.wire.frames import HEADER_BYTES, encode_named, frame_ids
from bench.wire.http3 import ErrorCode
from bench.wire.websocket_handshake import encode_opening
from servers import http3_events
from tests.servers.http3_harness import asking, serving

Serve = Callable[..., ServerProcess]

DEADLINE_S = 20.0
EVENT_BYTES = 60_000
MANY = 200
"""Events: more than a connection and a subscription hold together, with what the kernel buffers."""

OPENINGS = {
    "sse": b"GET /topics/news HTTP/1.1\r\nhost: a\r\n\r\n",
    "websocket": encode_opening("/topics/news", "a", b"n" * 16),
    "tcp": encode_named("GET", "/topics/news", next(frame_ids())),
}
SERVED_BY = {"sse": "websocket", "websocket": "websocket", "tcp": "tcp"}
"""The server of WebSocket is one of HTTP/1.1 too."""


def event(number: int) -> bytes:
    return b"<%06d>" % number + b"x" * EVENT_BYTES


def numbers(received: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"<(\d{6})>", received)]


class Reluctant:
    """A subscriber that reads when it is told to."""

    def __init__(self, server: ServerProcess, protocol: str) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect((server.host, server.port))
        self.sock.sendall(OPENINGS[protocol])
        assert self.sock.recv(4096)
        self.received = b""

    def read_until(self, number: int) -> list[int]:
        """Read up to that event. Gives the numbers of all that have come."""
        while b"<%06d>" % number not in self.received[-2 * EVENT_BYTES :]:
            data = self.sock.recv(1 << 20)
            assert data
            self.received += data
        return numbers(self.received)

    def read_to_end(self) -> None:
        """Read until the server has cut the connection."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass

    def close(self) -> None:
        """Leave, abruptly."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()


class Publisher:
    """Publishes events, and waits for each to be acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        self._over_frames = server.protocol == "tcp"
        self._ids = frame_ids()
        self.acknowledged = 0
        if self._over_frames:
            self._sock = socket.create_connection((server.host, server.port), DEADLINE_S)
            self._answers = self._sock.makefile("rb")
        else:
            self._http = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_S)

    def publish(self) -> None:
        data = event(self.acknowledged + 1)
        if self._over_frames:
            self._sock.sendall(encode_named("POST", "/topics/news", next(self._ids), data))
            answer = self._answers.read(HEADER_BYTES + len(str(self.acknowledged + 1)))
            assert int(answer[HEADER_BYTES:]) == self.acknowledged + 1
        else:
            self._http.request("POST", "/topics/news", data)
            answer = self._http.getresponse()
            assert (answer.status, int(answer.read())) == (200, self.acknowledged + 1)
        self.acknowledged += 1

    def publish_many(self) -> None:
        while self.acknowledged < MANY:
            self.publish()

    def close(self) -> None:
        if self._over_frames:
            self._answers.close()
            self._sock.close()
        else:
            self._http.close()


def counted(server: ServerProcess) -> tuple[int, int, int]:
    """Events dropped, subscribers disconnected, publishes held."""
    workers = server.stats()[0]
    return (
        sum(counts.dropped for counts in workers),
        sum(counts.disconnected for counts in workers),
        sum(counts.held for counts in workers),
    )


@contextmanager
def publishing(publisher: Publisher) -> Iterator[threading.Thread]:
    """Meanwhile, all events are published."""
    thread = threading.Thread(target=publisher.publish_many)
    thread.start()
    yield thread
    thread.join(DEADLINE_S)
    assert publisher.acknowledged == MANY


def await_held(server: ServerProcess) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not counted(server)[2]:
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize("protocol", OPENINGS)
def test_disconnect(serve: Serve, protocol: str) -> None:
    server = serve(SERVED_BY[protocol])
    with closing(Reluctant(server, protocol)) as slow, closing(Publisher(server)) as publisher:
        publisher.publish_many()
        slow.read_to_end()
    assert counted(server) == (0, 1, 0)


@pytest.mark.parametrize("protocol", OPENINGS)
def test_a_thread_that_is_stuck_in_sending_disconnects_too(serve: Serve, protocol: str) -> None:
    """What waits for a thread is more than what waits for a connection."""
    server = serve(SERVED_BY[protocol], "thread-per-connection")
    with closing(Reluctant(server, protocol)) as slow, closing(Publisher(server)) as publisher:
        until_s = time.monotonic() + DEADLINE_S
        while counted(server) == (0, 0, 0):
            assert time.monotonic() < until_s
            for _ in range(50):
                publisher.publish()
        slow.read_to_end()
    assert counted(server) == (0, 1, 0)


@pytest.mark.parametrize("protocol", OPENINGS)
def test_drop_oldest(serve: Serve, protocol: str) -> None:
    server = serve(SERVED_BY[protocol], policy=DROP_OLDEST)
    with closing(Reluctant(server, protocol)) as slow, closing(Publisher(server)) as publisher:
        publisher.publish_many()
        dropped, disconnected, held = counted(server)
        got = slow.read_until(MANY)
    assert (disconnected, held) == (0, 0)
    assert dropped > 0
    first = next(number for number in range(1, MANY) if number not in got)
    assert got == [*range(1, first), *range(first + dropped, MANY + 1)]


@pytest.mark.parametrize(
    ("protocol", "execution"),
    [*((protocol, "single") for protocol in OPENINGS), ("sse", "threads"), ("sse", "dispatch"),
     ("tcp", "thread-per-connection")],
)  # fmt: skip
def test_block(serve: Serve, protocol: str, execution: str) -> None:
    server = serve(SERVED_BY[protocol], execution, policy=BLOCK, workers=2)
    with (
        closing(Reluctant(server, protocol)) as slow,
        closing(Reluctant(server, protocol)) as leaves,
        closing(Publisher(server)) as publisher,
        closing(Publisher(server)) as other,
        publishing(publisher) as thread,
    ):
        await_held(server)
        reached = publisher.acknowledged
        assert reached < MANY
        # The server goes on meanwhile, and so does a subscriber that comes now.
        with closing(Reluctant(server, protocol)) as new:
            assert len(new.received) == 0
        leaves.close()
        assert slow.read_until(MANY) == list(range(1, MANY + 1))
        thread.join(DEADLINE_S)
        other.acknowledged = MANY
        other.publish()
    dropped, disconnected, held = counted(server)
    assert (dropped, disconnected) == (0, 0)
    assert held > 0


def test_who_is_held_goes_on_when_the_slow_one_leaves(serve: Serve) -> None:
    server = serve("websocket", policy=BLOCK)
    with (
        closing(Reluctant(server, "sse")) as slow,
        closing(Publisher(server)) as publisher,
        publishing(publisher),
    ):
        await_held(server)
        slow.close()


def test_a_server_stops_although_publishers_wait(serve: Serve) -> None:
    server = serve("websocket", policy=BLOCK)
    with closing(Reluctant(server, "websocket")), closing(Publisher(server)) as publisher:
        ended: list[BaseException] = []

        def publish() -> None:
            try:
                publisher.publish_many()
            except (OSError, http.client.HTTPException) as error:
                ended.append(error)

        thread = threading.Thread(target=publish)
        thread.start()
        await_held(server)
        begun_s = time.monotonic()
        server.stop()
        assert time.monotonic() - begun_s < 4
        thread.join(DEADLINE_S)
        assert ended


def test_a_websocket_that_publishes_is_held_too(serve: Serve) -> None:
    """It hears of no acknowledgement; its messages wait in its connection."""
    server = serve("websocket", policy=BLOCK)
    got: list[Any] = []

    async def read(client: ClientConnection) -> None:
        while len(got) < MANY:
            got.append(await asyncio.wait_for(client.recv(), DEADLINE_S))

    async def converse() -> None:
        async with connect(f"ws://{server.address}/topics/news", proxy=None, compression=None) as client:
            reading = asyncio.ensure_future(read(client))
            for number in range(1, MANY + 1):
                await client.send(event(number).decode())
            await reading

    with closing(Reluctant(server, "sse")) as slow:
        thread = threading.Thread(target=lambda: asyncio.run(converse()))
        thread.start()
        await_held(server)
        assert len(got) < MANY
        assert slow.read_until(MANY) == list(range(1, MANY + 1))
        thread.join(DEADLINE_S)
        assert len(got) == MANY


def test_what_waits_for_http3_follows_what_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http3_events, "MAX_UNACKNOWLEDGED_BYTES", 3 * EVENT_BYTES)

    async def run() -> None:
        async with serving() as (port, _, worker), asking(port) as client:
            topic = worker.service.topics.topic("news")
            stream_id = client.begin(client.head("GET", "/topics/news"))
            await client.until(lambda: bool(client.answers[stream_id].pieces))
            for number in range(1, 18):
                topic.publish(event(number))
            ((member,),) = [group.members.values() for group in topic._groups.values()]
            assert len(member.waiting) > 10
            await client.until(lambda: len(numbers(client.answers[stream_id].body)) == 17)
            assert numbers(client.answers[stream_id].body) == list(range(1, 18))
            for number in range(100):  # at once: more than may wait
                topic.publish(event(number))
            assert topic.subscribers == 0
            assert (await client.answer(stream_id)).reset_code == ErrorCode.EXCESSIVE_LOAD

    asyncio.run(run())
