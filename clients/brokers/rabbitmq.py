"""RabbitMQ through aio-pika: a durable fan-out exchange for a topic, a durable quorum queue for each subscription.

Quorum queues, because only they count deliveries (`x-delivery-limit`). Messages are persistent and published with
publisher confirms; dead letters move to a queue of their own, and leave the other only when they are there
("at-least-once").
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage, DeliveryMode
from aio_pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
)

from bench.wire.brokers import (
    AckWhen,
    BrokerDownError,
    BrokerError,
    BrokerLostError,
    LoginRefusedError,
    Message,
    PublishRefusedError,
    Topic,
    UnknownTopicError,
    without_login,
)
from clients.brokers.inbox import Inbox

CONFIRM_TIMEOUT_S = 10.0
"""A broker whose disk or memory is full reads nothing more from publishers, and does not say so to each."""
_DEAD_PREFETCH = 100
_ENDED = (AMQPError, OSError, asyncio.CancelledError, RuntimeError)


async def connect(address: str) -> "RabbitBroker":
    """`address` is like amqp://user:password@127.0.0.1:5672/. Raises BrokerDownError, LoginRefusedError."""
    try:
        connection = await aio_pika.connect(address, timeout=CONFIRM_TIMEOUT_S)
    except (AuthenticationError, ProbableAuthenticationError):
        raise LoginRefusedError(f"{without_login(address)}: RabbitMQ does not let this user in") from None
    except (AMQPConnectionError, OSError, TimeoutError) as error:
        raise BrokerDownError(f"{without_login(address)}: {error or 'no answer'}; does RabbitMQ run?") from None
    return RabbitBroker(connection, without_login(address))


@contextlib.asynccontextmanager
async def _saying(at: str, what: str) -> AsyncIterator[None]:
    """Raises BrokerError for whatever aio-pika raises."""
    try:
        yield
    except ChannelNotFoundEntity:
        raise UnknownTopicError(f"{at}: RabbitMQ has no {what}; declare it first") from None
    except (AMQPError, OSError, RuntimeError) as error:
        raise BrokerLostError(f"{at}: RabbitMQ ended the channel for {what}: {error}") from None


class RabbitBroker:
    """`bench.wire.brokers.Broker`. Each publisher and reader has a channel of its own."""

    def __init__(self, connection: AbstractConnection, at: str) -> None:
        self._connection = connection
        self._at = at

    async def declare(self, topic: Topic) -> None:
        async with _saying(self._at, f"topic {topic.name}"):
            channel = await self._connection.channel()
            exchange = await channel.declare_exchange(topic.name, aio_pika.ExchangeType.FANOUT, durable=True)
            dead = await channel.declare_exchange(f"{topic.name}.dead", aio_pika.ExchangeType.DIRECT, durable=True)
            for name in topic.subscriptions:
                letters = await channel.declare_queue(
                    f"{topic.name}.{name}.dead", durable=True, arguments={"x-queue-type": "quorum"}
                )
                await letters.bind(dead, name)
                queue = await channel.declare_queue(
                    f"{topic.name}.{name}",
                    durable=True,
                    arguments={
                        "x-queue-type": "quorum",
                        "x-delivery-limit": topic.max_deliveries - 1,  # RabbitMQ counts those after the first
                        "x-dead-letter-exchange": dead.name,
                        "x-dead-letter-routing-key": name,
                        "x-dead-letter-strategy": "at-least-once",
                        "x-overflow": "reject-publish",
                    },
                )
                await queue.bind(exchange)
            await channel.close()

    async def publisher(self, topic: str) -> "RabbitPublisher":
        async with _saying(self._at, f"topic {topic}"):
            channel = await self._connection.channel(publisher_confirms=True)
            return RabbitPublisher(channel, await channel.get_exchange(topic), self._at)

    async def reader(self, topic: str, subscription: str, prefetch: int, ack: AckWhen) -> "RabbitReader":
        return await self._reader(f"{topic}.{subscription}", prefetch, ack)

    async def dead_letters(self, topic: str, subscription: str) -> "RabbitReader":
        return await self._reader(f"{topic}.{subscription}.dead", _DEAD_PREFETCH, "after")

    async def close(self) -> None:
        await self._connection.close()

    async def _reader(self, queue: str, prefetch: int, ack: AckWhen) -> "RabbitReader":
        async with _saying(self._at, f"subscription {queue}"):
            channel = await self._connection.channel()
            reader = RabbitReader(channel, ack, self._at)
            await channel.set_qos(prefetch_count=prefetch)
            await (await channel.get_queue(queue)).consume(reader.arrived)
            return reader


