"""One side of a comparison of brokers as a process: `broker_sides SIDE BROKER ADDRESS READERS SECONDS`. SIDE is
`wirebench`, for `bench.load.pubsub`, or `aio_pika`, for a bare loop over that library with the same topic, queues and
settings. Prints as JSON how many messages a second were confirmed and delivered."""

import asyncio
import json
import secrets
import sys
import time
from typing import Any

import uvloop

from bench import brokers
from bench.load.pubsub import PubSub, PubSubSettings
from bench.schedule import Closed, Concurrency
from bench.wire.brokers import Topic

PUBLISHES, MESSAGES = 8, 64
"""Publishes that wait at once, and messages of each."""
PAYLOAD_BYTES = 128
_PREFETCH = 500
_WARMUP_S = 0.5
_DRAIN_S = 20.0


async def wirebench(broker: str, address: str, topic: str, readers: int, seconds: float) -> dict[str, Any]:
    """As every measurement does it."""
    engine = PubSub(
        PubSubSettings(
            broker=broker,
            address=address,
            topic=topic,
            load=Closed(Concurrency(PUBLISHES, MESSAGES)),
            readers=readers,
            prefetch=_PREFETCH,
            ack="after",
            payload_bytes=PAYLOAD_BYTES,
            drain_ns=int(_DRAIN_S * 1e9),
        )
    )
    await engine.connect()
    start_ns = time.monotonic_ns()
    measure_ns = start_ns + int(_WARMUP_S * 1e9)
    await engine.run(start_ns, measure_ns, measure_ns + int(seconds * 1e9), 1)
    found = engine.recorder.result()
    return {
        "confirmed_per_s": engine.confirmed_in_window / seconds,
        "delivered_per_s": found["done_in_window"] / seconds,
        "lost": engine.tally["lost"],
        "errors": found["errors"],
    }


async def bare(address: str, topic: str, readers: int, seconds: float) -> dict[str, Any]:
    """aio-pika as its documentation shows it: each message published and acknowledged by itself."""
    import aio_pika
    from aio_pika.abc import AbstractIncomingMessage, DeliveryMode

    confirmed = delivered = 0
    start = end = float("inf")

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal delivered
        await message.ack()
        delivered += start <= time.monotonic() < end

    async def publish() -> None:
        nonlocal confirmed
        body = bytes(PAYLOAD_BYTES)
        while time.monotonic() < end:
            await asyncio.gather(
                *(
                    exchange.publish(aio_pika.Message(body, delivery_mode=DeliveryMode.PERSISTENT), "", mandatory=False)
                    for _ in range(MESSAGES)
                )
            )
            confirmed += MESSAGES if start <= time.monotonic() < end else 0

    connections = [await aio_pika.connect(address) for _ in range(readers + 1)]
    for index, connection in enumerate(connections[1:]):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=_PREFETCH)
        await (await channel.get_queue(f"{topic}.reader{index}")).consume(take)
    exchange = await (await connections[0].channel(publisher_confirms=True)).get_exchange(topic)
    start = time.monotonic() + _WARMUP_S
    end = start + seconds
    await asyncio.gather(*(publish() for _ in range(PUBLISHES)))
    for connection in connections:
        await connection.close()
    return {"confirmed_per_s": confirmed / seconds, "delivered_per_s": delivered / seconds, "lost": 0, "errors": {}}


async def main(side: str, broker: str, address: str, readers: int, seconds: float) -> None:
    topic = f"peers-{secrets.token_hex(4)}"
    if side == "wirebench":
        found = await wirebench(broker, address, topic, readers, seconds)
    else:
        user = await brokers.connect(brokers.choose(broker))(address)
        await user.declare(Topic(topic, tuple(f"reader{index}" for index in range(readers))))
        await user.close()
        found = await bare(address, topic, readers, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
