"""Redis Streams: a stream for a topic, a consumer group with one consumer for each subscription.

Redis does not notice that a consumer has gone; what it left is its successor's, which claims it when it begins to
read. Redis has no dead letters; the reader moves them, in one transaction. A publish is as durable as the server's
`appendfsync` says: with `always`, it is on the disk when it is confirmed. Streams are not trimmed here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis import asyncio as redis_asyncio
from redis import exceptions

from bench.wire.brokers import (
    AckWhen,
    BrokerDownError,
    BrokerLostError,
    LoginRefusedError,
    Message,
    PublishRefusedError,
    Topic,
    UnknownTopicError,
    without_login,
)

_CONSUMER = "reader"
_BODY = b"body"
_DEAD_GROUP = "dead"
_DEAD_PREFETCH = 100
_NO_LIMIT = 0
_BLOCK_MS = 1_000
"""How long Redis may hold one read back; then it is asked again."""


async def connect(address: str) -> "RedisBroker":
    """`address` is like redis://user:password@127.0.0.1:6379/0. Raises BrokerDownError, LoginRefusedError."""
    client = redis_asyncio.Redis.from_url(address)
    broker = RedisBroker(client, without_login(address))
    try:
        async with _saying(broker.at, "connecting"):
            await client.ping()
    except BaseException:
        await client.aclose()
        raise
    return broker


@contextlib.asynccontextmanager
async def _saying(at: str, what: str) -> AsyncIterator[None]:
    """Raises BrokerError for whatever redis raises."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise LoginRefusedError(f"{at}: Redis does not let this user in: {error}") from None
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        lost = BrokerDownError if what == "connecting" else BrokerLostError
        raise lost(f"{at}: {error}; does Redis run?") from None
    except exceptions.ResponseError as error:
        if str(error).startswith("NOGROUP"):
            raise UnknownTopicError(f"{at}: Redis has no {what}; declare it first") from None
        raise BrokerLostError(f"{at}: Redis refuses {what}: {error}") from None


class RedisBroker:
    """`bench.wire.brokers.Broker`. Each publisher and reader uses connections of one pool."""

    def __init__(self, client: Any, at: str) -> None:
        self._client = client
        self.at = at

    async def declare(self, topic: Topic) -> None:
        async with _saying(self.at, f"topic {topic.name}"):
            for name in topic.subscriptions:
                await self._declare_group(topic.name, name)
                await self._declare_group(_dead(topic.name, name), _DEAD_GROUP)
                await self._client.hsetnx(_limits(topic.name), name, topic.max_deliveries)

    async def publisher(self, topic: str) -> "RedisPublisher":
        async with _saying(self.at, f"topic {topic}"):
            if not await self._client.exists(topic):
                raise UnknownTopicError(f"{self.at}: Redis has no topic {topic}; declare it first")
        return RedisPublisher(self._client, self.at, topic)

    async def reader(self, topic: str, subscription: str, prefetch: int, ack: AckWhen) -> "RedisReader":
        async with _saying(self.at, f"topic {topic}"):
            limit = await self._client.hget(_limits(topic), subscription)
        if limit is None:
            raise UnknownTopicError(
                f"{self.at}: the topic {topic} has no subscription {subscription}; declare it first"
            )
        dead = _dead(topic, subscription)
        reader = RedisReader(self._client, self.at, topic, subscription, dead, prefetch, int(limit), ack)
        await reader.claim_left()
        return reader

    async def dead_letters(self, topic: str, subscription: str) -> "RedisReader":
        dead = _dead(topic, subscription)
        reader = RedisReader(self._client, self.at, dead, _DEAD_GROUP, dead, _DEAD_PREFETCH, _NO_LIMIT, "after")
        await reader.claim_left()
        return reader

    async def close(self) -> None:
        await self._client.aclose()

    async def _declare_group(self, key: str, group: str) -> None:
        try:
            await self._client.xgroup_create(key, group, id="$", mkstream=True)
        except exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there already
                raise


class RedisPublisher:
    """`bench.wire.brokers.Publisher`: a call is one pipeline."""

    def __init__(self, client: Any, at: str, topic: str) -> None:
        self._client = client
        self._at = at
        self._topic = topic

    async def publish(self, bodies: Sequence[bytes]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for body in bodies:
            pipeline.xadd(self._topic, {_BODY: body}, nomkstream=True)
        try:
            async with _saying(self._at, "publishing"):
                answers = await pipeline.execute(raise_on_error=False)
        except BrokerLostError as error:
            error.unconfirmed = len(bodies)
            raise
        refusals = [answer for answer in answers if answer is None or isinstance(answer, Exception)]
        if not refusals:
            return
        if refusals[0] is None:
            raise UnknownTopicError(f"{self._at}: Redis has no topic {self._topic}; declare it first", len(refusals))
        raise PublishRefusedError(f"{self._at}: Redis refuses messages: {refusals[0]}", len(refusals))

    async def close(self) -> None:
        """The connections are the broker's."""


