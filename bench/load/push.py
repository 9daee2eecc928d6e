"""Push: one publisher, many subscribers, and how long each event takes from when it was due to each of them.

An event says itself when it was due and when it was sent (all processes of a machine share CLOCK_MONOTONIC), so any
load process can tell its delay. It is ASCII text, so that every protocol carries it unchanged.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

from bench import registry
from bench.contract import MIN_EVENT_BYTES, pattern
from bench.errors import ProtocolError, TargetError
from bench.load.engine import CONNECTS_AT_ONCE, OpenEngine
from bench.load.link import Line
from bench.load.spec import LoadSpec
from bench.protocols import PROTOCOLS
from bench.schedule import Open, due_times

_HEADER = b"%019d %019d %010d "
_DUE, _SENT, _NUMBER = slice(0, 19), slice(20, 39), slice(40, 50)

MAX_UNACKNOWLEDGED = 10_000
"""Events that the server may owe an acknowledgement for; those due past it are dropped, and counted."""

_QUIET_NS = 200_000_000
"""When nothing has been delivered for so long after the last event, nothing more is waited for."""

_clock = time.monotonic_ns


class Subscriber(Protocol):
    """One subscription on a connection of its own: sans-IO like `bench.load.client.Client`, or a session."""

    transport_kind: ClassVar[Literal["stream", "session"]]
    alpn: ClassVar[tuple[str, ...]]
    max_in_flight: int
    """0 until it is subscribed."""
    outgoing: list[bytes]

    def __init__(self, topic: str, authority: str, scheme: str) -> None: ...

    def open(self) -> None:
        """The connection is up."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take bytes of the stream. Gives the data of the events that they complete. Raises ProtocolError."""

    def feed_eof(self) -> Sequence[bytes]:
        """The server closed its side."""


class Publisher(Protocol):
    """What publishes events to a topic, on a connection of its own."""

    transport_kind: ClassVar[Literal["stream", "session"]]
    alpn: ClassVar[tuple[str, ...]]
    max_in_flight: int
    outgoing: list[bytes]

    def __init__(self, topic: str, authority: str, scheme: str) -> None: ...

    def open(self) -> None:
        """The connection is up."""

    def publish(self, data: bytes) -> list[bytes]:
        """What to send for one event."""

    def feed(self, data: bytes) -> int:
        """Take bytes of the stream. Gives how many events they acknowledge. Raises ProtocolError for a refusal."""

    def feed_eof(self) -> int:
        """The server closed its side."""


def _filling(payload_bytes: int) -> bytes:
    """The rest of each event: text without line ends."""
    return pattern((payload_bytes - MIN_EVENT_BYTES + 1) // 2).hex().encode("ascii")[: payload_bytes - MIN_EVENT_BYTES]


class PushEngine(OpenEngine):
    """Subscribers, and in the first load process the publisher."""

    def __init__(
        self,
        make_publisher: Callable[[], Publisher] | None,
        payload_bytes: int,
        **target: Any,
    ) -> None:
        """`make_client` of the target makes subscribers. Without a publisher, the due times are another process's.
        `payload_bytes` is at least MIN_EVENT_BYTES."""
        super().__init__(queue_limit=0, **target)
        self.filling = _filling(payload_bytes)
        self.duplicates = 0
        self.published = 0
        """Events that were due in the measured window and were sent."""
        self.last_delivery_ns = 0
        self._make_publisher = make_publisher
        self._publisher: PublisherLine | None = None
        self._number = 0

    async def connect(self) -> None:
        """Subscribe with every connection, then see that an event can be published. Raises TargetError."""
        remaining = self._concurrency.connections
        while remaining:
            batch = min(remaining, CONNECTS_AT_ONCE)
            await asyncio.gather(*(self._open() for _ in range(batch)))
            remaining -= batch
        if self._make_publisher is not None:
            self._publisher = await self._open_publisher()
            await self._check_publisher(self._publisher)

    def delivery(self) -> dict[str, Any]:
        """What only this pattern counts: `published` (None where the publisher is another process), `duplicates`."""
        return {
            "subscribers": self._concurrency.connections,
            "published": self.published if self._make_publisher is not None else None,
            "duplicates": self.duplicates,
        }

    def ready(self, link: Any, count: int, now_ns: int) -> None:
        """A subscriber that lost its connection is back."""

    def lost_publisher(self) -> None:
        """The publisher's connection has ended. While the load runs, another takes its place."""
        if self._running and _clock() < self.end_ns:
            task = self._loop.create_task(self._reopen_publisher())
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)

    # OpenEngine

    def _make_link(self) -> Any:
        subscriber: Any = self._make_client()
        return SubscriberLine(self, subscriber)

    def _take(self, due: int, now: int) -> None:
        measured = due >= self._measure_ns
        if measured:
            self.recorder.lateness.append(now - due)
        publisher = self._publisher
        if publisher is None or not publisher.opened or publisher.unacknowledged >= MAX_UNACKNOWLEDGED:
            self.recorder.drop(due)
            return
        self._number += 1
        self.published += measured
        publisher.publish(_HEADER % (due, now, self._number) + self.filling)

    def _is_quiet(self) -> bool:
        return self._idle() and _clock() - max(self.last_delivery_ns, self.end_ns) > _QUIET_NS

    def _finish(self) -> None:
        super()._finish()
        if self._publisher is not None:
            self._publisher.close()

    # The publisher

    async def _open_publisher(self) -> "PublisherLine":
        assert self._make_publisher is not None
        publisher = PublisherLine(self, self._make_publisher())
        await self._connect(publisher)
        return publisher

    async def _reopen_publisher(self) -> None:
        while self._running:
            try:
                self._publisher = await self._open_publisher()
            except TargetError:
                await asyncio.sleep(0.05)
            else:
                return

    async def _check_publisher(self, publisher: "PublisherLine") -> None:
        """One event before any load."""
        now = _clock()
        publisher.publish(_HEADER % (now, now, 0) + self.filling)
        give_up_ns = now + self._timeout_ns
        while publisher.opened and publisher.unacknowledged and _clock() < give_up_ns:
            await asyncio.sleep(0.001)
        if not publisher.opened or publisher.unacknowledged:
            host, port = self._address
            reason = publisher.reason or "took an event and did not acknowledge it"
            raise TargetError(f"{host} port {port} {reason}")


