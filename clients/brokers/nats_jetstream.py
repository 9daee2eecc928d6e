"""NATS JetStream: a stream for a topic, a durable consumer for each subscription.

NATS does not notice that a reader has gone; what it left is delivered again `ACK_WAIT_S` after its delivery. NATS has
no dead letters; the reader moves them to a stream of their own, and lets go of them when they are there. A publish is
in the server's file when it is confirmed; when that is synced is the server's setting (`sync_interval`, two minutes
by default), so it outlives a killed server, not a power cut.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import nats
from nats import errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

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
from clients.brokers.inbox import Inbox

ACK_WAIT_S = 5.0
"""Work has to be acknowledged within it, or it is delivered once more."""
_CONFIRM_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
_DEAD_PREFETCH = 100
_DEAD_READER = "dead"
_NO_LIMIT = 0


async def connect(address: str) -> "NatsBroker":
    """`address` is like nats://user:password@127.0.0.1:4222. Raises BrokerDownError, LoginRefusedError."""
    reasons: list[Exception] = []
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def note(error: Exception) -> None:
        reasons.append(error)

    async def lost() -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            client = await nats.connect(
                address, allow_reconnect=False, max_reconnect_attempts=1, error_cb=note, closed_cb=lost
            )
    except (errors.Error, OSError, TimeoutError) as error:
        said = ", ".join(str(reason) or "no answer" for reason in (error, *reasons[:1]))
        if isinstance(error, errors.AuthorizationError) or "authorization" in said.lower():
            raise LoginRefusedError(f"{without_login(address)}: NATS does not let this user in") from None
        raise BrokerDownError(f"{without_login(address)}: {said}; does NATS run?") from None
    return NatsBroker(client, without_login(address), ended)


@contextlib.asynccontextmanager
async def _saying(at: str, what: str) -> AsyncIterator[None]:
    """Raises BrokerError for whatever nats raises."""
    try:
        yield
    except js_errors.NotFoundError:
        raise UnknownTopicError(f"{at}: NATS has no {what}; declare it first") from None
    except (errors.Error, js_errors.Error, OSError, TimeoutError) as error:
        raise BrokerLostError(f"{at}: {what}: {error or type(error).__name__}") from None


class NatsBroker:
    """`bench.wire.brokers.Broker`. Publishers and readers share its connection."""

    def __init__(self, client: Any, at: str, lost: asyncio.Future[None]) -> None:
        """`lost` is done when the connection has ended."""
        self._client = client
        self._lost = lost
        self._jetstream: JetStreamContext = client.jetstream(timeout=_CONFIRM_TIMEOUT_S)
        self._at = at

    async def declare(self, topic: Topic) -> None:
        async with _saying(self._at, f"topic {topic.name}"):
            await self._declare_stream(topic.name)
            for name in topic.subscriptions:
                await self._declare_consumer(topic.name, name, topic.max_deliveries)
                dead = _dead(topic.name, name)
                await self._declare_stream(dead)
                await self._declare_consumer(dead, _DEAD_READER, _NO_LIMIT)

    async def publisher(self, topic: str) -> "NatsPublisher":
        async with _saying(self._at, f"topic {topic}"):
            await self._jetstream.stream_info(topic)
        return NatsPublisher(self._jetstream, self._at, topic, self._lost)

    async def reader(self, topic: str, subscription: str, prefetch: int, ack: AckWhen) -> "NatsReader":
        return await self._reader(topic, subscription, prefetch, ack)

    async def dead_letters(self, topic: str, subscription: str) -> "NatsReader":
        return await self._reader(_dead(topic, subscription), _DEAD_READER, _DEAD_PREFETCH, "after")

    async def close(self) -> None:
        await self._client.close()

    async def _reader(self, stream: str, name: str, prefetch: int, ack: AckWhen) -> "NatsReader":
        reader = NatsReader(self._jetstream, self._at, stream, name, ack)
        failure = BrokerLostError(f"{self._at}: NATS has closed the connection")
        self._lost.add_done_callback(lambda _: reader.inbox.fail(failure))
        await reader.open(prefetch)
        return reader

    async def _declare_stream(self, name: str) -> None:
        try:
            await self._jetstream.stream_info(name)
        except js_errors.NotFoundError:
            # What every consumer is done with goes; when the disk is full, new messages are refused.
            await self._jetstream.add_stream(
                name=name,
                subjects=[_subject(name)],
                retention=api.RetentionPolicy.INTEREST,
                discard=api.DiscardPolicy.NEW,
                storage=api.StorageType.FILE,
            )

    async def _declare_consumer(self, stream: str, name: str, max_deliveries: int) -> None:
        try:
            await self._jetstream.consumer_info(stream, name)
        except js_errors.NotFoundError:
            await self._jetstream.add_consumer(
                stream,
                durable_name=name,
                description=str(max_deliveries),
                deliver_subject=f"deliver.{stream}.{name}",
                ack_wait=ACK_WAIT_S,
                ack_policy=api.AckPolicy.EXPLICIT,
                max_ack_pending=1,
            )


