"""Subscriptions to topics over frames (see `bench.wire.frames`)."""

from collections.abc import Callable

from bench.wire.frames import encode_event
from servers.topics import Event, Post, Topic


class FrameSubscription:
    """One request for a topic's events. `push` sends a frame."""

    __slots__ = ("_key", "_push", "_topic", "frame_id")

    def __init__(self, frame_id: bytes, topic: Topic, push: Callable[[bytes], None]) -> None:
        self.frame_id = frame_id
        self._topic = topic
        self._push = push
        self._key = f"frame-{frame_id.hex()}"

    def deliver(self, event: Event) -> None:
        """See `servers.topics.Subscription`."""
        self._push(event.encoded(self._key, self._encode))

    def end(self, post: Post) -> None:
        """Want no more events."""
        self._topic.unsubscribe(self, post)

    def _encode(self, event: Event) -> bytes:
        return encode_event(self.frame_id, event.id, event.data)
