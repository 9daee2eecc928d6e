"""Short and long polling: one publisher, and subscribers that ask for its events.

Events, delays and what is counted of them are those of the pattern push. A short poller asks at even intervals, from a
moment of its own, so that pollers are spread over the interval; a poll that is not answered when the next is due takes
its place. A long poller asks again as soon as it is answered.
"""

import random
import time
from functools import partial
from typing import Any

from bench import registry
from bench.errors import ProtocolError
from bench.load.push import PushEngine, SubscriberLine, publishing
from bench.load.spec import LoadSpec
from bench.patterns import parse_pattern
from bench.schedule import Open

_POLLER = "clients.polling:Poller"

_MS = 1_000_000

_clock = time.monotonic_ns


class PollingLine(SubscriberLine):
    """One poller's connection."""

    _engine: "PollingEngine"

    def __init__(self, engine: "PollingEngine", poller: Any) -> None:
        super().__init__(engine, poller)
        self._next_ns = 0
        """When the next poll is due, of a short poller."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._go_on()

    def answered(self, replies: Any) -> None:
        try:
            events = self.client.take(replies)
        except ProtocolError as error:
            self.broken(error)
            self.abort()
            return
        super().answered(events)
        self._go_on()

    def _go_on(self) -> None:
        """Ask again, at once or when it is time."""
        if not (self.client.due and self.opened):
            return
        engine = self._engine
        if not engine.every_ns:
            self._poll()
            return
        self.client.due = False
        now = _clock()
        if not self._next_ns:
            self._next_ns = now + int(engine.random.random() * engine.every_ns)
        while self._next_ns <= now:
            self._next_ns += engine.every_ns
        engine.at(self._next_ns, self._poll)

    def _poll(self) -> None:
        if self.opened:
            self.client.poll()
            self._send_outgoing()

    def ended(self) -> None:
        self._engine.count(self.client)
        super().ended()


class PollingEngine(PushEngine):
    """Pollers, and in the first load process the publisher. With `every_ns` pollers are short ones."""

    def __init__(self, every_ns: int, seed: str, **options: Any) -> None:
        super().__init__(**options)
        self.every_ns = every_ns
        self.random = random.Random(seed)

    def at(self, when_ns: int, callback: Any) -> None:
        """Call back then, to the millisecond."""
        self._loop.call_later(max(0.0, (when_ns - _clock()) / 1e9), callback)

    def count(self, poller: Any) -> None:
        """Take what a poller has counted."""
        if self._running:
            self.tally["polls"] += poller.polls
            self.tally["empty"] += poller.empty
        poller.polls = poller.empty = 0

    # PushEngine

    def _make_line(self, before: SubscriberLine | None) -> PollingLine:
        poller: Any = self._make_client()
        line = PollingLine(self, poller)
        if before is not None:
            line.go_on_from(before)
        return line

    def _begin(self, start_ns: int, measure_ns: int) -> None:
        super()._begin(start_ns, measure_ns)
        self._loop.call_later(max(0.0, (measure_ns - _clock()) / 1e9), self._forget_warmup)
        self._loop.call_later(max(0.0, (self.end_ns - _clock()) / 1e9), self._count_all)

    def _forget_warmup(self) -> None:
        self.tally.clear()
        for line in self._links:
            line.client.polls = line.client.empty = 0

    def _count_all(self) -> None:
        for line in self._links:
            self.count(line.client)


def make_engine(spec: LoadSpec, load: Open, target: dict[str, Any]) -> PollingEngine:
    """The engine of a load process; `target` is what every engine is given."""
    _, words = parse_pattern(spec.pattern, "pattern")
    make_caller = partial(registry.load(spec.client), spec.called, spec.scheme)
    make_poller, wait_ms = registry.load(_POLLER), words.get("wait", 0) // _MS
    return PollingEngine(
        words.get("every", 0),
        f"{spec.seed}/{spec.process}",
        make_client=lambda: make_poller(make_caller(), spec.topic, wait_ms),
        **target,
        **publishing(spec, load),
    )
