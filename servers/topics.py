"""Topics: events that are published once and delivered to everybody who has subscribed, within one process.

A publisher may be on any thread. Each subscription's events are delivered on the thread of its own worker, in the order
of their ids; those of one worker share what it costs to get there.

What a subscription does not take yet waits here, up to a bound, and past that a policy decides:

disconnect    the subscription is cut off, and can come back for what it has missed
drop-oldest   of what waits for it, the oldest events are dropped; it sees by the ids that some are missing
block         publishers wait until there is room: their publishes are acknowledged no sooner
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from bench import contract
from servers.counters import DISCONNECTED, DROPPED, HELD, Counters, Slot
from servers.service_error import ServiceError

MAX_TOPICS = 1024
MAX_EVENT_BYTES = 64 * 1024
HISTORY = 1024
HISTORY_BYTES = 512 * 1024
"""How many of a topic's last events a subscriber may still ask for, and how many bytes of data they have together."""

MAX_BEHIND = 16 * 1024
MAX_BEHIND_BYTES = 1024 * 1024
"""Events, and data, that may wait for one subscription beside what its connection has taken."""

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Data that may wait for one worker to look at it; what is older is lost to its subscriptions."""

MAX_HELD = 256
"""Publishes that may wait until all subscriptions have room, of one topic; more are refused."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

Post = Callable[[Callable[[], None]], object]


class Urgent:
    """A callback for a worker that cannot wait until the worker has sent what it is sending."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def __call__(self) -> None:
        self._callback()


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
    """Whoever wants a topic's events. It is called on the thread that `post` leads to, and must not raise."""

    def deliver(self, event: Event) -> bool:
        """Send the event on. Gives whether the next may follow at once; if not, `Topic.drained` says when it may."""

    def cut_off(self) -> None:
        """The subscription has ended, because it was too far behind. Let the client know, that it can come back."""


class SlowCounts:
    """What slow subscribers have come to in a process, in the counters of one of its workers."""

    def __init__(self, slot: Slot) -> None:
        self._values = slot.values
        self._lock = threading.Lock()

    def move_to(self, slot: Slot) -> None:
        """Count in another slot."""
        self._values = slot.values

    def add(self, field: int, count: int = 1) -> None:
        """Count DROPPED, DISCONNECTED or HELD. Called from any thread."""
        with self._lock:
            self._values[field] += count


class _Member:
    """A subscription, and the events that wait for it."""

    __slots__ = ("cut_off", "deliver", "is_full", "is_over", "subscription", "waiting", "waiting_bytes")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.deliver: Callable[[Event], bool] = subscription.deliver
        self.cut_off = subscription.cut_off
        self.is_full = False
        """Whether it takes no event now."""
        self.is_over = False
        """Whether more waits than may, so that publishers have to."""
        self.waiting: deque[Event] = deque()
        self.waiting_bytes = 0

    @property
    def is_behind(self) -> bool:
        """Whether more waits for it than may."""
        return self.waiting_bytes > MAX_BEHIND_BYTES or len(self.waiting) > MAX_BEHIND

    def keep(self, event: Event) -> None:
        """Let an event wait."""
        self.waiting.append(event)
        self.waiting_bytes += len(event.data)

    def take(self, events: Iterable[Event]) -> None:
        """Deliver events, as far as they are taken; the rest waits."""
        for event in events:
            if self.is_full:
                self.keep(event)
            else:
                self.is_full = not self.deliver(event)

    def drop_oldest(self) -> int:
        """Drop what waits, from the oldest, until there is no more than may. Gives how many events that were."""
        dropped = 0
        while self.is_behind:
            self.waiting_bytes -= len(self.waiting.popleft().data)
            dropped += 1
        return dropped

    def go_on(self) -> None:
        """Deliver what waits, as far as it is taken."""
        self.is_full = False
        while self.waiting and not self.is_full:
            event = self.waiting.popleft()
            self.waiting_bytes -= len(event.data)
            self.is_full = not self.deliver(event)

    def leave(self) -> list[Event]:
        """Nothing is delivered or waits any more. Gives what did wait."""
        waited = list(self.waiting)
        self.waiting.clear()
        self.waiting_bytes = 0
        self.deliver, self.is_full = _pass_over, False  # whoever goes through the members may still come by
        return waited


