"""Streams of events (server-sent events) as answers over HTTP/3: one DATA frame an event."""

from collections.abc import Callable

from bench.wire.http3 import ErrorCode, Frame, encode_frame
from bench.wire.quic_connection import QuicPeer
from servers.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, OPENING, encoded
from servers.service import Route
from servers.topics import Event, Topic
from servers.worker import Worker

MAX_UNACKNOWLEDGED_BYTES = 1024 * 1024
"""What a stream is given ahead of what the client has acknowledged, before events have to wait."""

_OPENING = encode_frame(Frame.DATA, OPENING)
_KEEP_ALIVE = encode_frame(Frame.DATA, KEEP_ALIVE)


def _frame(event: Event) -> bytes:
    return encode_frame(Frame.DATA, encoded(event))


class _Subscription:
    """One stream of events."""

    __slots__ = ("_streams", "stream_id", "topic")

    def __init__(self, streams: "EventStreams", stream_id: int, topic: Topic) -> None:
        self._streams = streams
        self.stream_id = stream_id
        self.topic = topic

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        return self._streams.deliver(self.stream_id, event)

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._streams.cut_off(self.stream_id)


class EventStreams:
    """Those of one connection. `touch` is called when there is something to send."""

    def __init__(self, quic: QuicPeer, worker: Worker, touch: Callable[[], None]) -> None:
        self._quic = quic
        self._worker = worker
        self._touch = touch
        self._post = worker.inbox()
        self._subscriptions: dict[int, _Subscription] = {}
        self._full: set[int] = set()
        """The streams whose next events have to wait."""
        self._keeping_alive = False

    def start(self, stream_id: int, route: Route, head: bytes) -> None:
        """Answer a request with a topic's events."""
        assert route.topic is not None
        self._quic.write(stream_id, head + _OPENING, False)
        subscription = self._subscriptions[stream_id] = _Subscription(self, stream_id, route.topic)
        route.topic.subscribe(subscription, self._post, route.after_id)
        if not self._keeping_alive:
            self._keeping_alive = True
            self._worker.later(KEEP_ALIVE_S, self._keep_alive)

    def deliver(self, stream_id: int, event: Event) -> bool:
        """Send an event on one of the streams. Gives whether the next may follow at once."""
        self._quic.write(stream_id, event.encoded("http3", _frame), False)
        self._touch()
        if self._quic.unsent_bytes(stream_id) <= MAX_UNACKNOWLEDGED_BYTES:
            return True
        self._full.add(stream_id)
        return False

    def go_on(self) -> None:
        """Something may have been acknowledged: send what waits for it."""
        for stream_id in list(self._full):
            if self._quic.unsent_bytes(stream_id) <= MAX_UNACKNOWLEDGED_BYTES:
                self._full.discard(stream_id)
                subscription = self._subscriptions[stream_id]
                subscription.topic.drained(subscription, self._post)

    def cut_off(self, stream_id: int) -> None:
        """Give a stream up whose client is too slow."""
        self.stop(stream_id)
        self._quic.cancel(stream_id, ErrorCode.EXCESSIVE_LOAD)
        self._touch()

    def stop(self, stream_id: int) -> list[Event]:
        """A stream of events is over, if there is one of that id. Gives the events that still wait for it."""
        self._full.discard(stream_id)
        subscription = self._subscriptions.pop(stream_id, None)
        return [] if subscription is None else subscription.topic.unsubscribe(subscription, self._post)

    def end_all(self) -> None:
        """End all streams as answers end."""
        for stream_id in list(self._subscriptions):
            for event in self.stop(stream_id):
                self._quic.write(stream_id, event.encoded("http3", _frame), False)
            self._quic.write(stream_id, b"", True)

    def stop_all(self) -> None:
        """The connection is gone."""
        for stream_id in list(self._subscriptions):
            self.stop(stream_id)

    def _keep_alive(self) -> None:
        self._keeping_alive = bool(self._subscriptions)
        for stream_id in self._subscriptions:
            self._quic.write(stream_id, _KEEP_ALIVE, False)
        if self._keeping_alive:
            self._touch()
            self._worker.later(KEEP_ALIVE_S, self._keep_alive)
