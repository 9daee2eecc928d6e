"""Topics: who gets which events, in which order, on which thread, and what is kept."""

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from bench.contract import BLOCK, DISCONNECT, DROP_OLDEST, POLICIES
from servers import polls, topics
from servers.counters import DISCONNECTED, DROPPED, HELD, Counters, Slot
from servers.service_error import ServiceError
from servers.topics import (
    HISTORY,
    HISTORY_BYTES,
    MAX_BEHIND_BYTES,
    MAX_EVENT_BYTES,
    MAX_HELD,
    MAX_TOPICS,
    Event,
    SlowCounts,
    Topic,
    Topics,
)


class Listener:
    """A subscription that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[int] = set()
        self.room: float = math.inf
        self.is_cut_off = False

    def deliver(self, event: Event) -> bool:
        self.events.append(event)
        self.threads.add(threading.get_ident())
        self.room -= 1
        return self.room > 0

    def cut_off(self) -> None:
        assert not self.is_cut_off
        self.is_cut_off = True

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events]


class Inbox:
    """A worker's inbox, which is emptied by hand."""

    def __init__(self) -> None:
        self.posted: deque[Callable[[], None]] = deque()

    def post(self, callback: Callable[[], None]) -> None:
        self.posted.append(callback)

    def empty(self) -> None:
        while self.posted:
            self.posted.popleft()()


def counted(slot: Slot) -> tuple[int, ...]:
    """Events dropped, subscriptions disconnected, publishes held."""
    return tuple(slot.values[field] for field in (DROPPED, DISCONNECTED, HELD))


