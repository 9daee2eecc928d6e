"""Subscriptions to topics over frames (see `bench.wire.frames`)."""

from collections.abc import Callable, Sequence

from bench.wire.frames import encode_event
from servers.topics import Event, Post, Topic


class FrameSubscription:
    """One request for a topic's events. `push` sends a frame, and says whether the next may follow at once; `cut_off`
    ends the connection."""

    __slots__ = ("_key", "_push", "_topic", "cut_off", "frame_id")

    def __init__(
        self, frame_id: bytes, topic: Topic, push: Callable[[bytes], bool], cut_off: Callable[[], None]
    ) -> None:
        self.frame_id = frame_id
        self.cut_off = cut_off
        self._topic = topic
        self._push = push
        self._key = f"frame-{frame_id.hex()}"

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        return self._push(event.encoded(self._key, self._encode))

    def drained(self, post: Post) -> None:
        """The connection takes events again."""
        self._topic.drained(self, post)

    def end(self, post: Post) -> Sequence[Event]:
        """Want no more events. Gives those that still wait."""
        return self._topic.unsubscribe(self, post)

    def _encode(self, event: Event) -> bytes:
        return encode_event(self.frame_id, event.id, event.data)
