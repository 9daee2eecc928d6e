"""Publish-subscribe through a broker: one publisher, many readers, and how long each message takes to each of them.

A message says itself when it was due and when it was sent, as an event of `bench.load.push` does, and which one it
is. What the broker has confirmed and a reader never got is lost; what a reader got twice is a duplicate.
"""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from bench import brokers
from bench.contract import MIN_EVENT_BYTES, pattern
from bench.load.histogram import Histogram, summarise
from bench.load.pacing import make_timer
from bench.schedule import Closed, Load, due_times
from bench.wire.brokers import AckWhen, Broker, BrokerError, Publisher, Reader, Topic

MAX_UNCONFIRMED = 10_000
"""Messages that the broker may owe a confirmation for; those of an open load that are due past it are dropped."""

_HEADER = b"%019d %019d %010d "
_DUE, _SENT, _NUMBER = slice(0, 19), slice(20, 39), slice(40, 50)
_DIGEST_AT = 65_536
_RETRY_S = 0.05
"""How long after an error a connection is tried again."""

Story = Callable[[Broker], Awaitable[None]]
"""What is done on one connection to the broker."""

_clock = time.monotonic_ns


@dataclass(frozen=True)
class PubSubSettings:
    """What is measured. A closed load of `AxB` keeps A publishes waiting, of B messages each."""

    broker: str
    """One of `bench.brokers.BROKERS`."""
    address: str
    topic: str
    """One that was not used before: what is left in it would be counted."""
    load: Load
    readers: int
    prefetch: int
    ack: AckWhen
    payload_bytes: int
    """At least MIN_EVENT_BYTES."""
    warmup_ns: int
    duration_ns: int
    drain_ns: int
    """How long after the last publish messages may still come."""
    seed: int = 0


class Durations:
    """Nanoseconds, gathered one at a time and counted many at a time."""

    def __init__(self) -> None:
        self._values = array("q")
        self._histogram = Histogram()

    def add(self, value_ns: int) -> None:
        self._values.append(value_ns)
        if len(self._values) >= _DIGEST_AT:
            self._digest()

    def summary(self) -> dict[str, Any] | None:
        """As result files hold it; None if there is nothing."""
        self._digest()
        return summarise(self._histogram.to_hdr())

    def _digest(self) -> None:
        self._histogram.record(np.array(self._values, np.int64))
        del self._values[:]


