"""Topics: events that are published once and delivered to everybody who has subscribed, within one process.

A publisher may be on any thread. Each subscription's events are delivered on the thread of its own worker, in the order
of their ids; those of one worker share what it costs to get there.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from servers.service_error import ServiceError

MAX_TOPICS = 1024
MAX_EVENT_BYTES = 64 * 1024
HISTORY = 1024
HISTORY_BYTES = 512 * 1024
"""How many of a topic's last events a subscriber may still ask for, and how many bytes of data they have together."""

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Data that may wait for one worker; what is older is lost to its subscriptions, who see it by the ids."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

Post = Callable[[Callable[[], None]], object]


class Event:
    """One event: its id (1 for a topic's first) and data, and what protocols have encoded it to."""

    __slots__ = ("_encoded", "data", "id")

    def __init__(self, event_id: int, data: bytes) -> None:
        self.id = event_id
        self.data = data
        self._encoded: dict[str, bytes] = {}

    def encoded(self, key: str, encode: Callable[["Event"], bytes]) -> bytes:
        """What `encode` makes of the event, made once for all subscribers that use the same key."""
        found = self._encoded.get(key)
        if found is None:
            found = self._encoded[key] = encode(self)
        return found


class Subscription(Protocol):
    """Whoever wants a topic's events."""

    def deliver(self, event: Event) -> None:
        """Send the event on. Called on the thread of the subscription's worker; must not raise."""


class _Group:
    """The subscriptions of one worker to one topic."""

    __slots__ = ("_lock", "_pending", "_pending_bytes", "post", "subscriptions", "thread_id")

    def __init__(self, post: Post, lock: threading.Lock) -> None:
        self.post = post
        self.thread_id = threading.get_ident()
        self.subscriptions: dict[Subscription, None] = {}
        self._lock = lock
        self._pending: deque[Event] = deque()
        self._pending_bytes = 0

    def add(self, event: Event) -> None:
        """An event is published. Called with the lock."""
        self._pending.append(event)
        self._pending_bytes += len(event.data)
        while self._pending_bytes > MAX_PENDING_BYTES:
            self._pending_bytes -= len(self._pending.popleft().data)

    def take(self) -> Iterable[Event]:
        """What has been published meanwhile. Called with the lock."""
        due, self._pending, self._pending_bytes = self._pending, deque(), 0
        return due

    def deliver(self) -> None:
        """Deliver what has been published meanwhile. Called on the worker's thread."""
        with self._lock:
            due = self.take()
        for event in due:
            for subscription in list(self.subscriptions):
                subscription.deliver(event)


class Topic:
    """One topic. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_id = 0
        self._history: deque[Event] = deque()
        self._history_bytes = 0
        self._groups: dict[Post, _Group] = {}

    def publish(self, data: bytes) -> int:
        """Deliver an event to all subscriptions; those of the calling thread have it on return. Gives the event's id.

        Raises ServiceError 413 for one that is too long.
        """
        if len(data) > MAX_EVENT_BYTES:
            raise ServiceError(413, f"an event is at most {MAX_EVENT_BYTES} bytes long")
        own: list[_Group] = []
        others: list[_Group] = []
        thread_id = threading.get_ident()
        with self._lock:
            self._last_id += 1
            event = Event(self._last_id, data)
            self._remember(event)
            for group in self._groups.values():
                group.add(event)
                (own if group.thread_id == thread_id else others).append(group)
        for group in others:
            group.post(group.deliver)
        for group in own:
            group.deliver()
        return event.id

    def subscribe(self, subscription: Subscription, post: Post, after_id: int | None = None) -> None:
        """Deliver events to a subscription from now on, or from the one after `after_id` as far as it is still there.
        `post` is how other threads reach the subscription's worker; it is called on that worker's thread."""
        for event in self.join(subscription, post, after_id):
            subscription.deliver(event)

    def join(self, subscription: Subscription, post: Post, after_id: int | None = None) -> list[Event]:
        """As `subscribe`, but what was there before is given, to be sent before this thread does anything else. So a
        client can be told that it is subscribed when it is, and before it gets its first event."""
        with self._lock:
            group = self._groups.get(post)
            if group is None:
                group = self._groups[post] = _Group(post, self._lock)
            missed = [] if after_id is None else [event for event in self._history if event.id > after_id]
            due = group.take()
            others = list(group.subscriptions)
            group.subscriptions[subscription] = None
        for event in due:
            for other in others:
                other.deliver(event)
        return missed

    def unsubscribe(self, subscription: Subscription, post: Post) -> None:
        """Deliver nothing more to a subscription. Does nothing if it has none here."""
        with self._lock:
            group = self._groups.get(post)
            if group is not None:
                group.subscriptions.pop(subscription, None)
                if not group.subscriptions:
                    del self._groups[post]

    def _remember(self, event: Event) -> None:
        history = self._history
        history.append(event)
        self._history_bytes += len(event.data)
        while len(history) > HISTORY or self._history_bytes > HISTORY_BYTES:
            self._history_bytes -= len(history.popleft().data)

    @property
    def last_id(self) -> int:
        """The id of the last event; 0 before the first."""
        return self._last_id

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        with self._lock:
            return sum(len(group.subscriptions) for group in self._groups.values())


class Topics:
    """The topics of a process, each made when it is first named."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._own: dict[str, Topic] = {}
        """Those that the service itself has made."""
        self._lock = threading.Lock()

    def topic(self, name: str) -> Topic:
        """The topic of that name. Raises ServiceError 400 for a name that cannot be one, 503 for one too many."""
        topic = self._topics.get(name) or self._own.get(name)
        if topic is None:
            if not _NAME.fullmatch(name):
                raise ServiceError(400, "a topic's name is 1 to 64 letters, digits, dots, dashes or underscores")
            with self._lock:
                if len(self._topics) >= MAX_TOPICS and name not in self._topics:
                    raise ServiceError(503, f"there are {MAX_TOPICS} topics already")
                topic = self._topics.setdefault(name, Topic())
        return topic

    def make(self, name: str) -> Topic:
        """A topic of the service's own, which is none of MAX_TOPICS. It lasts until it is forgotten."""
        with self._lock:
            topic = self._own[name] = Topic()
        return topic

    def forget(self, name: str) -> None:
        """Nothing more will be published to a topic of the service's own. Who is subscribed stays so."""
        with self._lock:
            self._own.pop(name, None)