def _pass_over(_event: Event) -> bool:
    return True


class _Group:
    """The subscriptions of one worker to one topic."""

    __slots__ = (
        "_counts",
        "_has_lost",
        "_is_woken",
        "_look",
        "_pending",
        "_policy",
        "members",
        "over",
        "pending_bytes",
        "post",
        "thread_id",
    )

    def __init__(self, post: Post, look: Callable[["_Group"], None], policy: str, counts: SlowCounts) -> None:
        """`look` is what is to be called on the worker's thread when something is published on another."""
        self.post = post
        self._look = partial(look, self)
        self.thread_id = threading.get_ident()
        self.members: dict[Subscription, _Member] = {}
        self.over = 0
        """How many members are. Changed on the worker's thread only."""
        self.pending_bytes = 0
        self._policy = policy
        self._counts = counts
        self._pending: deque[Event] = deque()
        self._has_lost = False
        self._is_woken = False
        """It has been told of events, and has not looked yet."""

    def add(self, event: Event) -> bool:
        """An event is published. Gives whether the worker has to be woken for it. Called with the lock."""
        self._pending.append(event)
        self.pending_bytes += len(event.data)
        had_lost = self._has_lost
        # Where publishers wait, they are what bounds it.
        while self.pending_bytes > MAX_PENDING_BYTES and self._policy != contract.BLOCK:
            self.pending_bytes -= len(self._pending.popleft().data)
            self._has_lost = True
            if self._policy == contract.DROP_OLDEST:
                self._counts.add(DROPPED, len(self.members))
        is_woken, self._is_woken = self._is_woken, True
        return not is_woken or (self._has_lost and not had_lost)

    def wake(self) -> None:
        """Have the worker look. If it is stuck in sending to a client that does not read, it hears of it too when that
        one is to be cut off."""
        is_urgent = self._has_lost and self._policy == contract.DISCONNECT
        self.post(Urgent(self._look) if is_urgent else self._look)

    def take(self) -> tuple[Iterable[Event], bool]:
        """What has been published meanwhile, and whether some of it is lost. Called with the lock."""
        due, self._pending, self.pending_bytes = self._pending, deque(), 0
        has_lost, self._has_lost = self._has_lost, False
        self._is_woken = False
        return due, has_lost

    def deliver(self, due: Iterable[Event], has_lost: bool, newcomer: _Member | None = None) -> None:
        """Deliver what was taken to all members but a newcomer. Called on the worker's thread."""
        if has_lost and self._policy == contract.DISCONNECT:
            for member in self._members(newcomer):
                self._cut_off(member)
        for event in due:
            for member in self._members(newcomer):
                if member.is_full:
                    member.keep(event)
                    if member.is_behind:
                        self._decide(member)
                elif not member.deliver(event):
                    member.is_full = True

    def _members(self, newcomer: _Member | None) -> list[_Member]:
        """All members but a newcomer, whoever leaves meanwhile."""
        members = list(self.members.values())
        return members if newcomer is None else [member for member in members if member is not newcomer]

    def drained(self, subscription: Subscription) -> bool:
        """A subscription takes events again. Gives whether publishers may have waited for it."""
        member = self.members.get(subscription)
        if member is None or not member.is_full:
            return False
        member.go_on()
        return not member.is_behind and self._relieve(member)

    def remove(self, subscription: Subscription) -> list[Event]:
        """A subscription ends. Gives what waits for it."""
        member = self.members.pop(subscription, None)
        if member is None:
            return []
        self._relieve(member)
        return member.leave()

    def _relieve(self, member: _Member) -> bool:
        """Publishers need not wait for a member. Gives whether they had to."""
        was_over, member.is_over = member.is_over, False
        self.over -= was_over
        return was_over

    def _decide(self, member: _Member) -> None:
        """More waits for a member than may."""
        match self._policy:
            case contract.DISCONNECT:
                self._cut_off(member)
            case contract.DROP_OLDEST:
                self._counts.add(DROPPED, member.drop_oldest())
            case contract.BLOCK:
                self.over += not member.is_over
                member.is_over = True

    def _cut_off(self, member: _Member) -> None:
        self._counts.add(DISCONNECTED)
        self.remove(member.subscription)
        member.cut_off()


