"""Publish-subscribe through a broker: one publisher, many readers, and how long each message takes to each of them.

What the broker has confirmed and a reader never got is lost; what a reader worked on twice is a duplicate.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np

from bench import brokers
from bench.errors import ErrorKind, TargetError
from bench.load.histogram import Histogram
from bench.load.ledger import Ledger
from bench.load.pacing import make_timer
from bench.load.recorder import Recorder
from bench.load.spec import LoadSpec
from bench.patterns import parse_pattern
from bench.schedule import Closed, Load, due_times
from bench.wire.brokers import (
    AckWhen,
    Broker,
    BrokerDownError,
    BrokerError,
    BrokerLostError,
    LoginRefusedError,
    Message,
    Publisher,
    PublishRefusedError,
    Topic,
    without_login,
)

MAX_UNCONFIRMED = 10_000
"""Messages that the broker may owe a confirmation for; those of an open load that are due past it are dropped."""

_CHECK_S = 20.0
"""How long the first message may take, before the load."""
_RETRY_S = 0.05
"""How long after an error a connection is tried again."""
_TICK_S = 0.05
_MANY = 65_535
_REDELIVERY_NS = 7_000_000_000
"""What brokers take to deliver again that do not notice the end of a reader (NATS: five seconds from the delivery)."""
_SILENCE_NS = 1_000_000_000
"""When nothing has come for so long, what was acknowledged before the work does not come any more."""

_KINDS: dict[type[BrokerError], ErrorKind] = {
    BrokerDownError: "refused",
    LoginRefusedError: "refused",
    BrokerLostError: "closed",
    PublishRefusedError: "status",
}

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
    payload_bytes: int
    """At least MIN_EVENT_BYTES."""
    drain_ns: int
    """How long after the last publish messages may still come."""
    seed: int = 0
    readers: int = 1
    prefetch: int = 500
    ack: AckWhen = "after"
    crash: float = 0.0
    """The chance that a reader ends in the middle of its work on a message."""
    away: float = 0.0
    """The share of the measured window, in its middle, in which no reader is there."""
    poison: float = 0.0
    """The share of messages that no reader can work on."""

    @classmethod
    def of(cls, spec: LoadSpec, load: Load, **words: Any) -> Self:
        """Those of a load process, with words of the pattern."""
        return cls(
            address=spec.broker,
            topic=spec.topic,
            load=load,
            payload_bytes=spec.request.payload_bytes,
            drain_ns=spec.timeout_ns + _REDELIVERY_NS,
            seed=spec.seed,
            **words,
        )


class _CrashError(Exception):
    """A reader has ended in the middle of its work."""


class PubSub:
    """An engine (see `bench.load.engine.Runnable`). Errors of the broker are counted, and what they ended is opened
    again."""

    makes_cycles = True

    def __init__(self, settings: PubSubSettings) -> None:
        self._settings = settings
        self._connect = brokers.connect(brokers.choose(settings.broker))
        self._names = tuple(f"reader{index}" for index in range(settings.readers))
        self._random = random.Random(settings.seed)
        self._ledger = Ledger(settings.payload_bytes, settings.readers)
        self.recorder = Recorder(is_open=True)
        self.tally: Counter[str] = Counter()
        self.confirmed_in_window = 0
        """Messages that the broker confirmed in the measured window."""
        self._duplicates = 0
        self._confirm_ns = array("q")
        self._last_delivery_ns = 0
        self._start_ns = self._measure_ns = self._end_ns = 1 << 62
        self._released = asyncio.Event()
        self._dues = iter(()) if isinstance(settings.load, Closed) else self._due_times(settings.load)
        self._last_topic = settings.topic
        self._reading: list[asyncio.Task[None]] = []
        self._publishing: asyncio.Task[None]

    # Runnable

    async def connect(self) -> None:
        """Declare the topic, and see that a message gets through to every reader. Raises TargetError."""
        settings = self._settings
        user = await self._connect(settings.address)
        await self._declare(user)
        await user.close()
        loop = asyncio.get_running_loop()
        usable: list[asyncio.Future[None]] = [loop.create_future() for _ in range(settings.readers + 1)]
        self._read(usable[1:])
        self._publishing = loop.create_task(self._keep(self._publisher(usable[0]), usable[0]))
        try:
            async with asyncio.timeout(_CHECK_S):
                await asyncio.gather(*usable)
        except BaseException as error:
            await end_tasks([*self._reading, self._publishing])
            if isinstance(error, TimeoutError):
                said = f"a first message did not reach every reader within {_CHECK_S:.0f} s"
                raise TargetError(f"{without_login(settings.address)}: {said}") from None
            raise

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        """Publish from `start_ns` to `end_ns`, and wait for what is still to be delivered."""
        self._start_ns, self._measure_ns, self._end_ns = start_ns, measure_ns, end_ns
        self.recorder.set_window(measure_ns, end_ns, intervals)
        self._duplicates = 0
        self._released.set()
        absence = asyncio.create_task(self._absence())
        try:
            while not self._publishing.done():
                await asyncio.wait([self._publishing], timeout=_TICK_S)
                self.recorder.digest_if_due()
            await asyncio.gather(self._publishing, absence)
            give_up_ns = _clock() + self._settings.drain_ns
            while self._ledger.lost and _clock() < give_up_ns and not self._is_hopeless():
                await asyncio.sleep(_TICK_S)
                self.recorder.digest_if_due()
            if self.tally["rejected"] and self._settings.ack == "after":
                await self._count_dead_letters()
        finally:
            await end_tasks([*self._reading, self._publishing, absence])
        self.tally["confirmed"] = self._ledger.confirmed
        self.tally["lost"] = self._ledger.lost

    def stop(self) -> None:
        self._end_ns = min(self._end_ns, _clock())
        self.recorder.stop(self._end_ns)

    def close(self) -> None:
        """Nothing is left open after a run."""

    def delivery(self) -> dict[str, Any]:
        """What became of the messages; `confirm` is the histogram of how long publishes waited for the broker."""
        confirm = Histogram()
        confirm.record(np.array(self._confirm_ns, np.int64))
        return {
            "subscribers": self._settings.readers,
            "published": self._ledger.published,
            "duplicates": self._duplicates,
            "confirm": confirm.encode(),
        }

    def _published(self, body: bytes) -> bytes:
        """What was published as it, from what a reader gets."""
        return body

    def _is_hopeless(self) -> bool:
        return self._settings.ack == "before" and _clock() - self._last_delivery_ns > _SILENCE_NS

    async def _keep(self, story: Story, usable: asyncio.Future[None] | None = None) -> None:
        """Tell a story on a connection of its own, to its end; after an error, go on with it on another. What is to be
        usable before the load is not tried twice."""
        while True:
            try:
                user = await self._connect(self._settings.address)
                try:
                    await story(user)
                finally:
                    await user.close()
                return
            except _CrashError:
                self.tally["crashes"] += 1
            except BrokerError as error:
                if usable is not None and not usable.done():
                    usable.set_exception(error)
                    return
                self.tally["unconfirmed"] += error.unconfirmed
                now = _clock()
                kinds = (kind for of, kind in _KINDS.items() if isinstance(error, of))
                self.recorder.error(next(kinds, "protocol"), now, now)
                await asyncio.sleep(_RETRY_S)

    async def _declare(self, user: Broker) -> None:
        # A crash counts as a delivery of all that the reader held: none of them is to be given up for that.
        limit = {"max_deliveries": _MANY} if self._settings.crash else {}
        await user.declare(Topic(self._settings.topic, self._names, **limit))

    # Readers

    def _read(self, usable: Sequence[asyncio.Future[None] | None]) -> None:
        """Let every reader read; one that is to be usable says so with its first message."""
        self._reading = [
            asyncio.create_task(self._keep(self._reader(index, first), first)) for index, first in enumerate(usable)
        ]

    def _reader(self, index: int, usable: asyncio.Future[None] | None) -> Story:
        settings = self._settings

        async def read(user: Broker) -> None:
            reader = await user.reader(self._last_topic, self._names[index], settings.prefetch, settings.ack)
            try:
                while True:
                    messages = await reader.receive()
                    if usable is not None and not usable.done():
                        usable.set_result(None)
                    rejected = self._work_on(index, messages)
                    if settings.ack == "after":
                        if rejected:
                            await reader.reject(rejected)
                            messages = [message for message in messages if message not in rejected]
                        await reader.ack(messages)
            except asyncio.CancelledError:
                await reader.close()  # it leaves in order, and gives back what it holds
                raise

        return read

    def _work_on(self, index: int, messages: Sequence[Message]) -> list[Message]:
        """Gives those that cannot be worked on. Raises _CrashError."""
        now = self._last_delivery_ns = _clock()
        settings, recorder, ledger = self._settings, self.recorder, self._ledger
        rejected = []
        for message in messages:
            if message.deliveries > 1:
                self.tally["redelivered"] += 1
            written = ledger.read(self._published(message.body))
            crashes = self._measure_ns <= now < self._end_ns and self._random.random() < settings.crash
            if crashes and self._random.random() < 0.5:  # before its work has had any effect
                raise _CrashError
            if written is None:
                recorder.error("content", now, now)
            elif settings.poison and _chance(written.number) < settings.poison:
                self.tally["rejected"] += ledger.see(index, written.number)
                rejected.append(message)
            elif ledger.see(index, written.number):
                recorder.intended.append(written.due_ns)
                recorder.sent.append(written.sent_ns)
                recorder.done.append(now)
            else:
                self._duplicates += 1
            if crashes:
                raise _CrashError
        return rejected

    async def _absence(self) -> None:
        """All readers leave, and come back."""
        if not self._settings.away:
            return
        middle_ns = (self._measure_ns + self._end_ns) // 2
        half_ns = int((self._end_ns - self._measure_ns) * self._settings.away / 2)
        await asyncio.sleep((middle_ns - half_ns - _clock()) / 1e9)
        await end_tasks(self._reading)
        await asyncio.sleep((middle_ns + half_ns - _clock()) / 1e9)
        self._read([None] * len(self._names))

    async def _count_dead_letters(self) -> None:
        """Count the messages that are kept because no reader could work on them."""
        user = await self._connect(self._settings.address)
        try:
            for name in self._names:
                reader = await user.dead_letters(self._settings.topic, name)
                while self.tally["dead_letters"] < self.tally["rejected"]:
                    try:
                        async with asyncio.timeout(_SILENCE_NS / 1e9):
                            letters = await reader.receive()
                    except TimeoutError:
                        break
                    await reader.ack(letters)
                    self.tally["dead_letters"] += len(letters)
                await reader.close()
        finally:
            await user.close()

    # The publisher

    def _publisher(self, usable: asyncio.Future[None]) -> Story:
        load = self._settings.load

        async def publish(user: Broker) -> None:
            publisher = await user.publisher(self._settings.topic)
            if not usable.done():
                await self._publish(publisher, [_clock()])
                usable.set_result(None)
            await self._released.wait()
            try:
                async with asyncio.TaskGroup() as group:
                    if isinstance(load, Closed):
                        for _ in range(load.concurrency.connections):
                            group.create_task(self._publish_closed(publisher, load.concurrency.in_flight))
                    else:
                        await self._publish_open(publisher, group)
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

        return publish

    def _due_times(self, load: Any) -> Iterator[int]:
        """Made when the first is asked for, which is after the start."""
        warmup_ns, duration_ns = self._measure_ns - self._start_ns, self._end_ns - self._measure_ns
        chunks = due_times(load, warmup_ns, duration_ns, self._settings.seed)
        yield from (self._start_ns + due for due in chain.from_iterable(chunk.tolist() for chunk in chunks))

    async def _publish_closed(self, publisher: Publisher, count: int) -> None:
        await asyncio.sleep(max(0, self._start_ns - _clock()) / 1e9)
        while (now := _clock()) < self._end_ns:
            await self._publish(publisher, [now] * count)

    async def _publish_open(self, publisher: Publisher, group: asyncio.TaskGroup) -> None:
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
            upcoming = next(self._dues, None)
            while upcoming is not None:
                woken.clear()
                timer.arm(upcoming)
                await woken.wait()
                now = _clock()
                dues: list[int] = []
                while upcoming is not None and upcoming <= now:
                    if upcoming >= self._measure_ns:
                        self.recorder.lateness.append(now - upcoming)
                    if waiting + len(dues) < MAX_UNCONFIRMED:
                        dues.append(upcoming)
                    else:
                        self.recorder.drop(upcoming)
                    upcoming = next(self._dues, None)
                if dues:
                    group.create_task(send(dues))
        finally:
            timer.close()

    async def _publish(self, publisher: Publisher, dues: list[int]) -> None:
        """Publish one message for each due time, and keep what became of them."""
        now = _clock()
        first, bodies = self._ledger.write(dues, now, (self._measure_ns, self._end_ns))
        await publisher.publish(bodies)
        done = _clock()
        self._ledger.confirm(first, len(dues))
        if self._measure_ns <= done < self._end_ns:
            self._confirm_ns.append(done - now)
            self.confirmed_in_window += len(dues)


def _chance(number: int) -> float:
    """A number from 0 to 1 that looks like chance, and is the same for all readers (Knuth's multiplicative hash)."""
    return (number * 2654435761 % (1 << 32)) / (1 << 32)


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: redis may lose a cancellation that comes just when it has an answer."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_RETRY_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def make_engine(spec: LoadSpec, load: Load, _target: dict[str, Any]) -> PubSub:
    """The engine of a load process."""
    _, words = parse_pattern(spec.pattern, "pattern")
    return PubSub(PubSubSettings.of(spec, load, **words))