class NatsPublisher:
    """`bench.wire.brokers.Publisher`."""

    def __init__(self, jetstream: JetStreamContext, at: str, topic: str, lost: asyncio.Future[None]) -> None:
        self._jetstream = jetstream
        self._lost = lost
        self._at = at
        self._topic = topic

    async def publish(self, bodies: Sequence[bytes]) -> None:
        subject = _subject(self._topic)
        calls = [
            asyncio.ensure_future(self._jetstream.publish(subject, body, timeout=_CONFIRM_TIMEOUT_S)) for body in bodies
        ]
        answering: asyncio.Future[list[Any]] = asyncio.gather(*calls, return_exceptions=True)
        waiting: list[asyncio.Future[Any]] = [answering, self._lost]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            for call in calls:
                call.cancel()  # they would wait for their time-out
        answers = await answering
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if not failures:
            return
        count, first = len(failures), failures[0]
        if isinstance(first, js_errors.NoStreamResponseError):
            raise UnknownTopicError(f"{self._at}: NATS has no topic {self._topic}; declare it first", count)
        if isinstance(first, js_errors.APIError | TimeoutError | errors.MaxPayloadError):
            raise PublishRefusedError(f"{self._at}: NATS refuses messages: {first or 'not confirmed in time'}", count)
        raise BrokerLostError(f"{self._at}: {first or type(first).__name__}", count)

    async def close(self) -> None:
        """The connection is the broker's."""


class NatsReader:
    """`bench.wire.brokers.Reader`."""

    def __init__(self, jetstream: JetStreamContext, at: str, stream: str, name: str, ack: AckWhen) -> None:
        self._jetstream = jetstream
        self._at = at
        self._stream = stream
        self._name = name
        self._acks_before = ack == "before"
        self._max_deliveries = _NO_LIMIT
        self.inbox = Inbox()
        self._out: dict[Any, Msg] = {}
        self._subscription: Any = None

    async def open(self, prefetch: int) -> None:
        """Begin to read. Raises BrokerError."""
        async with _saying(self._at, f"subscription {self._name} of {self._stream}"):
            found = await self._jetstream.consumer_info(self._stream, self._name)
            config = found.config
            config.max_ack_pending = prefetch
            await self._jetstream.add_consumer(self._stream, config)  # changes the one that is there
            self._max_deliveries = int(config.description or _NO_LIMIT)
            self._subscription = await self._jetstream.subscribe_bind(
                self._stream, config, self._name, cb=self._arrived, manual_ack=True
            )

    async def receive(self) -> Sequence[Message]:
        messages = await self.inbox.take()
        if self._acks_before:
            await self.ack(messages)
        return messages

    async def ack(self, messages: Sequence[Message]) -> None:
        async with _saying(self._at, "acknowledging"):
            for message in messages:
                await self._out.pop(message.receipt).ack()

    async def reject(self, messages: Sequence[Message], requeue: bool = False) -> None:
        async with _saying(self._at, "rejecting"):
            for message in messages:
                if requeue:
                    await self._out.pop(message.receipt).nak()
                else:
                    await self._bury(self._out.pop(message.receipt))

    async def close(self) -> None:
        with contextlib.suppress(errors.Error, OSError):
            await self._subscription.unsubscribe()
            for message in self._out.values():
                await message.nak()

    async def _arrived(self, message: Msg) -> None:
        deliveries = message.metadata.num_delivered or 1
        if self._max_deliveries and deliveries > self._max_deliveries:
            with contextlib.suppress(errors.Error, js_errors.Error):  # it will come again
                await self._bury(message)
            return
        receipt = message.metadata.sequence.stream
        self._out[receipt] = message
        self.inbox.put(Message(receipt, deliveries, message.data))

    async def _bury(self, message: Msg) -> None:
        await self._jetstream.publish(_subject(_dead(self._stream, self._name)), message.data)
        await message.ack()


def _subject(topic: str) -> str:
    return f"topic.{topic}"


def _dead(topic: str, subscription: str) -> str:
    """A stream's name has no dot in it."""
    return f"{topic}--{subscription}--dead"