class Topic:
    """One topic. Safe to use from many threads."""

    def __init__(self, policy: str = contract.DISCONNECT, counts: SlowCounts | None = None) -> None:
        self.policy = policy
        self._counts = counts or SlowCounts(Counters(1)[0])
        self._lock = threading.RLock()  # a signal handler may call `hold_nothing`
        self._last_id = 0
        self._history: deque[Event] = deque()
        self._history_bytes = 0
        self._groups: dict[Post, _Group] = {}
        self._held: list[tuple[int, Callable[[], None]]] = []
        """The publishes that wait: the thread that each was made on, and what tells it to go on."""
        self._holds_nothing = False

    def publish(self, data: bytes) -> int:
        """Deliver an event to all subscriptions, or have it wait for them; those of the calling thread have it on
        return. Gives the event's id. Waits for nobody, whatever the policy is.

        Raises ServiceError 413 for one that is too long.
        """
        return self._publish(data)

    def publish_held(self, data: bytes, go_on: Callable[[int], None]) -> Callable[[], None] | None:
        """The same for a publisher that can wait: `go_on` is called with the event's id once all subscriptions have
        room, at once or from whatever thread makes it. Gives what lets it go on before that; None if it need not wait.

        Raises ServiceError 503 too, while too many publishers wait.
        """
        with self._lock:
            if len(self._held) >= MAX_HELD:
                raise ServiceError(503, f"{MAX_HELD} publishers wait for slow subscribers already")
        event_id, thread_id = self._publish(data), threading.get_ident()
        held = thread_id, partial(go_on, event_id)
        with self._lock:
            is_held = not self._has_room({thread_id, *(waiting for waiting, _ in self._held)})
            if is_held:
                self._held.append(held)
        if not is_held:
            go_on(event_id)
            return None
        self._counts.add(HELD)

        def hasten() -> None:
            with self._lock:
                waits = held in self._held
                if waits:
                    self._held.remove(held)
            if waits:
                go_on(event_id)

        return hasten

    def hold_nothing(self) -> None:
        """The server is to stop: no publisher waits any longer."""
        self._holds_nothing = True
        self._release()

    def subscribe(self, subscription: Subscription, post: Post, after_id: int | None = None) -> None:
        """Deliver events to a subscription from now on, or from the one after `after_id` as far as it is still there.
        `post` is how other threads reach the subscription's worker; it is called on that worker's thread."""
        missed = self.join(subscription, post, after_id)
        group = self._groups.get(post)
        member = None if group is None else group.members.get(subscription)
        if member is not None:
            member.take(missed)

    def join(self, subscription: Subscription, post: Post, after_id: int | None = None) -> list[Event]:
        """As `subscribe`, but what was there before is given, to be sent before this thread does anything else. So a
        client can be told that it is subscribed when it is, and before it gets its first event."""
        with self._lock:
            group = self._groups.get(post)
            if group is None:
                group = self._groups[post] = _Group(post, self._look, self.policy, self._counts)
            missed = [] if after_id is None else [event for event in self._history if event.id > after_id]
            taken = group.take()
            newcomer = group.members[subscription] = _Member(subscription)
        self._deliver(group, *taken, newcomer)
        return missed

    def drained(self, subscription: Subscription, post: Post) -> None:
        """A subscription takes events again, that gave no more room when one was delivered. Does nothing if it did not.
        Called on its worker's thread, from within `deliver` too."""
        group = self._groups.get(post)
        if group is not None and group.drained(subscription):
            self._release()

    def unsubscribe(self, subscription: Subscription, post: Post) -> list[Event]:
        """Deliver nothing more to a subscription. Gives the events that still wait for it; none if it is none here."""
        with self._lock:
            group = self._groups.get(post)
            waited = [] if group is None else group.remove(subscription)
        if group is not None:
            self._tidy(group)
        return waited

    def _publish(self, data: bytes) -> int:
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
                is_asleep = group.add(event)
                if group.thread_id == thread_id:
                    own.append(group)
                elif is_asleep:
                    others.append(group)
        for group in others:
            group.wake()
        for group in own:
            self._look(group)
        return event.id

    def _look(self, group: _Group) -> None:
        """Deliver to a worker's subscriptions what has been published meanwhile. Called on its thread."""
        with self._lock:
            taken = group.take()
        self._deliver(group, *taken)

    def _deliver(self, group: _Group, due: Iterable[Event], has_lost: bool, newcomer: _Member | None = None) -> None:
        group.deliver(due, has_lost, newcomer)
        self._tidy(group)

    def _tidy(self, group: _Group) -> None:
        """A group may have fewer members than before, or more room."""
        if not group.members:
            with self._lock:
                if not group.members and self._groups.get(group.post) is group:
                    del self._groups[group.post]
        self._release()

    def _has_room(self, thread_ids: Iterable[int]) -> bool:
        """Whether no publisher has to wait. Called with the lock. Threads that a publisher waits on look at nothing:
        what is pending for them is no reason to let them wait on."""
        if self._holds_nothing or self.policy != contract.BLOCK:
            return True
        return not any(
            group.over or (group.pending_bytes > MAX_BEHIND_BYTES and group.thread_id not in thread_ids)
            for group in self._groups.values()
        )

    def _release(self) -> None:
        """There may be room: let publishers go on."""
        if self.policy != contract.BLOCK:
            return
        with self._lock:
            going: list[tuple[int, Callable[[], None]]] = []
            if self._held and self._has_room({thread_id for thread_id, _ in self._held}):
                going, self._held = self._held, []
        for _, go_on in going:
            go_on()

    def _remember(self, event: Event) -> None:
        history = self._history
        history.append(event)
        self._history_bytes += len(event.data)
        while len(history) > HISTORY or self._history_bytes > HISTORY_BYTES:
            self._history_bytes -= len(history.popleft().data)

    def after(self, event_id: int) -> list[Event]:
        """The events after that one, as far as they are still there."""
        with self._lock:
            return [event for event in self._history if event.id > event_id]

    @property
    def last_id(self) -> int:
        """The id of the last event; 0 before the first."""
        return self._last_id

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        with self._lock:
            return sum(len(group.members) for group in self._groups.values())

    @property
    def held(self) -> int:
        """How many publishers wait."""
        return len(self._held)


