"""The embedded broker's client (`bench.wire.broker_frames`): one connection for all publishers and readers of a
user."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from bench.errors import ProtocolError
from bench.wire.broker_frames import (
    NO_TOKEN,
    Delivery,
    FrameReader,
    Kind,
    Reason,
    decode_deliveries,
    decode_refusal,
    encode_frame,
    encode_numbers,
    encode_publish,
)
from bench.wire.brokers import (
    AckWhen,
    BrokerDownError,
    BrokerError,
    BrokerLostError,
    Message,
    PublishRefusedError,
    Topic,
    UnknownTopicError,
)
from clients.brokers.inbox import Inbox

_DEAD = "dead"
_DEAD_PREFETCH = 100

_ERRORS: dict[Reason, type[BrokerError]] = {
    Reason.UNKNOWN_TOPIC: UnknownTopicError,
    Reason.UNKNOWN_SUBSCRIPTION: UnknownTopicError,
    Reason.STORE_FAILED: PublishRefusedError,
    Reason.TOO_LONG: PublishRefusedError,
    Reason.TAKEN_OVER: BrokerLostError,
}


async def connect(address: str) -> "EmbeddedBroker":
    """`address` is like wirebench://127.0.0.1:5000. Raises BrokerDownError."""
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(
            lambda: _Connection(address), parts.hostname or "", parts.port or 0
        )
    except OSError as error:
        raise BrokerDownError(f"{address}: {error.strerror or error}; is the broker running?") from None
    return EmbeddedBroker(connection)


class _Connection(asyncio.Protocol):
    """Frames out, and what they are answered with."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._frames = FrameReader()
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._readers: dict[int, EmbeddedReader] = {}
        self._token = NO_TOKEN
        self._transport: asyncio.Transport
        self._ended: BrokerError | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()

    def token(self) -> int:
        """One that is not in use: 32 bits last for longer than anything is in flight."""
        self._token = self._token % 0xFFFFFFFF + 1
        return self._token

    async def ask(self, token: int, frame: bytes) -> None:
        """Send a frame, and wait until it is done. Raises BrokerError."""
        await self._writable.wait()
        self.send(frame)
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        try:
            await answer
        finally:
            self._answers.pop(token, None)

    def send(self, frame: bytes) -> None:
        """Send a frame that is not answered. Raises BrokerLostError."""
        if self._ended is not None:
            raise type(self._ended)(str(self._ended))
        self._transport.write(frame)

    def attach(self, token: int, reader: "EmbeddedReader") -> None:
        self._readers[token] = reader

    async def close(self) -> None:
        """What was sent before arrives."""
        self._transport.close()
        await self.closed.wait()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, token, payload in self._frames.feed(data):
                match kind:
                    case Kind.DELIVER:
                        self._readers[token].arrived(decode_deliveries(payload))
                    case Kind.DONE:
                        self._answer(token, None)
                    case Kind.REFUSED:
                        reason, message = decode_refusal(payload)
                        self._refused(token, _ERRORS.get(reason, BrokerError)(f"{self._address}: {message}"))
                    case _:
                        raise ProtocolError(f"a frame of kind {kind}, which no broker sends")
        except ProtocolError as error:
            self._end(BrokerError(f"{self._address}: the broker broke the protocol: {error}"))
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(BrokerLostError(f"{self._address}: the broker has closed the connection"))
        self.closed.set()

    def _refused(self, token: int, error: BrokerError) -> None:
        if token in self._answers:
            self._answer(token, error)
        elif token in self._readers:
            self._readers[token].failed(error)
        else:
            self._end(error)

    def _answer(self, token: int, error: BrokerError | None) -> None:
        answer = self._answers.get(token)
        if answer is None or answer.done():
            return  # it is no longer waited for
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def _end(self, error: BrokerError) -> None:
        if self._ended is None:
            self._ended = error
            for token in list(self._answers):
                self._answer(token, type(error)(str(error)))
            for reader in self._readers.values():
                reader.failed(error)
        self._writable.set()


class EmbeddedBroker:
    """`bench.wire.brokers.Broker`. Publishers and readers share its connection."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def declare(self, topic: Topic) -> None:
        token = self._connection.token()
        fields = {"topic": topic.name, "subscriptions": topic.subscriptions, "max_deliveries": topic.max_deliveries}
        await self._connection.ask(token, encode_frame(Kind.DECLARE, token, json.dumps(fields).encode()))

    async def publisher(self, topic: str) -> "EmbeddedPublisher":
        publisher = EmbeddedPublisher(self._connection, topic)
        await publisher.publish(())  # an empty batch asks whether the topic is there
        return publisher

    async def reader(self, topic: str, subscription: str, prefetch: int, ack: AckWhen) -> "EmbeddedReader":
        connection = self._connection
        token = connection.token()
        reader = EmbeddedReader(connection, token, ack)
        connection.attach(token, reader)
        fields = {"topic": topic, "subscription": subscription, "prefetch": prefetch}
        await connection.ask(token, encode_frame(Kind.SUBSCRIBE, token, json.dumps(fields).encode()))
        return reader

    async def dead_letters(self, topic: str, subscription: str) -> "EmbeddedReader":
        return await self.reader(f"{topic}.{subscription}.{_DEAD}", _DEAD, _DEAD_PREFETCH, "after")

    async def close(self) -> None:
        await self._connection.close()


class EmbeddedPublisher:
    """`bench.wire.brokers.Publisher`: a call is one frame."""

    def __init__(self, connection: _Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic

    async def publish(self, bodies: Sequence[bytes]) -> None:
        token = self._connection.token()
        try:
            await self._connection.ask(token, encode_publish(token, self._topic, bodies))
        except BrokerError as error:
            error.unconfirmed = len(bodies)
            raise

    async def close(self) -> None:
        """The connection is the broker's."""


class EmbeddedReader:
    """`bench.wire.brokers.Reader`."""

    def __init__(self, connection: _Connection, token: int, ack: AckWhen) -> None:
        self._connection = connection
        self._token = token
        self._acks_before = ack == "before"
        self._inbox = Inbox()

    def arrived(self, deliveries: Sequence[Delivery]) -> None:
        """What the connection calls with each delivery."""
        self._inbox.put(*map(Message._make, deliveries))

    def failed(self, error: BrokerError) -> None:
        """What the connection calls when nothing more will come."""
        self._inbox.fail(error)

    async def receive(self) -> Sequence[Message]:
        messages = await self._inbox.take()
        if self._acks_before:
            self._settle(Kind.ACK, messages)
        return messages

    async def ack(self, messages: Sequence[Message]) -> None:
        self._settle(Kind.ACK, messages)

    async def reject(self, messages: Sequence[Message], requeue: bool = False) -> None:
        self._settle(Kind.RETURN if requeue else Kind.BURY, messages)

    async def close(self) -> None:
        with contextlib.suppress(BrokerError):  # the subscription, or the broker, has gone already
            self._settle(Kind.LEAVE, ())

    def _settle(self, kind: Kind, messages: Sequence[Message]) -> None:
        numbers = [cast(int, message.receipt) for message in messages]
        self._inbox.check()
        self._connection.send(encode_numbers(kind, self._token, numbers))
