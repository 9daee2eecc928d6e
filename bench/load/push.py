"""Push: one publisher, many subscribers, and how long each event takes from when it was due to each of them.

An event says itself when it was due and when it was sent (all processes of a machine share CLOCK_MONOTONIC, and those
of several go by one that they know their distance from), so any load process can tell its delay. It is ASCII text, so
that every protocol carries it unchanged.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

from bench import registry
from bench.contract import MIN_EVENT_BYTES, pattern
from bench.errors import ProtocolError, TargetError
from bench.load.engine import CONNECTS_AT_ONCE, OpenEngine
from bench.load.link import FedLine
from bench.load.spec import LoadSpec
from bench.patterns import parse_pattern
from bench.protocols import PROTOCOLS
from bench.schedule import Open, due_times

_HEADER = b"%019d %019d %010d "
_DUE, _SENT, _NUMBER = slice(0, 19), slice(20, 39), slice(40, 50)

MAX_UNACKNOWLEDGED = 10_000
"""Events that the server may owe an acknowledgement for; those due past it are dropped, and counted."""

_QUIET_NS = 200_000_000
"""When nothing has been delivered for so long after the last event, nothing more is waited for."""

_CUTS_SHARE = 0.1
"""The share of the measured window over which the connections of subscribers are cut, one after the other."""

_SLOW_BUFFER_BYTES = 256 * 1024
"""Of a subscriber that does not read: or else the kernel would read for it, some megabytes. Several segments of
loopback, which are of 64 KiB, fit into it."""

_clock = time.monotonic_ns


class Subscriber(Protocol):
    """One subscription on a connection of its own: sans-IO like `bench.load.client.Client`, or a session."""

    transport_kind: ClassVar[Literal["stream", "session"]]
    alpn: ClassVar[tuple[str, ...]]
    max_in_flight: int
    """0 until it is subscribed."""
    outgoing: list[bytes]

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        """`topic` may be followed by "?after=5": the events after that one, and not from now on."""

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
        clock_offset_ns: int,
        cut: float = 0.0,
        slow: int = 0,
        **target: Any,
    ) -> None:
        """`make_client` of the target makes subscribers, given what is to follow the topic's name. Without a publisher,
        the due times are another process's. `payload_bytes` is at least MIN_EVENT_BYTES. With `cut`, the connection of
        each subscriber is cut after that share of the measured window; so many as `slow` never read."""
        super().__init__(queue_limit=0, **target)
        self._cut = cut
        self._slow = slow
        self._gone: deque[SubscriberLine] = deque()
        """Lines that have ended, for those that take their place to go on from."""
        self.filling = _filling(payload_bytes)
        self.duplicates = 0
        self.published = 0
        """Events that were due in the measured window and were sent."""
        self.last_delivery_ns = 0
        self.last_read: tuple[bytes, int, int, int] = (b"", 0, 0, 0)
        """The event that was read last, which was as it should be: with its number, when it was due, and sent."""
        self._make_publisher = make_publisher
        self._publisher: PublisherLine | None = None
        self._number = 0
        self.clock_offset_ns = clock_offset_ns
        """From this machine's clock to the one that events carry."""

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
            "subscribers": self._concurrency.connections - self._slow,
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

    def lost(self, link: Any) -> None:
        if link in self._links and link.reads:
            self._gone.append(link)
        super().lost(link)

    # OpenEngine

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        """As `Engine.run`; subscribers lose their connections meanwhile, if they are to."""
        for line in self._reading()[: self._slow]:
            line.stop_reading()
        cutting = self._loop.create_task(self._cut_lines(measure_ns, end_ns))
        await super().run(start_ns, measure_ns, end_ns, intervals)
        cutting.cancel()
        self.tally["gaps"] = sum(line.gaps for line in self._reading())

    def _reading(self) -> list[Any]:
        """The lines of subscribers that read."""
        lines: Iterable[Any] = self._links
        return [line for line in lines if line.reads]

    async def _cut_lines(self, measure_ns: int, end_ns: int) -> None:
        if not self._cut:
            return
        lines: list[Any] = self._reading()
        for number, line in enumerate(lines):
            share = self._cut + _CUTS_SHARE * number / len(lines)
            await asyncio.sleep(max(0.0, (measure_ns + share * (end_ns - measure_ns) - _clock()) / 1e9))
            if line.opened:
                self.tally["cuts"] += 1
                line.cut()

    async def _open(self) -> Any:
        before = self._gone.popleft() if self._gone else None
        line: Any = self._make_line(before)
        try:
            await self._connect(line)
        except TargetError:
            if before is not None:
                self._gone.append(before)
            raise
        self._links.add(line)
        return line

    def _make_line(self, before: "SubscriberLine | None") -> "SubscriberLine":
        """A subscriber's connection; one that goes on where another has ended asks for what came after its last event.
        The number of an event is its id less one, since the topic is the trial's own, and one is published first."""
        make: Callable[..., Any] = self._make_client
        line = SubscriberLine(self, make("" if before is None else f"?after={before.last_number + 1}"))
        if before is not None:
            line.go_on_from(before)
        return line

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
        offset = self.clock_offset_ns
        publisher.publish(_HEADER % (due + offset, now + offset, self._number) + self.filling)

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