class PubSub:
    """One run. Errors of the broker are counted, and what they ended is opened again."""

    def __init__(self, settings: PubSubSettings) -> None:
        self._settings = settings
        self._connect = brokers.connect(brokers.choose(settings.broker))
        half = pattern((settings.payload_bytes - MIN_EVENT_BYTES + 1) // 2).hex().encode("ascii")
        self._filling = half[: settings.payload_bytes - MIN_EVENT_BYTES]
        self._number = 0
        self._measured = bytearray(1)
        """For each message whether it was due in the measured window."""
        self._confirmed = bytearray(1)
        self._seen = [bytearray(1) for _ in range(settings.readers)]
        self._unconfirmed = 0
        self._errors: Counter[str] = Counter()
        self._dropped = self._duplicates = self._redelivered = self._wrong = 0
        self._confirmed_in_window = self._delivered_in_window = 0
        self._delay, self._service = Durations(), Durations()
        self._confirming, self._lateness = Durations(), Durations()
        self._start_ns = self._measure_ns = self._end_ns = 1 << 62
        self._stopping = False

    async def run(self) -> dict[str, Any]:
        """All of it. Raises BrokerError if the broker is not usable to begin with."""
        settings = self._settings
        names = tuple(f"reader{index}" for index in range(settings.readers))
        user = await self._connect(settings.address)
        await user.declare(Topic(settings.topic, names))
        await user.close()
        ready: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in names]
        tasks = [
            asyncio.create_task(self._keep(self._reading(index, name, ready[index]), ready[index]))
            for index, name in enumerate(names)
        ]
        try:
            await asyncio.gather(*ready)
            self._start_ns = _clock()
            self._measure_ns = self._start_ns + settings.warmup_ns
            self._end_ns = self._measure_ns + settings.duration_ns
            publishing = asyncio.create_task(self._keep(self._publishing()))
            tasks.append(publishing)
            await publishing
            give_up_ns = _clock() + settings.drain_ns
            while self._lost() and _clock() < give_up_ns:
                await asyncio.sleep(0.01)
        finally:
            self._stopping = True
            await _end(tasks)
        return self._result()

    def _result(self) -> dict[str, Any]:
        seconds = self._settings.duration_ns / 1e9
        return {
            "broker": self._settings.broker,
            "readers": self._settings.readers,
            "published": sum(self._measured),
            "confirmed": self._count(self._confirmed),
            "unconfirmed": self._unconfirmed,
            "dropped": self._dropped,
            "delivered": sum(map(self._count, self._seen)),
            "redelivered": self._redelivered,
            "duplicates": self._duplicates,
            "wrong": self._wrong,
            "lost": self._lost(),
            "errors": dict(self._errors),
            "confirmed_per_s": self._confirmed_in_window / seconds,
            "delivered_per_s": self._delivered_in_window / seconds,
            "delay_ns": self._delay.summary(),
            "service_ns": self._service.summary(),
            "confirm_ns": self._confirming.summary(),
            "lateness_ns": self._lateness.summary(),
        }

    def _count(self, flags: bytearray) -> int:
        """How many measured messages are marked."""
        return _both(flags, self._measured)

    def _lost(self) -> int:
        """Confirmed messages that a reader has not got: of the whole run, since each of them counts."""
        confirmed = sum(self._confirmed)
        return sum(confirmed - _both(seen, self._confirmed) for seen in self._seen)

    async def _keep(self, story: Story, ready: asyncio.Future[None] | None = None) -> None:
        """Tell a story on a connection of its own; after an error, go on with it on another, while the load runs.
        What is to be `ready` before the load is not tried twice."""
        while True:
            try:
                user = await self._connect(self._settings.address)
                try:
                    await story(user)
                finally:
                    await user.close()
            except BrokerError as error:
                if ready is not None and not ready.done():
                    ready.set_exception(error)
                    return
                self._errors[type(error).__name__] += 1
                if self._stopping or (ready is None and _clock() >= self._end_ns):
                    return
                await asyncio.sleep(_RETRY_S)
            else:
                return

    # Readers

    def _reading(self, index: int, name: str, ready: asyncio.Future[None]) -> Story:
        settings = self._settings

        async def read(user: Broker) -> None:
            reader: Reader = await user.reader(settings.topic, name, settings.prefetch, settings.ack)
            if not ready.done():
                ready.set_result(None)
            while True:
                messages = await reader.receive()
                now = _clock()
                for message in messages:
                    self._redelivered += message.deliveries > 1
                    self._deliver(index, message.body, now)
                if settings.ack == "after":
                    await reader.ack(messages)

        return read

    def _deliver(self, index: int, body: bytes, now: int) -> None:
        if body[MIN_EVENT_BYTES:] != self._filling:
            self._wrong += 1
            return
        number = int(body[_NUMBER])
        seen = self._seen[index]
        if seen[number]:
            self._duplicates += 1
            return
        seen[number] = 1
        self._delivered_in_window += self._measure_ns <= now < self._end_ns
        if self._measured[number]:
            self._delay.add(now - int(body[_DUE]))
            self._service.add(now - int(body[_SENT]))

    # The publisher

    def _publishing(self) -> Story:
        settings = self._settings
        load = settings.load
        due = iter(()) if isinstance(load, Closed) else self._due_times()

        async def publish(user: Broker) -> None:
            publisher = await user.publisher(settings.topic)
            async with asyncio.TaskGroup() as group:
                if isinstance(load, Closed):
                    for _ in range(load.concurrency.connections):
                        group.create_task(self._publish_closed(publisher, load.concurrency.in_flight))
                else:
                    await self._publish_open(publisher, due, group)

        async def publish_all(user: Broker) -> None:
            try:
                await publish(user)
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

        return publish_all

    def _due_times(self) -> Iterator[int]:
        settings = self._settings
        assert not isinstance(settings.load, Closed)
        chunks = due_times(settings.load, settings.warmup_ns, settings.duration_ns, settings.seed)
        return (self._start_ns + due for due in chain.from_iterable(chunk.tolist() for chunk in chunks))

    async def _publish_closed(self, publisher: Publisher, count: int) -> None:
        while (now := _clock()) < self._end_ns:
            await self._publish(publisher, [now] * count)

    async def _publish_open(self, publisher: Publisher, due: Iterator[int], group: asyncio.TaskGroup) -> None:
        woken = asyncio.Event()
        timer = make_timer(asyncio.get_running_loop(), woken.set)
        waiting = 0

        async def send(dues: list[int]) -> None:
            nonlocal waiting
            waiting += len(dues)
            try:
                await self._publish(publisher, dues)
            finally:
                waiting -= len(dues)

        try:
            upcoming = next(due, None)
            while upcoming is not None:
                woken.clear()
                timer.arm(upcoming)
                await woken.wait()
                now = _clock()
                dues: list[int] = []
                while upcoming is not None and upcoming <= now:
                    if upcoming >= self._measure_ns:
                        self._lateness.add(now - upcoming)
                    if waiting + len(dues) < MAX_UNCONFIRMED:
                        dues.append(upcoming)
                    else:
                        self._dropped += upcoming >= self._measure_ns
                    upcoming = next(due, None)
                if dues:
                    group.create_task(send(dues))
        finally:
            timer.close()

    async def _publish(self, publisher: Publisher, dues: list[int]) -> None:
        """Publish one message for each due time, and keep what became of them."""
        now = _clock()
        first = self._number + 1
        self._number += len(dues)
        self._measured += bytes([self._measure_ns <= due < self._end_ns for due in dues])
        for flags in (self._confirmed, *self._seen):
            flags.extend(bytes(len(dues)))
        try:
            await publisher.publish(
                [_HEADER % (due, now, number) + self._filling for number, due in enumerate(dues, first)]
            )
        except BrokerError as error:
            self._unconfirmed += error.unconfirmed
            raise
        done = _clock()
        self._confirmed[first : first + len(dues)] = b"\1" * len(dues)
        self._confirming.add(done - now)
        if self._measure_ns <= done < self._end_ns:
            self._confirmed_in_window += len(dues)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: redis may lose a cancellation that comes just when it has an answer."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_RETRY_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def _both(some: bytearray, others: bytearray) -> int:
    """At how many places both have a 1."""
    return int(np.count_nonzero(np.frombuffer(some, np.uint8) & np.frombuffer(others, np.uint8)))


async def run_pubsub(settings: PubSubSettings) -> dict[str, Any]:
    """One measurement: counts (of messages due in the measured window, except `lost`, `duplicates` and `redelivered`,
    which are of the whole run), rates a second, and histograms of nanoseconds: `delay_ns` from when a message was due
    to its delivery, `service_ns` from when it was sent, `confirm_ns` of each publish, `lateness_ns` of an open load's
    sends. Raises BrokerError."""
    return await PubSub(settings).run()