class RabbitPublisher:
    """`bench.wire.brokers.Publisher`."""

    def __init__(self, channel: AbstractChannel, exchange: AbstractExchange, at: str) -> None:
        self._channel = channel
        self._exchange = exchange
        self._at = at

    async def publish(self, bodies: Sequence[bytes]) -> None:
        publish = self._exchange.publish
        calls = [
            asyncio.ensure_future(
                publish(aio_pika.Message(body, delivery_mode=DeliveryMode.PERSISTENT), "", mandatory=False)
            )
            for body in bodies
        ]
        if not calls:
            return
        _, late = await asyncio.wait(calls, timeout=CONFIRM_TIMEOUT_S)
        for call in late:
            call.cancel()
        failures = [call.exception() for call in calls if call not in late and not call.cancelled()]
        errors = [error for error in failures if error is not None]
        unconfirmed = len(errors) + sum(call in late or call.cancelled() for call in calls)
        if not unconfirmed:
            return
        if late:
            message = f"not confirmed in {CONFIRM_TIMEOUT_S:g} s: the disk or the memory of RabbitMQ may be full"
            raise PublishRefusedError(f"{self._at}: {message}", unconfirmed)
        if errors and all(isinstance(error, DeliveryError) for error in errors):
            raise PublishRefusedError(
                f"{self._at}: RabbitMQ refused messages: a queue has reached its limit", unconfirmed
            )
        reason = errors[0] if errors else "no reason given"
        raise BrokerLostError(f"{self._at}: RabbitMQ has closed the channel: {reason}", unconfirmed)

    async def close(self) -> None:
        with contextlib.suppress(*_ENDED):
            await self._channel.close()


class RabbitReader:
    """`bench.wire.brokers.Reader`. Acknowledges many at once where they are the oldest that are out."""

    def __init__(self, channel: AbstractChannel, ack: AckWhen, at: str) -> None:
        self._channel = channel
        self._acks_before = ack == "before"
        self._at = at
        self._inbox = Inbox()
        self._out: dict[int, AbstractIncomingMessage] = {}
        """Delivered and not settled, by delivery tag: the oldest first."""
        channel.close_callbacks.add(self._closed)

    async def arrived(self, message: AbstractIncomingMessage) -> None:
        """What aio-pika calls with each delivery."""
        assert message.delivery_tag is not None
        self._out[message.delivery_tag] = message
        returned: Any = message.headers.get("x-delivery-count", int(bool(message.redelivered)))
        self._inbox.put(Message(message.delivery_tag, returned + 1, message.body))

    async def receive(self) -> Sequence[Message]:
        messages = await self._inbox.take()
        if self._acks_before:
            await self.ack(messages)
        return messages

    async def ack(self, messages: Sequence[Message]) -> None:
        async with _saying(self._at, "acknowledging"):
            self._inbox.check()
            tags = {message.receipt for message in messages}
            last = None
            while self._out and (oldest := next(iter(self._out))) in tags:
                tags.remove(oldest)
                last = self._out.pop(oldest)
            if last is not None:
                await last.ack(multiple=True)
            for tag in tags:
                await self._take(tag).ack()

    async def reject(self, messages: Sequence[Message], requeue: bool = False) -> None:
        async with _saying(self._at, "rejecting"):
            self._inbox.check()
            for message in messages:
                await self._take(message.receipt).reject(requeue)

    async def close(self) -> None:
        with contextlib.suppress(*_ENDED):
            await self._channel.close()

    def _take(self, tag: Any) -> AbstractIncomingMessage:
        return self._out.pop(tag)

    def _closed(self, _channel: Any, error: BaseException | None) -> None:
        reason = f": {error}" if error else ""
        failure: BrokerError = BrokerLostError(f"{self._at}: RabbitMQ has closed the channel{reason}")
        self._inbox.fail(failure)