class SubscriberLine(FedLine):
    """One subscriber."""

    def __init__(self, engine: PushEngine, subscriber: Subscriber) -> None:
        super().__init__(subscriber, 1)
        self.sent: dict[Hashable, int] = {}
        """No exchange is ever in flight."""
        self._engine = engine
        self.reads = True
        """Whether it takes what is sent to it; one that does not is none of those whose deliveries count."""
        self.last_number = 0
        self._missing: set[int] = set()
        self._is_cut = False
        self._filling = engine.filling
        recorder = engine.recorder
        self._record_intended = recorder.intended.append
        self._record_sent = recorder.sent.append
        self._record_done = recorder.done.append

    @property
    def gaps(self) -> int:
        """Events that were passed over, and have not come since."""
        return len(self._missing)

    def go_on_from(self, before: "SubscriberLine") -> None:
        """Take the place of a line that has ended."""
        self.last_number, self._missing = before.last_number, before._missing

    def cut(self) -> None:
        """The connection is lost on purpose, which is no error."""
        self._is_cut = True
        self.abort()

    def stop_reading(self) -> None:
        """Take nothing any more."""
        self.reads = False
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
        self._transport.pause_reading()

    def answered(self, events: Sequence[bytes]) -> None:
        """What a session calls with the data of the events that have arrived."""
        self.arrived_ns = _clock()
        self.take(events)

    def ended(self) -> None:
        if not self._is_cut:
            self._failed("closed", _clock())
        self._engine.lost(self)

    def expire(self, before_ns: int, now_ns: int) -> None:
        """Nothing is waited for."""

    # FedLine

    def take(self, said: Sequence[bytes]) -> None:
        if not (said and self.reads):
            return
        engine, now = self._engine, self.arrived_ns
        for event in said:
            read = engine.last_read
            if event is not read[0]:  # most often it is the one that another subscriber has just been given
                if event[MIN_EVENT_BYTES:] != self._filling:
                    self._failed("content", now)
                    continue
                offset = engine.clock_offset_ns
                read = event, int(event[_NUMBER]), int(event[_DUE]) - offset, int(event[_SENT]) - offset
                engine.last_read = read
            _, number, due, sent = read
            last_number = self.last_number
            if number > last_number:
                if number > last_number + 1:
                    self._missing.update(range(last_number + 1, number))
                self.last_number = number
            elif number in self._missing:
                self._missing.remove(number)  # it was overtaken
            else:
                engine.duplicates += number != 0  # 0 is the check before the load
                continue
            self._record_intended(due)
            self._record_sent(sent)
            self._record_done(now)
        engine.last_delivery_ns = now

    def broken(self, error: ProtocolError) -> None:
        self._failed("protocol", _clock())

    def _failed(self, kind: str, now: int) -> None:
        if self.reads:
            self._engine.recorder.error(kind, now, now)


class PublisherLine(FedLine):
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

    def take(self, said: int) -> None:
        self.unacknowledged -= said

    def broken(self, error: ProtocolError) -> None:
        now = _clock()
        self.reason = f"refused an event: {error}"
        self._engine.recorder.error("status", now, now)

    def answered(self, acknowledged: Sequence[Hashable]) -> None:
        """What a session calls when events are acknowledged."""
        self.unacknowledged -= len(acknowledged)

    def lost(self, error: Exception | None) -> None:
        if self.opened and isinstance(error, ProtocolError):  # how a session tells of a refusal
            self.broken(error)
        super().lost(error)

    def ended(self) -> None:
        self._engine.lost_publisher()


def make_engine(spec: LoadSpec, load: Open, target: dict[str, Any]) -> PushEngine:
    """The engine of a load process; `target` is what every engine is given."""
    _, words = parse_pattern(spec.pattern, "pattern")
    make: Callable[..., Any] = registry.load(spec.client)
    return PushEngine(
        make_client=lambda after="": make(f"{spec.topic}{after}", spec.called, spec.scheme),
        cut=words["cut"],
        slow=words["slow"] if spec.process == 0 else 0,
        **target,
        **publishing(spec, load),
    )


def publishing(spec: LoadSpec, load: Open) -> dict[str, Any]:
    """What a PushEngine needs beside its target and its subscribers. The first process publishes all events."""
    is_first = spec.process == 0
    reference = PROTOCOLS[spec.protocol].publisher
    assert reference is not None
    publisher = registry.load(reference)
    return {
        "make_publisher": partial(publisher, spec.topic, spec.called, spec.scheme) if is_first else None,
        "payload_bytes": spec.request.payload_bytes,
        "clock_offset_ns": spec.clock_offset_ns,
        "due_times": due_times(load, spec.warmup_ns, spec.duration_ns, spec.seed, (0, 1)) if is_first else iter(()),
    }


def why_unsupported(scenario: Any, words: Mapping[str, Any]) -> str | None:
    """Why a scenario makes no sense with these words; None if it does."""
    subscriber = PROTOCOLS[scenario.protocol].subscriber
    if words["slow"] and subscriber and registry.load(subscriber).transport_kind == "session":
        return f"a client of {scenario.protocol} reads by itself, and cannot leave it off: write slow=0"
    if words["slow"] >= scenario.concurrency.connections:
        return (
            f"{words['slow']} subscribers that do not read leave none of {scenario.concurrency.connections} that does"
        )
    return None
