"""The embedded broker beyond what every broker promises: its disk, its log, and clients that break the rules."""

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.brokerprocesses import embedded_at
from bench.brokers import RunningBroker
from bench.childprocess import ChildProcess
from bench.errors import ServerFailedError
from bench.wire.broker_frames import Frame, FrameReader, Kind, Reason, decode_refusal, encode_frame, encode_publish
from bench.wire.brokers import BrokerLostError, Message, PublishRefusedError, Reader, Topic
from clients.brokers.embedded import connect

_PATIENCE_S = 15.0


async def read(reader: Reader, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        messages += await reader.receive()
    return messages


def test_what_was_confirmed_and_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    bodies = [b"%d" % number for number in range(20)]

    async def before(address: str) -> None:
        user = await connect(address)
        await user.declare(Topic("t", ("one", "two")))
        await (await user.publisher("t")).publish(bodies)
        reader = await user.reader("t", "one", 8, "after")
        messages = await read(reader, 8)
        await reader.ack([messages[0], messages[1], messages[5]])
        await reader.reject([messages[3]])
        await user.close()

    async def after(address: str) -> None:
        user = await connect(address)
        left = await read(await user.reader("t", "one", 100, "after"), 16)
        assert [message.body for message in left] == [bodies[n] for n in (2, 4, 6, 7, *range(8, 20))]
        assert [message.deliveries for message in left] == [2] * 8 + [1] * 8  # acknowledging made room
        assert [message.body for message in await read(await user.dead_letters("t", "one"), 1)] == [bodies[3]]
        assert [message.body for message in await read(await user.reader("t", "two", 100, "after"), 20)] == bodies
        await user.close()

    with embedded_at(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(before(broker.address), _PATIENCE_S))
    with embedded_at(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(after(broker.address), _PATIENCE_S))


def test_a_reader_far_behind_is_served_from_the_disk(tmp_path: Path) -> None:
    bodies = [bytes([number]) * 1_000_000 for number in range(40)]  # more than a topic keeps in memory

    async def story(address: str) -> None:
        user = await connect(address)
        await user.declare(Topic("t", ("one",)))
        publisher = await user.publisher("t")
        for body in bodies:
            await publisher.publish([body])
        messages = await read(await user.reader("t", "one", 10, "before"), 40)
        assert [message.body for message in messages] == bodies
        await user.close()

    with embedded_at(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(story(broker.address), _PATIENCE_S))


def test_what_everybody_is_done_with_leaves_the_disk(tmp_path: Path) -> None:
    async def story(address: str) -> None:
        user = await connect(address)
        await user.declare(Topic("t", ("one",)))
        publisher = await user.publisher("t")
        reader = await user.reader("t", "one", 100, "after")
        for _ in range(100):
            await publisher.publish([bytes(1_000_000)])
            await reader.ack(await read(reader, 1))
        await user.close()

    with embedded_at(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(story(broker.address), _PATIENCE_S))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 50_000_000


def test_a_full_disk_refuses_publishes_and_keeps_what_was_confirmed(tmp_path: Path) -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed (Debian package: util-linux)")

    async def story(address: str) -> None:
        user = await connect(address)
        await user.declare(Topic("t", ("one",)))
        publisher = await user.publisher("t")
        confirmed = 0

        async def publish_on() -> None:
            nonlocal confirmed
            while True:
                await publisher.publish([b"%d " % confirmed + bytes(100_000)] * 3)
                confirmed += 3

        with pytest.raises(PublishRefusedError, match="log cannot be written") as caught:
            await publish_on()
        assert caught.value.unconfirmed == 3
        assert confirmed
        reader = await user.reader("t", "one", 1000, "after")
        messages = await read(reader, confirmed)
        assert [int(message.body.split()[0]) for message in messages] == [n - n % 3 for n in range(confirmed)]
        await user.close()

    with embedded_at(tmp_path, within=[prlimit, "--fsize=2000000"]) as broker:
        asyncio.run(asyncio.wait_for(story(broker.address), _PATIENCE_S))


def test_a_second_reader_takes_the_subscription_over(tmp_path: Path) -> None:
    async def story(address: str) -> None:
        user, other = await connect(address), await connect(address)
        await user.declare(Topic("t", ("one",)))
        first = await user.reader("t", "one", 10, "after")
        await (await user.publisher("t")).publish([b"x"])
        await read(first, 1)
        second = await other.reader("t", "one", 10, "after")
        assert [(message.body, message.deliveries) for message in await read(second, 1)] == [(b"x", 2)]
        with pytest.raises(BrokerLostError, match="taken"):
            await first.receive()
        await user.close()
        await other.close()

    with embedded_at(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(story(broker.address), _PATIENCE_S))


def test_two_brokers_do_not_share_a_log(tmp_path: Path) -> None:
    with embedded_at(tmp_path), pytest.raises(ServerFailedError, match="locked"), embedded_at(tmp_path):
        pass


def test_it_ends_when_its_starter_has_gone(tmp_path: Path) -> None:
    child = ChildProcess("servers.broker")
    child.send({"path": str(tmp_path / "log.db"), "host": "127.0.0.1", "port": 0})
    ready = child.next_event(_PATIENCE_S)
    assert ready is not None
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert child.wait(_PATIENCE_S) == 0
    child.kill()


@contextmanager
def dial(broker: RunningBroker) -> Iterator[socket.socket]:
    host, _, port = broker.address.removeprefix("wirebench://").partition(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as sock:
        yield sock


def answer(sock: socket.socket) -> Frame:
    """The next frame."""
    reader = FrameReader()
    while True:
        data = sock.recv(65536)
        assert data
        for frame in reader.feed(data):
            return frame


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[RunningBroker]:
    with embedded_at(tmp_path) as broker:
        yield broker


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode_frame(Kind.DELIVER, 1),
        encode_frame(Kind.PUBLISH, 1, b"\0\1t\0\0\0\7"),
        encode_frame(Kind.ACK, 1, b"123"),
        encode_frame(Kind.SUBSCRIBE, 1, b"no JSON"),
        encode_frame(Kind.SUBSCRIBE, 1, b"[]"),
    ],
)
def test_what_is_no_frame_ends_the_connection_and_nothing_else(embedded: RunningBroker, garbage: bytes) -> None:
    with dial(embedded) as other, dial(embedded) as sock:
        sock.sendall(garbage)
        frame = answer(sock)
        assert (frame.kind, frame.token) == (Kind.REFUSED, 0)
        assert decode_refusal(frame.payload)[0] == Reason.NOT_A_FRAME
        assert sock.recv(100) == b""
        other.sendall(encode_publish(5, "nowhere", [b"x"]))
        assert decode_refusal(answer(other).payload)[0] == Reason.UNKNOWN_TOPIC


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x" * 101, 7])
def test_names_are_checked(embedded: RunningBroker, name: object) -> None:
    with dial(embedded) as sock:
        fields = {"topic": "t", "subscriptions": [name], "max_deliveries": 3}
        sock.sendall(encode_frame(Kind.DECLARE, 3, json.dumps(fields).encode()))
        frame = answer(sock)
        assert (frame.kind, frame.token) == (Kind.REFUSED, 3)
