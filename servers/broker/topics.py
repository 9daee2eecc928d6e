"""Topics and subscriptions in memory: what is to be delivered to whom. No I/O and no clock."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from servers.broker.store import NO_LIMIT, StoredSubscription, StoredTopic

_RECENT_BYTES = 16 << 20
"""How much of a topic's newest messages is kept in memory; a reader that is further behind is served from the disk."""
_DELIVERY_BYTES = 1 << 20
"""A delivery of several messages ends when it is so long."""


class Receiver(Protocol):
    """Where a subscription's messages go."""

    prefetch: int

    def deliver(self, numbers: Sequence[int], deliveries: Sequence[int], bodies: Sequence[bytes]) -> None: ...

    def take_over(self) -> None:
        """Another receiver has taken the subscription."""


class Topic:
    """A topic. `next` is the number of its next message; all before it are on the disk."""

    def __init__(self, stored: StoredTopic) -> None:
        self.id = stored.id
        self.name = stored.name
        self.next = stored.next
        self.subscriptions: dict[str, Subscription] = {}
        self.trimmed = 0
        """The floor up to which the disk was last told to forget."""
        self._firsts: list[int] = []
        self._recent: list[list[bytes]] = []
        self._recent_bytes = 0

    def append(self, bodies: list[bytes]) -> None:
        """These have been committed."""
        self._firsts.append(self.next)
        self._recent.append(bodies)
        self._recent_bytes += sum(map(len, bodies))
        self.next += len(bodies)
        while self._recent_bytes > _RECENT_BYTES and len(self._recent) > 1:
            del self._firsts[0]
            self._recent_bytes -= sum(map(len, self._recent.pop(0)))

    def recent(self, number: int) -> tuple[int, list[bytes]] | None:
        """The messages committed together with this one, and the number of the first; None if they are on the disk
        only."""
        at = bisect_right(self._firsts, number) - 1
        return None if at < 0 else (self._firsts[at], self._recent[at])

    def floor(self) -> int:
        """The number before which no subscription needs anything."""
        return min((subscription.floor() for subscription in self.subscriptions.values()), default=self.next)


class Subscription:
    """A subscription and its receiver."""

    def __init__(self, stored: StoredSubscription, topic: Topic, dead: Topic | None) -> None:
        self.id = stored.id
        self.topic = topic
        self.dead = dead
        """Where its dead letters go; None where it has none."""
        self.position = stored.position
        """Everything before it has been delivered."""
        self.receiver: Receiver | None = None
        self.dirty = False
        """It has changed since it was last put into a commit."""
        self.fetching = False
        """What comes next is being read from the disk."""
        self.returned: dict[int, bytes] = {}
        """What is to be delivered again."""
        self._max_deliveries = stored.max_deliveries
        self._delivered: dict[int, bytes] = {}
        self._times = dict(stored.open)
        """How often messages were delivered before, where that is not 0."""
        self._fetched: tuple[int, list[bytes]] = (0, [])

    def floor(self) -> int:
        """The number before which it needs nothing."""
        floor = self.position
        for unfinished in (self._delivered, self.returned):
            if unfinished:
                floor = min(floor, *unfinished)
        return floor

    def state(self) -> tuple[int, int, dict[int, int]]:
        """As `store.Work.states` has it."""
        times = self._times
        unfinished = {number: times.get(number, 0) for number in (*self._delivered, *self.returned)}
        return self.id, self.position, unfinished

    def attach(self, receiver: Receiver) -> None:
        """Deliver to this one from now on."""
        if self.receiver is not None:
            former = self.receiver
            self.detach()
            former.take_over()
        self.receiver = receiver

    def detach(self) -> dict[int, bytes]:
        """The receiver has gone. Gives what has become a dead letter by that."""
        self.receiver = None
        return self.give_back(tuple(self._delivered))

    def ack(self, numbers: Sequence[int]) -> None:
        """These are done with. Numbers that are not out are ignored: they were, for a receiver before."""
        delivered, times = self._delivered, self._times
        for number in numbers:
            delivered.pop(number, None)
        if times:
            for number in numbers:
                if number not in self.returned:
                    times.pop(number, None)
        self.dirty = True

    def give_back(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """These are to be delivered again. Gives those that have been often enough, which are dead letters."""
        dead = {}
        for number in numbers:
            body = self._delivered.pop(number, None)
            if body is None:
                continue
            times = self._times[number] = self._times.get(number, 0) + 1
            if self.dead is not None and self._max_deliveries != NO_LIMIT and times >= self._max_deliveries:
                del self._times[number]
                dead[number] = body
            else:
                self.returned[number] = body
            self.dirty = True
        return dead

    def bury(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """These are dead letters. Gives them; where there are none to be, they are delivered again."""
        if self.dead is None:
            return self.give_back(numbers)
        dead = {number: self._delivered[number] for number in numbers if number in self._delivered}
        self.ack(numbers)
        return dead

    def fetched(self, first: int, bodies: list[bytes]) -> None:
        """What the disk had at `position`."""
        self._fetched = first, bodies

    def pump(self) -> bool:
        """Deliver what may be delivered. False if what comes next has to be read from the disk first."""
        while self.receiver is not None:
            room = self.receiver.prefetch - len(self._delivered)
            if room <= 0:
                return True
            if self.returned:
                numbers: Sequence[int] = sorted(self.returned)[:room]
                bodies = _bounded([self.returned[number] for number in numbers])
                numbers = numbers[: len(bodies)]
                deliveries = [self._times.get(number, 0) + 1 for number in numbers]
                for number in numbers:
                    del self.returned[number]
            elif self.position < self.topic.next:
                found = self._at_position()
                if found is None:
                    return False
                bodies = _bounded(found[:room])
                numbers = range(self.position, self.position + len(bodies))
                deliveries = [1] * len(bodies)
                self.position += len(bodies)
            else:
                return True
            self._delivered.update(zip(numbers, bodies, strict=True))
            self.receiver.deliver(numbers, deliveries, bodies)
        return True

    def _at_position(self) -> list[bytes] | None:
        first, bodies = self._fetched
        if not first <= self.position < first + len(bodies):
            recent = self.topic.recent(self.position)
            if recent is None:
                return None
            first, bodies = recent
        return bodies[self.position - first :]


def _bounded(bodies: list[bytes]) -> list[bytes]:
    """As many of them as one delivery may carry, at least one."""
    size = 0
    for count, body in enumerate(bodies):
        size += len(body)
        if size > _DELIVERY_BYTES and count:
            return bodies[:count]
    return bodies
