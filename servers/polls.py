"""Polls: requests for a topic's events that are answered at once, or held back until there is one."""

import time
from base64 import b64encode
from collections.abc import Callable, Sequence

from bench import contract
from servers.topics import Event, Topic
from servers.waiting import Alarm, Alarms, once


class Poll:
    """One poll that waits: a subscription to its topic that ends with the first event, or with the time."""

    def __init__(self, topic: Topic, after_id: int, reply: Callable[[bytes], None]) -> None:
        self.alarm: Alarm | None = None
        """When the time is over."""
        self._topic = topic
        self._after_id = after_id
        self._answer = once(reply)

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`. Called on the thread that publishes: several may, and none says what came
        before its event, so the topic does."""
        if event.id > self._after_id and self._answer(lambda: self._encode_from(event)):
            self._leave()
        return True

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`. It does not happen: what is answered at once is never behind."""

    def expire(self) -> None:
        """The time is over, or nobody waits any more."""
        self.end(self._after_id, ())

    def end(self, last: int, events: Sequence[Event], lost: int = 0) -> None:
        """Answer, unless an event has done so already."""
        if self._answer(lambda: encode(last, events, lost)):
            self._leave()

    def _encode_from(self, event: Event) -> bytes:
        events = self._topic.after(self._after_id) or [event]
        if events == [event] and event.id == self._after_id + 1:
            return event.encoded("poll", _encode_alone)
        return encode(events[-1].id, events, events[0].id - self._after_id - 1)

    def _leave(self) -> None:
        self._topic.unsubscribe(self, _at_once)
        if self.alarm is not None:
            self.alarm.cancel()


def _at_once(callback: Callable[[], None]) -> None:
    """How publishers reach the polls of a topic: a poll's answer finds its own way to its connection."""
    callback()


def defer(
    topic: Topic, after_id: int | None, wait_s: float, holds: Alarms, _body: bytes, reply: Callable[[bytes], None]
) -> Callable[[], None] | None:
    """Answer a poll, now or later (see `servers.service.Defer`)."""
    if after_id is None or after_id > topic.last_id:
        # A cursor from before the server was started anew: where the topic stands now is all there is to say.
        reply(encode(topic.last_id, ()))
        return None
    poll = Poll(topic, after_id, reply)
    missed = topic.join(poll, _at_once, after_id)
    if missed:
        poll.end(missed[-1].id, missed, missed[0].id - after_id - 1)
    elif not wait_s:
        poll.expire()
    else:
        poll.alarm = holds.at(time.monotonic() + wait_s, poll.expire)
        return poll.expire
    return None


def encode(last: int, events: Sequence[Event], lost: int = 0) -> bytes:
    """An answer: see `contract.decode_poll`."""
    return contract.encode_poll(last, [_field(event) for event in events], lost)


def _field(event: Event) -> dict[str, object]:
    try:
        return {"id": event.id, "data": event.data.decode()}
    except UnicodeDecodeError:
        return {"id": event.id, "base64": b64encode(event.data).decode("ascii")}


def _encode_alone(event: Event) -> bytes:
    return encode(event.id, (event,))
