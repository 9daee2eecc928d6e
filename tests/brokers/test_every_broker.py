"""What the seam promises, against every broker that is installed."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence

import aio_pika
import pytest
import redis.asyncio as redis

from bench import brokers
from bench.brokers import RunningBroker
from bench.wire.brokers import (
    Broker,
    BrokerDownError,
    BrokerError,
    BrokerLostError,
    LoginRefusedError,
    Message,
    Reader,
    Topic,
    UnknownTopicError,
)

_PATIENCE_S = 20.0
BODIES = [b"%d" % number + bytes(range(256)) for number in range(50)]

Story = Callable[[Broker, Topic], Awaitable[None]]


def tell(broker: RunningBroker, story: Story, subscriptions: Sequence[str] = ("one", "two"), **options: int) -> None:
    """Run a story on a topic of its own."""

    async def run() -> None:
        async with asyncio.timeout(_PATIENCE_S):
            user = await connect(broker)
            topic = Topic(f"t{uuid.uuid4().hex[:12]}", tuple(subscriptions), **options)
            await user.declare(topic)
            await story(user, topic)
            await user.close()

    asyncio.run(run())


async def connect(broker: RunningBroker) -> Broker:
    return await brokers.connect(brokers.choose(broker.name))(broker.address)


async def read(reader: Reader, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        messages += await reader.receive()
    assert len(messages) == count
    return messages


def bodies(messages: Sequence[Message]) -> list[bytes]:
    return [message.body for message in messages]


def test_every_subscription_gets_every_message_in_order(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        readers = [await user.reader(topic.name, name, 100, "after") for name in topic.subscriptions]
        await publisher.publish(BODIES)
        for reader in readers:
            messages = await read(reader, len(BODIES))
            assert bodies(messages) == BODIES
            assert {message.deliveries for message in messages} == {1}
            await reader.ack(messages)

    tell(broker, story)


def test_a_reader_that_was_offline_gets_what_it_missed(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES)
        reader = await user.reader(topic.name, "one", 7, "before")
        assert bodies(await read(reader, len(BODIES))) == BODIES

    tell(broker, story)


def test_no_more_than_prefetch_is_out(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES)
        reader = await user.reader(topic.name, "one", 5, "after")
        messages = await read(reader, 5)
        more = asyncio.ensure_future(reader.receive())
        await asyncio.sleep(0)
        # What comes next can only come when there is room.
        user_two = await connect(broker)
        await (await user_two.publisher(topic.name)).publish(BODIES[:1])
        assert not more.done()
        await reader.ack(messages)
        assert bodies(await more)[0] == BODIES[5]
        await user_two.close()

    tell(broker, story)


def test_what_was_not_acknowledged_is_delivered_again_to_the_next_reader(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES[:4])
        other = await connect(broker)
        reader = await other.reader(topic.name, "one", 10, "after")
        messages = await read(reader, 4)
        await reader.ack(messages[:2])
        await reader.close()
        await other.close()
        again = await read(await user.reader(topic.name, "one", 10, "after"), 2)
        assert bodies(again) == BODIES[2:4]
        assert {message.deliveries for message in again} == {2}

    tell(broker, story)


def test_what_was_acknowledged_before_the_work_is_not_delivered_again(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES[:3])
        other = await connect(broker)
        await read(await other.reader(topic.name, "one", 10, "before"), 3)
        await other.close()
        await publisher.publish(BODIES[3:4])
        assert bodies(await read(await user.reader(topic.name, "one", 10, "after"), 1)) == BODIES[3:4]

    tell(broker, story)


def test_a_rejected_message_is_a_dead_letter_of_its_subscription(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES[:3])
        reader = await user.reader(topic.name, "one", 10, "after")
        messages = await read(reader, 3)
        await reader.reject(messages[1:2])
        await reader.ack([messages[0], messages[2]])
        letters = await user.dead_letters(topic.name, "one")
        dead = await read(letters, 1)
        assert bodies(dead) == BODIES[1:2]
        await letters.ack(dead)
        assert bodies(await read(await user.reader(topic.name, "two", 10, "before"), 3)) == BODIES[:3]

    tell(broker, story)


def test_poison_is_delivered_max_deliveries_times(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        reader = await user.reader(topic.name, "one", 10, "after")
        await publisher.publish([b"poison"])
        for delivery in (1, 2, 3):
            (message,) = await read(reader, 1)
            assert message.deliveries == delivery
            await reader.reject([message], requeue=True)
        # A reader that polls moves it when it next asks.
        asking = asyncio.ensure_future(reader.receive())
        assert bodies(await read(await user.dead_letters(topic.name, "one"), 1)) == [b"poison"]
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    tell(broker, story, max_deliveries=3)


def test_declaring_again_keeps_what_is_there(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await publisher.publish(BODIES[:2])
        await user.declare(topic)
        assert bodies(await read(await user.reader(topic.name, "one", 10, "before"), 2)) == BODIES[:2]

    tell(broker, story)


def test_publishes_that_wait_at_once_are_all_confirmed(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        await asyncio.gather(*(publisher.publish(BODIES[at : at + 5]) for at in range(0, 50, 5)))
        messages = await read(await user.reader(topic.name, "two", 100, "before"), 50)
        assert sorted(bodies(messages)) == sorted(BODIES)

    tell(broker, story)


def test_a_topic_that_was_not_declared_is_a_typed_error(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        with pytest.raises(UnknownTopicError, match="nowhere"):
            await user.publisher("nowhere")
        with pytest.raises(UnknownTopicError, match="declare it first"):
            await user.reader("nowhere", "one", 10, "after")
        with pytest.raises(UnknownTopicError, match="declare it first"):
            await user.reader(topic.name, "nobody", 10, "after")

    tell(broker, story)


def test_a_broker_that_is_down_is_a_typed_error(broker: RunningBroker, unused_tcp_port: int) -> None:
    kind = brokers.choose(broker.name)

    async def run() -> None:
        with pytest.raises(BrokerDownError, match=str(unused_tcp_port)):
            await brokers.connect(kind)(f"{kind.schemes[0]}://127.0.0.1:{unused_tcp_port}")

    asyncio.run(run())


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_refused_login_is_a_typed_error_without_the_password(broker: RunningBroker) -> None:

    async def run() -> None:
        address = broker.address.replace("guest:guest", "guest:wrong-word")
        with pytest.raises(LoginRefusedError) as caught:
            await brokers.connect(brokers.choose(broker.name))(address)
        assert "wrong-word" not in str(caught.value)

    asyncio.run(run())


SLOW_START = {"rabbitmq": pytest.mark.long}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW_START.get(name, ())) for name in brokers.BROKERS])
def test_a_broker_that_ends_is_a_typed_error_with_a_count(name: str) -> None:
    kind = brokers.choose(name)
    if not kind.can_start():
        pytest.skip(f"{kind.name} is not installed")

    async def run(broker: RunningBroker) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            user = await connect(broker)
            await user.declare(Topic("t", ("one",)))
            publisher = await user.publisher("t")
            reader = await user.reader("t", "one", 10, "after")
            ending.close()  # in the middle of everything
            with pytest.raises(BrokerError) as caught:
                await publisher.publish(BODIES[:3])
            assert caught.value.unconfirmed == 3
            with pytest.raises(BrokerError):
                await reader.receive()

    with contextlib.ExitStack() as ending:
        asyncio.run(run(ending.enter_context(brokers.running(name))))


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_channel_that_the_broker_closes_is_a_typed_error_with_a_count(broker: RunningBroker) -> None:
    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        connection = await aio_pika.connect(broker.address)
        await (await connection.channel()).exchange_delete(topic.name)
        await connection.close()
        with pytest.raises(BrokerLostError, match="closed the channel") as caught:
            await publisher.publish(BODIES[:3])
        assert caught.value.unconfirmed == 3
        other = await connect(broker)
        with pytest.raises(UnknownTopicError):
            await other.publisher(topic.name)
        await other.close()

    tell(broker, story)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_stream_that_was_deleted_is_a_typed_error_with_a_count(broker: RunningBroker) -> None:

    async def story(user: Broker, topic: Topic) -> None:
        publisher = await user.publisher(topic.name)
        async with redis.from_url(broker.address) as client:
            await client.delete(topic.name)
        with pytest.raises(UnknownTopicError) as caught:
            await publisher.publish(BODIES[:3])
        assert caught.value.unconfirmed == 3

    tell(broker, story)