class Topics:
    """The topics of a process, each made when it is first named."""

    def __init__(self, policy: str = contract.DISCONNECT, slot: Slot | None = None) -> None:
        """`slot` is that of one of the process's workers, where slow subscribers are counted."""
        self._policy = policy
        self._counts = SlowCounts(slot or Counters(1)[0])
        self._topics: dict[str, Topic] = {}
        self._own: dict[str, Topic] = {}
        """Those that the service itself has made."""
        self._lock = threading.RLock()  # as a topic's

    def count_in(self, slot: Slot) -> None:
        """Count slow subscribers in another slot from now on: that of the process that this has become."""
        self._counts.move_to(slot)

    def topic(self, name: str) -> Topic:
        """The topic of that name. Raises ServiceError 400 for a name that cannot be one, 503 for one too many."""
        topic = self._topics.get(name) or self._own.get(name)
        if topic is None:
            if not _NAME.fullmatch(name):
                raise ServiceError(400, "a topic's name is 1 to 64 letters, digits, dots, dashes or underscores")
            with self._lock:
                if len(self._topics) >= MAX_TOPICS and name not in self._topics:
                    raise ServiceError(503, f"there are {MAX_TOPICS} topics already")
                topic = self._topics.setdefault(name, Topic(self._policy, self._counts))
        return topic

    def make(self, name: str) -> Topic:
        """A topic of the service's own, which is none of MAX_TOPICS and waits for nobody. It lasts until it is
        forgotten."""
        with self._lock:
            topic = self._own[name] = Topic(counts=self._counts)
        return topic

    def forget(self, name: str) -> None:
        """Nothing more will be published to a topic of the service's own. Who is subscribed stays so."""
        with self._lock:
            self._own.pop(name, None)

    def hold_nothing(self) -> None:
        """The server is to stop: no publisher waits any longer."""
        with self._lock:
            topics = list(self._topics.values())
        for topic in topics:
            topic.hold_nothing()
