"""Streams of events (server-sent events) as answers over HTTP/3: one DATA frame an event."""

from collections.abc import Callable

from bench.wire.http3 import ErrorCode, Frame, encode_frame
from bench.wire.quic_connection import QuicPeer
from servers.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, MAX_BEHIND_BYTES, OPENING, encoded
from servers.service import Route
from servers.topics import Event, Topic
from servers.worker import Worker

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

    def deliver(self, event: Event) -> None:
        self._streams.deliver(self, event)


class EventStreams:
    """Those of one connection. `touch` is called when there is something to send."""

    def __init__(self, quic: QuicPeer, worker: Worker, touch: Callable[[], None]) -> None:
        self._quic = quic
        self._worker = worker
        self._touch = touch
        self._post = worker.inbox()
        self._subscriptions: dict[int, _Subscription] = {}
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

    def deliver(self, subscription: _Subscription, event: Event) -> None:
        """Send an event on one of the streams."""
        stream_id = subscription.stream_id
        if self._quic.unsent_bytes(stream_id) > MAX_BEHIND_BYTES:
            self.stop(stream_id)
            self._quic.cancel(stream_id, ErrorCode.EXCESSIVE_LOAD)
        else:
            self._quic.write(stream_id, event.encoded("http3", _frame), False)
        self._touch()

    def stop(self, stream_id: int) -> None:
        """A stream of events is over, if there is one of that id."""
        subscription = self._subscriptions.pop(stream_id, None)
        if subscription is not None:
            subscription.topic.unsubscribe(subscription, self._post)

    def end_all(self) -> None:
        """End all streams as answers end."""
        for stream_id in list(self._subscriptions):
            self.stop(stream_id)
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
