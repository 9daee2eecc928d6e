"""Group commit: what has been published while one commit is being written is the next one.

The loop goes on while a thread writes; messages are confirmed, and delivered, when they are on the disk.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bench.wire.broker_frames import encode_batch
from servers.broker.store import Store, StoredTopic, StoreError, Work, dead_topic
from servers.broker.topics import Subscription, Topic

Confirm = Callable[[StoreError | None], None]
_T = TypeVar("_T")

PENDING_BYTES = 32 << 20
"""With so much that waits to be written, connections are read no further."""
_FETCH_BYTES = 1 << 20
"""How much is read from the disk at a time for a reader that is far behind."""
_LAZY_S = 0.05
"""How long acknowledgements may wait for a publish to be written with. Those that are lost are redeliveries."""
_RETRY_S = 1.0
"""How long after a failure what has to be written is tried again."""
_CLOSE_S = 5.0
"""How long a disk that fails is waited for in the end."""


class Log:
    """All topics, and the thread that writes them. For one event loop."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        """Raises StoreError."""
        self.topics: dict[str, Topic] = {}
        self.on_room: Callable[[], None] = lambda: None
        """Called when less than PENDING_BYTES wait again."""
        self._store = Store(path)
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "store")
        self._published: dict[Topic, list[bytes]] = {}
        self._confirms: list[Confirm] = []
        self._buried: list[tuple[Topic, list[bytes]]] = []
        self._pending_bytes = 0
        self._dirty: set[Subscription] = set()
        self._writing = False
        self._lazy: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._add(self._store.topics())

    @property
    def is_full(self) -> bool:
        """Whether enough waits to be written."""
        return self._pending_bytes > PENDING_BYTES

    def publish(self, topic: Topic, bodies: list[bytes], confirm: Confirm) -> None:
        """Write these messages; `confirm` is called when they are on the disk, or with why they are not."""
        if not self._confirms and not self._writing:
            # Not at once: what arrives in this turn of the loop goes with it.
            self._loop.call_soon(self._write)
        self._published.setdefault(topic, []).extend(bodies)
        self._confirms.append(confirm)
        self._pending_bytes += sum(map(len, bodies))

    def changed(self, subscription: Subscription, dead: dict[int, bytes] | None = None) -> None:
        """Messages of a subscription were acknowledged or returned; these have become dead letters."""
        if dead:
            assert subscription.dead is not None
            self._buried.append((subscription.dead, list(dead.values())))
        self._dirty.add(subscription)
        self._write_lazily(_LAZY_S)
        self.pump(subscription)

    def pump(self, subscription: Subscription) -> None:
        """Deliver what may be delivered."""
        if not subscription.pump() and not subscription.fetching:
            subscription.fetching = True
            self._loop.create_task(self._fetch(subscription))

    async def declare(self, topic: str, subscriptions: Sequence[str], max_deliveries: int) -> None:
        """Make sure of a topic and its subscriptions. Raises StoreError."""
        self._add(await self._run(self._store.declare, topic, subscriptions, max_deliveries))

    async def close(self) -> None:
        """Write what waits, if the disk takes it, then let go of the file. Nothing may be published any more."""
        self._write_lazily(0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _CLOSE_S)
        self._thread.shutdown()
        self._store.close()

    def _run(self, call: Callable[..., _T], *arguments: object) -> asyncio.Future[_T]:
        return self._loop.run_in_executor(self._thread, call, *arguments)

    def _add(self, stored_topics: Sequence[StoredTopic]) -> None:
        """Take what the disk has and memory has not."""
        for stored in stored_topics:
            if stored.name not in self.topics:
                self.topics[stored.name] = Topic(stored)
        for stored in stored_topics:
            topic = self.topics[stored.name]
            for of in stored.subscriptions:
                if of.name not in topic.subscriptions:
                    subscription = Subscription(of, topic, self.topics.get(dead_topic(stored.name, of.name)))
                    for number in of.open:
                        first, bodies = self._store.read(topic.id, number, 0)
                        subscription.returned[number] = bodies[number - first]
                    topic.subscriptions[of.name] = subscription

    async def _fetch(self, subscription: Subscription) -> None:
        try:
            found = await self._run(self._store.read, subscription.topic.id, subscription.position, _FETCH_BYTES)
            subscription.fetching = False
            subscription.fetched(*found)
        except StoreError:
            subscription.fetching = False
            self._loop.call_later(_RETRY_S, self.pump, subscription)
        else:
            self.pump(subscription)

    # Writing

    def _write_lazily(self, delay_s: float) -> None:
        self._idle.clear()
        if self._lazy is None and not self._writing:
            self._lazy = self._loop.call_later(delay_s, self._write)

    def _write(self) -> None:
        """Begin a commit with all that waits, unless one is being written: the next one begins when that is done."""
        if self._writing:
            return
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        self._writing = True
        self._idle.clear()
        published, self._published = self._published, {}
        confirms, self._confirms = self._confirms, []
        buried, self._buried = self._buried, []
        dirty, self._dirty = self._dirty, set()
        appended = {topic: list(bodies) for topic, bodies in published.items()}
        for topic, bodies in buried:
            appended.setdefault(topic, []).extend(bodies)
        work = Work(states=[subscription.state() for subscription in dirty])
        for topic in {subscription.topic for subscription in dirty} | set(appended):
            floor = topic.floor()
            if floor > topic.trimmed:
                topic.trimmed = floor
                work.floors.append((topic.id, floor))

        def done(future: asyncio.Future[None]) -> None:
            error = future.exception()
            if isinstance(error, StoreError):
                self._buried += buried
                self._dirty |= dirty
            elif error is not None:
                raise error
            else:
                for topic, bodies in appended.items():
                    topic.append(bodies)
            self._finished(confirms, error, appended)

        self._run(self._commit, work, appended).add_done_callback(done)

    def _commit(self, work: Work, appended: dict[Topic, list[bytes]]) -> None:
        """On the store's thread; a topic's `next` changes only between two commits."""
        work.batches = [(topic.id, topic.next, len(bodies), encode_batch(bodies)) for topic, bodies in appended.items()]
        self._store.commit(work)

    def _finished(self, confirms: list[Confirm], error: StoreError | None, appended: dict[Topic, list[bytes]]) -> None:
        was_full = self.is_full
        self._writing = False
        for confirm in confirms:
            confirm(error)
        self._pending_bytes = sum(len(body) for bodies in self._published.values() for body in bodies)
        if error is None:
            for topic in appended:
                for subscription in topic.subscriptions.values():
                    self.pump(subscription)
        if self._published:
            self._write()
        elif self._buried or self._dirty:
            self._write_lazily(_LAZY_S if error is None else _RETRY_S)
        else:
            self._idle.set()
        if was_full and not self.is_full:
            self.on_room()