def elsewhere(call: Callable[[], object]) -> None:
    """Call on another thread."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_events_reach_the_subscribers_of_the_publishers_thread_at_once() -> None:
    topic, inbox = Topic(), Inbox().post
    one, two = Listener(), Listener()
    topic.subscribe(one, inbox)
    assert topic.publish(b"first") == 1
    topic.subscribe(two, inbox)
    assert topic.publish(b"second") == 2
    assert [(event.id, event.data) for event in one.events] == [(1, b"first"), (2, b"second")]
    assert two.events == one.events[1:]
    assert topic.subscribers == 2


def test_events_reach_other_threads_through_their_inbox() -> None:
    topic, inbox, listener = Topic(), Inbox(), Listener()
    topic.subscribe(listener, inbox.post)
    elsewhere(lambda: [topic.publish(b"x") for _ in range(3)])
    assert listener.ids == []
    inbox.empty()
    assert listener.ids == [1, 2, 3]
    assert listener.threads == {threading.get_ident()}


def test_one_of_this_thread_overtakes_none_of_another() -> None:
    topic, inbox, listener = Topic(), Inbox(), Listener()
    topic.subscribe(listener, inbox.post)
    elsewhere(lambda: topic.publish(b"x"))
    topic.publish(b"y")
    inbox.empty()
    assert listener.ids == [1, 2]


def test_who_subscribes_while_events_are_under_way_gets_none_twice() -> None:
    topic, inbox = Topic(), Inbox()
    early, late, new = Listener(), Listener(), Listener()
    topic.subscribe(early, inbox.post)
    elsewhere(lambda: [topic.publish(b"x") for _ in range(2)])
    topic.subscribe(late, inbox.post, after_id=1)
    topic.subscribe(new, inbox.post)
    topic.publish(b"y")
    inbox.empty()
    assert (early.ids, late.ids, new.ids) == ([1, 2, 3], [2, 3], [3])


@pytest.mark.parametrize(
    ("after_id", "ids"), [(None, [6]), (0, [1, 2, 3, 4, 5, 6]), (4, [5, 6]), (5, [6]), (10**9, [6])]
)
def test_what_was_missed_comes_first(after_id: int | None, ids: list[int]) -> None:
    topic, listener = Topic(), Listener()
    for _ in range(5):
        topic.publish(b"x")
    topic.subscribe(listener, Inbox().post, after_id)
    topic.publish(b"x")
    assert listener.ids == ids


def test_the_history_is_bounded_by_number_and_by_size() -> None:
    topic, listener = Topic(), Listener()
    for _ in range(HISTORY + 10):
        topic.publish(b"x")
    topic.subscribe(listener, Inbox().post, 0)
    assert listener.ids == list(range(11, HISTORY + 11))
    topic, listener = Topic(), Listener()
    for _ in range(20):
        topic.publish(b"x" * MAX_EVENT_BYTES)
    topic.subscribe(listener, Inbox().post, 0)
    kept = HISTORY_BYTES // MAX_EVENT_BYTES
    assert listener.ids == list(range(21 - kept, 21))


def test_a_worker_that_does_not_look_into_its_inbox_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_PENDING_BYTES", 100)
    for policy, ids in ((DISCONNECT, []), (DROP_OLDEST, [8, 9, 10, 11])):
        slot = Counters(1)[0]
        topic, inbox, listener = Topic(policy, SlowCounts(slot)), Inbox(), Listener()
        topic.subscribe(listener, inbox.post)
        elsewhere(lambda topic=topic: [topic.publish(b"x" * 30) for _ in range(10)])
        inbox.empty()
        topic.publish(b"x" * 30)
        assert listener.ids == ids
        assert listener.is_cut_off == (not ids)
        assert counted(slot) == ((7, 0, 0) if ids else (0, 1, 0))


def test_who_has_left_gets_nothing_more() -> None:
    topic, inbox = Topic(), Inbox().post
    stays, leaves = Listener(), Listener()
    topic.subscribe(stays, inbox)
    topic.subscribe(leaves, inbox)
    topic.unsubscribe(leaves, inbox)
    topic.unsubscribe(leaves, inbox)
    topic.unsubscribe(Listener(), Inbox().post)
    topic.publish(b"x")
    assert (stays.ids, leaves.ids) == ([1], [])
    topic.unsubscribe(stays, inbox)
    assert topic.subscribers == 0
    assert topic.publish(b"x") == 2


def test_who_leaves_while_an_event_is_delivered_disturbs_nobody() -> None:
    topic, inbox, others = Topic(), Inbox().post, [Listener() for _ in range(3)]

    class Leaves(Listener):
        def deliver(self, event: Event) -> bool:
            topic.unsubscribe(self, inbox)
            return super().deliver(event)

    leaves = Leaves()
    for listener in (others[0], leaves, *others[1:]):
        topic.subscribe(listener, inbox)
    topic.publish(b"x")
    topic.publish(b"x")
    assert [listener.ids for listener in others] == [[1, 2]] * 3
    assert leaves.ids == [1]


def test_many_publishers_and_workers_agree_on_the_order() -> None:
    topic = Topic()
    subscribed = threading.Barrier(9)
    ends: list[list[int]] = []

    def subscribe() -> None:
        listener, arrived = Listener(), threading.Semaphore(0)
        posted: deque[Callable[[], None]] = deque()

        def post(callback: Callable[[], None]) -> None:
            posted.append(callback)
            arrived.release()

        topic.subscribe(listener, post)
        subscribed.wait()
        while len(listener.events) < 2000:
            assert arrived.acquire(timeout=20)
            posted.popleft()()
        ends.append(listener.ids)

    def publish() -> None:
        subscribed.wait()
        for _ in range(500):
            topic.publish(b"x")

    threads = [threading.Thread(target=target) for target in [subscribe] * 4 + [publish] * 4]
    for thread in threads:
        thread.start()
    subscribed.wait()
    for thread in threads:
        thread.join(30)
    assert ends == [list(range(1, 2001))] * 4


def test_an_event_is_encoded_once() -> None:
    event, made = Event(1, b"x"), []

    def encode(event: Event) -> bytes:
        made.append(event)
        return b"<%b>" % event.data

    assert [event.encoded("a", encode) for _ in range(3)] == [b"<x>"] * 3
    assert event.encoded("b", encode) == b"<x>"
    assert made == [event, event]


def test_what_is_refused() -> None:
    found = Topics()
    with pytest.raises(ServiceError) as raised:
        found.topic("news").publish(b"x" * (MAX_EVENT_BYTES + 1))
    assert raised.value.status == 413
    assert found.topic("news").publish(b"x" * MAX_EVENT_BYTES) == 1
    for name in ("", "a b", "a/b", "ä", "x" * 65, "a\n"):
        with pytest.raises(ServiceError) as raised:
            found.topic(name)
        assert raised.value.status == 400
    assert found.topic("news") is found.topic("news")
    for number in range(MAX_TOPICS - 1):
        found.topic(str(number))
    with pytest.raises(ServiceError) as raised:
        found.topic("one-too-many")
    assert raised.value.status == 503
    assert found.topic("news").publish(b"x") == 2


# Slow subscriptions

EVENT = b"x" * 32_768
BOUND = MAX_BEHIND_BYTES // len(EVENT)
"""Events that may wait for a subscription."""


class Slow:
    """A topic with a subscription that takes so many events, and one that takes all."""

    def __init__(self, policy: str, room: int = 1) -> None:
        self.slot = Counters(1)[0]
        self.topic = Topic(policy, SlowCounts(self.slot))
        self.inbox = Inbox()
        self.slow, self.other = Listener(), Listener()
        self.slow.room = room
        self.topic.subscribe(self.slow, self.inbox.post)
        self.topic.subscribe(self.other, self.inbox.post)
        self.acknowledged: list[int] = []

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.topic.publish_held(EVENT, self.acknowledged.append)

    def take(self, count: int) -> None:
        """The slow one has room again."""
        self.slow.room = count
        self.topic.drained(self.slow, self.inbox.post)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_subscription_does_not_take_waits_for_it(policy: str) -> None:
    case = Slow(policy)
    case.publish(1 + BOUND)
    assert case.slow.ids == [1]
    case.take(2)
    assert case.slow.ids == [1, 2, 3]
    case.topic.drained(case.slow, case.inbox.post)  # has no room still: one more, and it says so again
    case.take(1000)
    assert case.slow.ids == case.other.ids == case.acknowledged == list(range(1, BOUND + 2))
    case.publish(1)
    assert case.slow.ids[-1] == BOUND + 2
    assert counted(case.slot) == (0, 0, 0)


def test_disconnect() -> None:
    case = Slow(DISCONNECT)
    case.publish(BOUND + 5)
    assert case.slow.is_cut_off
    assert (case.slow.ids, case.topic.subscribers) == ([1], 1)
    case.take(1000)
    assert case.slow.ids == [1]
    assert case.other.ids == case.acknowledged == list(range(1, BOUND + 6))
    assert counted(case.slot) == (0, 1, 0)


def test_nothing_is_kept_for_a_worker_whose_last_subscription_was_cut_off() -> None:
    case = Slow(DISCONNECT)
    case.topic.unsubscribe(case.other, case.inbox.post)
    case.publish(BOUND + 5)
    assert case.slow.is_cut_off
    assert case.topic._groups == {}


def test_drop_oldest() -> None:
    case = Slow(DROP_OLDEST)
    case.publish(BOUND + 5)
    case.take(1000)
    assert case.slow.ids == [1, *range(6, BOUND + 6)]
    assert case.other.ids == case.acknowledged == list(range(1, BOUND + 6))
    assert counted(case.slot) == (4, 0, 0)


def test_block() -> None:
    case = Slow(BLOCK)
    case.publish(BOUND + 4)
    published = list(range(1, BOUND + 5))
    assert (case.other.ids, case.acknowledged) == (published, published[:-3])
    assert (case.topic.held, counted(case.slot)) == (3, (0, 0, 3))
    case.take(2)
    assert case.acknowledged == published[:-3]  # it is over its bound still
    case.take(1)
    assert (case.topic.held, case.acknowledged) == (0, published)
    case.take(1000)
    assert case.slow.ids == published
    assert case.topic.publish(EVENT) == len(published) + 1  # who cannot wait does not


def test_publishers_go_on_when_the_slow_one_leaves_or_the_server_stops() -> None:
    for go_on in (
        lambda case: case.topic.unsubscribe(case.slow, case.inbox.post),
        lambda case: case.topic.hold_nothing(),
    ):
        case = Slow(BLOCK)
        case.publish(BOUND + 2)
        assert case.topic.held == 1
        go_on(case)
        case.publish(1)
        assert case.acknowledged == list(range(1, BOUND + 4))


def test_a_publisher_whose_client_has_left_goes_on() -> None:
    case = Slow(BLOCK)
    case.publish(BOUND + 1)
    hasten = case.topic.publish_held(EVENT, case.acknowledged.append)
    assert hasten is not None
    assert case.topic.held == 1
    hasten()
    hasten()
    assert (case.topic.held, case.acknowledged[-1]) == (0, BOUND + 2)


def test_what_was_missed_is_bounded_as_all_else() -> None:
    topic, inbox, late = Topic(), Inbox(), Listener()
    for _ in range(10):
        topic.publish(b"x")
    late.room = 3
    topic.subscribe(late, inbox.post, 0)
    assert late.ids == [1, 2, 3]
    late.room = 1000
    topic.drained(late, inbox.post)
    assert late.ids == list(range(1, 11))


def test_who_was_cut_off_while_an_event_is_delivered_gets_it_no_more() -> None:
    topic, inbox = Topic(), Inbox()
    second = Listener()

    class First(Listener):
        def deliver(self, event: Event) -> bool:
            if topic.subscribers == 2:
                topic.unsubscribe(second, inbox.post)
            return super().deliver(event)

    first = First()
    for subscription in (first, second):
        topic.subscribe(subscription, inbox.post)
    topic.publish(b"x")
    assert (first.ids, second.ids) == ([1], [])


def test_a_poll_is_answered_with_all_that_came_after_its_cursor() -> None:
    """Whichever of several events, on whichever thread, is the first to reach it."""
    topic, answers = Topic(), list[bytes]()
    poll = polls.Poll(topic, 0, answers.append)
    topic.publish(b"one")
    topic.publish(b"two")
    poll.deliver(topic.after(1)[0])
    assert [event["id"] for event in json.loads(answers[0])["events"]] == [1, 2]
    assert json.loads(answers[0])["last"] == 2


def test_publishers_that_wait_are_bounded() -> None:
    case = Slow(BLOCK)
    case.publish(BOUND + 1 + MAX_HELD)
    with pytest.raises(ServiceError) as raised:
        case.publish(1)
    assert raised.value.status == 503
    assert case.topic.held == MAX_HELD
    case.take(10_000)
    assert case.slow.ids == case.acknowledged == list(range(1, BOUND + 2 + MAX_HELD))


def test_publishers_wait_for_a_worker_that_does_not_look_into_its_inbox() -> None:
    case = Slow(BLOCK, room=10_000)
    elsewhere(lambda: case.publish(BOUND + 2))
    assert case.topic.held == 2
    case.inbox.empty()
    assert case.topic.held == 0
    assert case.slow.ids == case.acknowledged == list(range(1, BOUND + 3))


def test_threads_that_wait_to_publish_do_not_wait_for_each_others_inbox() -> None:
    topic, slow, inbox = Topic(BLOCK), Listener(), Inbox()
    slow.room = 1
    topic.subscribe(slow, inbox.post)
    stuck = threading.Barrier(3)
    going: list[threading.Event] = [threading.Event(), threading.Event()]

    def publisher(number: int) -> None:
        """A connection that blocks, with a subscription of its own."""
        topic.subscribe(Listener(), Inbox().post)
        stuck.wait(20)
        topic.publish_held(EVENT, lambda _: going[number].set())
        assert going[number].wait(20)

    threads = [threading.Thread(target=publisher, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(BOUND + 2):
        topic.publish(EVENT)
    stuck.wait(20)
    while topic.held < 2:
        time.sleep(0.001)
    for _ in range(2 * BOUND):
        topic.publish(EVENT)
    slow.room = math.inf
    topic.drained(slow, inbox.post)
    for thread in threads:
        thread.join(20)
    assert topic.held == 0
    assert all(event.is_set() for event in going)