class SubscriberLine(Line):
    """One subscriber."""

    def __init__(self, engine: PushEngine, subscriber: Subscriber) -> None:
        super().__init__(subscriber, 1)
        self.sent: dict[Hashable, int] = {}
        """No exchange is ever in flight."""
        self._engine = engine
        self._last_number = 0
        self._missing: set[int] = set()
        self._filling = engine.filling
        self._feed = subscriber.feed
        recorder = engine.recorder
        self._record_intended = recorder.intended.append
        self._record_sent = recorder.sent.append
        self._record_done = recorder.done.append

    def data_received(self, data: bytes) -> None:
        now = _clock()
        try:
            events = self._feed(data)
        except ProtocolError as error:
            self._failed("protocol", now)
            if not self._usable.done():
                self._usable.set_exception(error)
            self._abort()
            return
        if events:
            self._deliver(events, now)
        if self.client.outgoing or not self.limit:
            self._send_outgoing()

    def eof_received(self) -> bool:
        events = self.client.feed_eof()
        if events:
            self._deliver(events, _clock())
        return False

    def answered(self, events: Sequence[bytes]) -> None:
        """What a session calls with the data of the events that have arrived."""
        self._deliver(events, _clock())

    def ended(self) -> None:
        self._failed("closed", _clock())
        self._engine.lost(self)

    def expire(self, before_ns: int, now_ns: int) -> None:
        """Nothing is waited for."""

    def _deliver(self, events: Sequence[bytes], now: int) -> None:
        engine = self._engine
        for event in events:
            if event[MIN_EVENT_BYTES:] != self._filling:
                self._failed("content", now)
                continue
            number = int(event[_NUMBER])
            if number > self._last_number:
                if number > self._last_number + 1:
                    self._missing.update(range(self._last_number + 1, number))
                self._last_number = number
            elif number in self._missing:
                self._missing.remove(number)  # it was overtaken
            else:
                engine.duplicates += number != 0  # 0 is the check before the load
                continue
            self._record_intended(int(event[_DUE]))
            self._record_sent(int(event[_SENT]))
            self._record_done(now)
        engine.last_delivery_ns = now

    def _failed(self, kind: str, now: int) -> None:
        self._engine.recorder.error(kind, now, now)


class PublisherLine(Line):
    """The publisher's connection."""

    def __init__(self, engine: PushEngine, publisher: Publisher) -> None:
        super().__init__(publisher, 1)
        self.unacknowledged = 0
        self.reason = ""
        """Why the server refused, if it did."""
        self._engine = engine

    def publish(self, data: bytes) -> None:
        """Send one event."""
        self.unacknowledged += 1
        pieces = self.client.publish(data)
        if pieces:
            self._write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        try:
            self.unacknowledged -= self.client.feed(data)
        except ProtocolError as error:
            now = _clock()
            self.reason = f"refused an event: {error}"
            self._engine.recorder.error("status", now, now)
            if not self._usable.done():
                self._usable.set_exception(error)
            self._abort()
            return
        if self.client.outgoing or not self.limit:
            self._send_outgoing()

    def eof_received(self) -> bool:
        self.unacknowledged -= self.client.feed_eof()
        return False

    def answered(self, acknowledged: Sequence[Hashable]) -> None:
        """What a session calls when events are acknowledged."""
        self.unacknowledged -= len(acknowledged)

    def ended(self) -> None:
        self._engine.lost_publisher()


def make_engine(spec: LoadSpec, load: Open, target: dict[str, Any]) -> PushEngine:
    """The engine of a load process; `target` is what every engine is given."""
    subscriber = partial(registry.load(spec.client), spec.topic, spec.called, spec.scheme)
    return PushEngine(make_client=subscriber, **target, **publishing(spec, load))


def publishing(spec: LoadSpec, load: Open) -> dict[str, Any]:
    """What a PushEngine needs beside its target and its subscribers. The first process publishes all events."""
    is_first = spec.process == 0
    reference = PROTOCOLS[spec.protocol].publisher
    assert reference is not None
    publisher = registry.load(reference)
    return {
        "make_publisher": partial(publisher, spec.topic, spec.called, spec.scheme) if is_first else None,
        "payload_bytes": spec.request.payload_bytes,
        "due_times": due_times(load, spec.warmup_ns, spec.duration_ns, spec.seed, (0, 1)) if is_first else iter(()),
    }