class RedisReader:
    """`bench.wire.brokers.Reader`."""

    def __init__(
        self,
        client: Any,
        at: str,
        key: str,
        group: str,
        dead: str,
        prefetch: int,
        max_deliveries: int,
        ack: AckWhen,
    ) -> None:
        self._client = client
        self._at = at
        self._key = key
        self._group = group
        self._dead = dead
        self._prefetch = prefetch
        self._max_deliveries = max_deliveries
        self._acks_before = ack == "before"
        self._out: set[Any] = set()
        self._again: dict[bytes, int] = {}
        """What is to be delivered again, and how often it has been."""
        self._room = asyncio.Event()
        self._closed = False

    async def claim_left(self) -> None:
        """Take what a reader before has left."""
        async with _saying(self._at, f"subscription {self._group}"):
            start = "-"
            while page := await self._client.xpending_range(self._key, self._group, start, "+", 1_000):
                self._again.update((entry["message_id"], entry["times_delivered"]) for entry in page)
                start = "(" + page[-1]["message_id"].decode()

    async def receive(self) -> Sequence[Message]:
        while True:
            if self._closed:
                raise BrokerLostError(f"{self._at}: this reader is closed")
            room = self._prefetch - len(self._out)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            async with _saying(self._at, f"subscription {self._group}"):
                messages = await (self._claim(room) if self._again else self._read(room))
            self._out.update(message.receipt for message in messages)
            if messages:
                if self._acks_before:
                    await self.ack(messages)
                return messages

    async def ack(self, messages: Sequence[Message]) -> None:
        async with _saying(self._at, "acknowledging"):
            await self._client.xack(self._key, self._group, *[message.receipt for message in messages])
        self._settled(messages)

    async def reject(self, messages: Sequence[Message], requeue: bool = False) -> None:
        if requeue:
            self._again.update((message.receipt, message.deliveries) for message in messages)  # type: ignore[misc]
        else:
            async with _saying(self._at, "rejecting"):
                await self._bury(messages)
        self._settled(messages)

    async def close(self) -> None:
        self._closed = True
        self._room.set()

    async def _read(self, room: int) -> list[Message]:
        streams = {self._key: ">"}
        found = await self._client.xreadgroup(self._group, _CONSUMER, streams, count=room, block=_BLOCK_MS)
        return [Message(receipt, 1, fields[_BODY]) for _, entries in _pairs(found) for receipt, fields in entries]

    async def _claim(self, room: int) -> list[Message]:
        receipts = list(self._again)[:room]
        entries = await self._client.xclaim(self._key, self._group, _CONSUMER, 0, receipts)
        messages = [Message(receipt, self._again[receipt] + 1, fields[_BODY]) for receipt, fields in entries]
        for receipt in receipts:
            del self._again[receipt]
        limit = self._max_deliveries
        await self._bury([message for message in messages if limit and message.deliveries > limit])
        return [message for message in messages if not limit or message.deliveries <= limit]

    async def _bury(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        pipeline = self._client.pipeline(transaction=True)
        for message in messages:
            pipeline.xadd(self._dead, {_BODY: message.body})
        pipeline.xack(self._key, self._group, *[message.receipt for message in messages])
        await pipeline.execute()

    def _settled(self, messages: Sequence[Message]) -> None:
        self._out.difference_update(message.receipt for message in messages)
        self._room.set()


def _pairs(found: Any) -> Any:
    """What a read gives as pairs of stream and entries: a list of them, or by stream (RESP3)."""
    return found.items() if isinstance(found, dict) else found or ()


def _dead(topic: str, subscription: str) -> str:
    return f"{topic}.{subscription}.dead"


def _limits(topic: str) -> str:
    return f"{topic}.limits"
