"""Polls: requests for a topic's events that are answered at once, or held back until there is one."""

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence

from bench import contract
from servers.topics import Event, Topic
from servers.waiting import Alarms


class Poll:
    """One poll that waits: a subscription to its topic that ends with the first event, or with the time."""

    def __init__(self, topic: Topic, after_id: int, reply: Callable[[bytes], None]) -> None:
        self._topic = topic
        self._after_id = after_id
        self._reply = reply
        self._over = threading.Lock()
        """Held for ever by whoever answers: the event, or the end of the time."""

    def deliver(self, event: Event) -> None:
        """See `servers.topics.Subscription`. Called on the thread that publishes."""
        if event.id > self._after_id and self._over.acquire(blocking=False):
            self._topic.unsubscribe(self, _at_once)
            self._reply(event.encoded("poll", _encode_alone))

    def expire(self) -> None:
        """The time is over."""
        if self._over.acquire(blocking=False):
            self._topic.unsubscribe(self, _at_once)
            self._reply(encode(self._after_id, ()))


def _at_once(callback: Callable[[], None]) -> None:
    """How publishers reach the polls of a topic: a poll's answer finds its own way to its connection."""
    callback()


def defer(
    topic: Topic, after_id: int | None, wait_s: float, alarms: Alarms, _body: bytes, reply: Callable[[bytes], None]
) -> None:
    """Answer a poll, now or later."""
    if after_id is None:
        reply(encode(topic.last_id, ()))
        return
    poll = Poll(topic, after_id, reply)
    missed = topic.join(poll, _at_once, after_id)
    if missed or not wait_s:
        topic.unsubscribe(poll, _at_once)
        # An event that came in between has answered already.
        if poll._over.acquire(blocking=False):
            reply(encode(missed[-1].id if missed else after_id, missed))
        return
    alarms.at(time.monotonic() + wait_s, poll.expire)


def encode(last: int, events: Sequence[Event]) -> bytes:
    """An answer: see `contract.decode_poll`."""
    return contract.encode_poll(last, [_field(event) for event in events])


def _field(event: Event) -> dict[str, object]:
    try:
        return {"id": event.id, "data": event.data.decode()}
    except UnicodeDecodeError:
        return {"id": event.id, "base64": b64encode(event.data).decode("ascii")}


def _encode_alone(event: Event) -> bytes:
    return encode(event.id, (event,))
