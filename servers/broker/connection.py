"""One connection of the embedded broker (`bench.wire.broker_frames`)."""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, cast

from bench.errors import ProtocolError
from bench.wire.broker_frames import (
    MAX_PUBLISH_BYTES,
    NO_TOKEN,
    Frame,
    FrameReader,
    Kind,
    Reason,
    decode_numbers,
    decode_publish,
    encode_deliveries,
    encode_frame,
    encode_refusal,
)
from servers.broker.log import Log
from servers.broker.store import StoreError
from servers.broker.topics import Subscription, Topic

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MOST = 65_535
"""Of a prefetch, and of `max_deliveries`."""


class RefusedError(Exception):
    """What a frame asks for cannot be done."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Receiver:
    """A subscription as a connection reads it."""

    def __init__(self, connection: "BrokerConnection", token: int, prefetch: int, subscription: Subscription) -> None:
        self.prefetch = prefetch
        self.subscription = subscription
        self._connection = connection
        self._token = token

    def deliver(self, numbers: Sequence[int], deliveries: Sequence[int], bodies: Sequence[bytes]) -> None:
        self._connection.write(encode_frame(Kind.DELIVER, self._token, encode_deliveries(numbers, deliveries, bodies)))

    def take_over(self) -> None:
        self._connection.forget(self._token)
        self._connection.write(
            encode_refusal(self._token, Reason.TAKEN_OVER, "another reader has taken the subscription")
        )


class BrokerConnection(asyncio.Protocol):
    """What one client has asked for, and its answers: those of one turn of the loop go out together."""

    def __init__(self, log: Log, connections: set["BrokerConnection"]) -> None:
        self._log = log
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._receivers: dict[int, Receiver] = {}
        self._out: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport
        self._closed = False

    def write(self, frame: bytes) -> None:
        """Send a frame at the end of this turn."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def forget(self, token: int) -> None:
        """A subscription is no longer this connection's."""
        del self._receivers[token]

    def pause(self) -> None:
        """Take nothing more from the client for now."""
        if not self._closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """There is room in the log again."""
        if not self._closed:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                try:
                    self._obey(frame)
                except RefusedError as error:
                    self.write(encode_refusal(frame.token, error.reason, str(error)))
        except ProtocolError as error:
            self._out.append(encode_refusal(NO_TOKEN, Reason.NOT_A_FRAME, str(error)))
            self._flush()
            self._transport.close()
            return
        if self._log.is_full:
            self.pause()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._connections.discard(self)
        receivers, self._receivers = self._receivers, {}
        for receiver in receivers.values():
            subscription = receiver.subscription
            self._log.changed(subscription, subscription.detach())

    # What frames ask for

    def _obey(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.PUBLISH:
                self._publish(frame.token, frame.payload)
            case Kind.ACK | Kind.RETURN | Kind.BURY | Kind.LEAVE:
                self._settle(frame)
            case Kind.SUBSCRIBE:
                self._subscribe(frame.token, frame.payload)
            case Kind.DECLARE:
                task = self._loop.create_task(self._declare(frame.token, frame.payload))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case _:
                raise ProtocolError(f"a frame of kind {frame.kind}, which no client sends")

    def _publish(self, token: int, payload: bytes) -> None:
        if len(payload) > MAX_PUBLISH_BYTES:
            raise RefusedError(Reason.TOO_LONG, f"a publish of {len(payload)} bytes is longer than {MAX_PUBLISH_BYTES}")
        name, bodies = decode_publish(payload)
        topic = self._topic(name)
        if not bodies:
            self.write(encode_frame(Kind.DONE, token))  # it asks whether the topic is there
            return

        def confirm(error: StoreError | None) -> None:
            if error is None:
                self.write(encode_frame(Kind.DONE, token))
            else:
                self.write(encode_refusal(token, Reason.STORE_FAILED, str(error)))

        self._log.publish(topic, bodies, confirm)

    def _settle(self, frame: Frame) -> None:
        numbers = decode_numbers(frame.payload)
        receiver = self._receivers.get(frame.token)
        if receiver is None:
            return  # it was taken over meanwhile
        subscription = receiver.subscription
        dead = None
        match frame.kind:
            case Kind.ACK:
                subscription.ack(numbers)
            case Kind.RETURN:
                dead = subscription.give_back(numbers)
            case Kind.BURY:
                dead = subscription.bury(numbers)
            case _:
                self.forget(frame.token)
                dead = subscription.detach()
        self._log.changed(subscription, dead)

    def _subscribe(self, token: int, payload: bytes) -> None:
        fields = _fields(payload)
        topic = self._topic(fields.get("topic"))
        name, prefetch = fields.get("subscription"), fields.get("prefetch")
        subscription = topic.subscriptions.get(name) if isinstance(name, str) else None
        if subscription is None:
            raise RefusedError(
                Reason.UNKNOWN_SUBSCRIPTION, f"the topic {topic.name} has no subscription {name}; declare it first"
            )
        receiver = Receiver(self, token, _number(prefetch, "prefetch"), subscription)
        subscription.attach(receiver)
        self._receivers[token] = receiver
        self.write(encode_frame(Kind.DONE, token))
        self._log.pump(subscription)

    async def _declare(self, token: int, payload: bytes) -> None:
        try:
            fields = _fields(payload)
            names = [fields.get("topic"), *fields.get("subscriptions", [])]
            for name in names:
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise ProtocolError(f"{name!r} is no name: letters, digits, - and _ are")
            topic, *subscriptions = map(str, names)
            await self._log.declare(topic, subscriptions, _number(fields.get("max_deliveries"), "max_deliveries"))
        except ProtocolError as error:
            self.write(encode_refusal(token, Reason.NOT_A_FRAME, str(error)))
        except StoreError as error:
            self.write(encode_refusal(token, Reason.STORE_FAILED, str(error)))
        else:
            self.write(encode_frame(Kind.DONE, token))

    def _topic(self, name: Any) -> Topic:
        topic = self._log.topics.get(name) if isinstance(name, str) else None
        if topic is None:
            raise RefusedError(Reason.UNKNOWN_TOPIC, f"there is no topic {name}; declare it first")
        return topic

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self._closed:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(payload)
    except ValueError:
        raise ProtocolError("a payload that is not JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolError("a payload that is no object of JSON")
    return fields


def _number(value: Any, what: str) -> int:
    if not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ProtocolError(f"{what} is a number from 1 to {_MOST}")
    return value
