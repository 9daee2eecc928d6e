"""Conversations as the exchanges of a load (see `bench.conversation`).

So many may be held at once, each in a place of its own, with a connection that the next one in that place goes on with.
Latency counts from when a conversation was due until it is over.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from bench import registry
from bench.contract import Exchange
from bench.conversation import Conversation, Means, Reply
from bench.errors import CallError, TargetError
from bench.load.calls import CallLine
from bench.load.engine import RETRY_S, closed_or_open
from bench.load.events import Events
from bench.load.link import Line
from bench.load.slots import ClosedSlots, OpenSlots, SlotEngine
from bench.load.spec import LoadSpec
from bench.patterns import parse_pattern
from bench.protocols import PROTOCOLS
from bench.schedule import Load

_clock = time.monotonic_ns


class Place:
    """Where conversations are held one after the other: what they are given (`bench.conversation.Means`)."""

    def __init__(self, engine: "_ConversingEngine", number: int) -> None:
        self.payload_bytes = engine.payload_bytes
        self.random = random.Random(f"{engine.seed}/{number}")
        self.topic = engine.topic
        self.http_version = engine.http_version
        self.tallied: Counter[str] = Counter()
        """What the conversation that is held now has counted."""
        self._engine = engine
        self._line: CallLine | None = None

    async def call(self, exchange: Exchange, timeout_s: float | None = None) -> Reply:
        line = await self._connected()
        self.tally("calls")
        return await line.call(exchange, self._engine.timeout_s if timeout_s is None else timeout_s)

    async def cut_call(self, exchange: Exchange, share: float) -> int:
        line = await self._connected()
        self.tally("calls")
        sent = line.begin(exchange, share)
        self.close()  # and not cut off at once: what was written still arrives
        return sent

    def leave(self) -> None:
        if self._line is not None:
            self._line.abort()
            self._line = None

    async def open(self) -> CallLine:
        return await self._engine.open_calls()

    async def events(self, topic: str, after_id: int) -> AsyncIterator[bytes]:
        events = await self._engine.open_events(topic, after_id)
        try:
            async for data in events:
                yield data
        finally:
            events.abort()

    def url(self, path: str) -> str:
        return self._engine.url(path)

    def tally(self, name: str, count: int = 1) -> None:
        self.tallied[name] += count

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _connected(self) -> CallLine:
        if self._line is None or not self._line.opened:
            self._line = await self._engine.open_calls()
        return self._line


class _ConversingEngine(SlotEngine):
    """What closed and open loads have in common."""

    def __init__(self, spec: LoadSpec, **options: Any) -> None:
        super().__init__(**options)
        self.payload_bytes = spec.request.payload_bytes
        self.seed = f"{spec.seed}/{spec.process}"
        self.topic = spec.topic
        self.timeout_s = spec.timeout_ns / 1e9
        self.http_version = PROTOCOLS[spec.protocol].http_version
        self._subscriber = PROTOCOLS[spec.protocol].subscriber
        self._spec = spec
        pattern, words = parse_pattern(spec.pattern, "pattern")
        make: Callable[[Means, Mapping[str, Any]], Conversation] = registry.load(pattern.conversation)
        self._measured = (0, 0)
        self._places = [Place(self, number) for number in range(self._concurrency.connections)]
        self._lines: WeakSet[Line] = WeakSet()
        """Every connection that was opened; what closed since is closed again in vain."""
        self._idle_places = deque((place, make(place, words)) for place in self._places)

    # What places use

    async def open_calls(self) -> CallLine:
        """Another connection for calls. Raises CallError."""
        caller: Any = self._make_client()
        line = CallLine(caller)
        await self._open_for_conversation(line)
        return line

    async def open_events(self, topic: str, after_id: int) -> Events:
        """A subscription. Raises CallError."""
        if self._subscriber is None:
            raise CallError("refused", f"{self._spec.protocol} pushes no events")
        spec = self._spec
        events = Events(registry.load(self._subscriber)(f"{topic}?after={after_id}", spec.called, spec.scheme))
        await self._open_for_conversation(events)
        return events

    def url(self, path: str) -> str:
        """The URL of a path of the server."""
        return f"{self._spec.scheme}://{self._spec.called}{path}"

    async def _open_for_conversation(self, line: Line) -> None:
        try:
            await self._connect(line)
        except TargetError as error:
            raise CallError("refused", str(error)) from None
        self._lines.add(line)

    # Engine

    async def connect(self) -> None:
        """Hold one conversation before any load. Raises TargetError."""
        place, conversation = self._idle_places[0]
        host, port = self._address
        try:
            await conversation.converse()
        except CallError as error:
            raise TargetError(f"{host} port {port}: the first conversation failed: {error}") from None
        place.tallied.clear()

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        self._measured = (measure_ns, end_ns)
        await super().run(start_ns, measure_ns, end_ns, intervals)
        with contextlib.suppress(CallError):  # what cannot be asked any more is not tallied
            self.tally.update(await self._idle_places[0][1].finish())
        for place in self._places:
            place.close()

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def ready(self, link: Any, count: int, now_ns: int) -> None:
        """Nobody fills connections here."""

    async def _exchange(self, intended_ns: int, begun_ns: int) -> None:
        place, conversation = self._idle_places.popleft()
        try:
            await conversation.converse()
        except CallError as error:
            self.recorder.error(error.kind, intended_ns, _clock())
            place.leave()
            await asyncio.sleep(RETRY_S[min(self._failed_connects, len(RETRY_S) - 1)])
            self._failed_connects += error.kind == "refused"
        else:
            self._failed_connects = 0
            recorder = self.recorder
            if not self.is_closed:
                recorder.intended.append(intended_ns)
            recorder.sent.append(begun_ns)
            recorder.done.append(_clock())
        finally:
            if self._measured[0] <= intended_ns < self._measured[1]:
                self.tally.update(place.tallied)
            place.tallied.clear()
            self._idle_places.append((place, conversation))
        self._slot_freed(_clock())


class _ClosedConversing(_ConversingEngine, ClosedSlots):
    """The next conversation begins when one is over."""


class _OpenConversing(_ConversingEngine, OpenSlots):
    """Conversations begin when they are due."""


def why_uncuttable(scenario: Any, words: Mapping[str, Any]) -> str | None:
    """Why no request of a scenario can be cut; None if one can, or none is to be."""
    caller = PROTOCOLS[scenario.protocol].caller
    if not words["cut"] or caller is None:
        return None
    make = registry.load(caller)
    if make.transport_kind == "session" and not hasattr(make, "begin"):
        return f"{scenario.protocol} hands messages over whole, and cannot cut one: write cut=0%"
    return None


def why_not_urgent(_scenario: Any, words: Mapping[str, Any]) -> str | None:
    """Why the objects of a page cannot be urgent as these words say; None if they can, or none is to be."""
    if words["urgent"] > words["objects"]:
        return f"a page of {words['objects']} objects has no {words['urgent']} that are urgent"
    if words["told"] == "yes" and not words["urgent"]:
        return "no object is urgent, so there is nothing to tell the server: write urgent=4, or told=no"
    return None


def make_engine(spec: LoadSpec, load: Load, target: dict[str, Any]) -> SlotEngine:
    """The engine of a load process; `target` is what every engine is given."""
    target = {**target, "spec": spec, "make_client": partial(registry.load(spec.client), spec.called, spec.scheme)}
    return closed_or_open(_ClosedConversing, _OpenConversing, spec, load, target)
