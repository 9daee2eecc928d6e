"""Clients of WebRTC data channels that ask for whatever HTTP can ask for: calls, subscriptions to topics, and
publishers. Each is one of raw TCP's (see `clients.frame_calls`) whose frames are messages, and a session (see
`bench.load.client.Session`), which tells its line what has come."""

from collections.abc import Hashable

from bench.contract import Exchange
from bench.errors import CallError, ProtocolError
from bench.wire.webrtc_signalling import MAX_MESSAGE_BYTES
from clients.frame_calls import FrameCaller, FramePublisher, FrameSubscriber
from clients.webrtc_connection import FrameChannel


class _FrameSession(FrameChannel):
    """A client of frames, on a data channel."""

    def __init__(self, frames: FrameCaller | FrameSubscriber | FramePublisher, authority: str) -> None:
        super().__init__(authority)
        self.outgoing: list[bytes] = []
        """Nothing: a session sends by itself."""
        self._frames = frames

    @property
    def max_in_flight(self) -> int:
        """See `bench.load.client.Client`."""
        return self._frames.max_in_flight

    def open(self) -> None:
        """The connection is up."""

    # FrameChannel

    def _channel_open(self) -> None:
        self._frames.open()
        for frame in self._frames.outgoing:
            self._send(frame)
        if self.max_in_flight:
            self._set_usable()

    def _take(self, message: bytes | str) -> None:
        if isinstance(message, str):
            raise ProtocolError("a text message is no frame")
        found = self._frames.feed(message)
        if self._frames.mid_frame:
            raise ProtocolError("a message that is not one whole frame")
        if found:
            self._link.answered(range(found) if isinstance(found, int) else found)
        elif self.max_in_flight:
            self._set_usable()


class WebrtcCaller(_FrameSession):
    """Calls of any kind (see `bench.load.calls.Caller`), each in one message, and its answer too."""

    def __init__(self, authority: str, scheme: str) -> None:
        self._caller = FrameCaller(authority, scheme)
        super().__init__(self._caller, authority)

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        """Raises CallError for a request that does not fit into a message."""
        call_id, (frame,) = self._caller.ask(exchange)
        if len(frame) > MAX_MESSAGE_BYTES:
            raise CallError("status", f"webrtc carries a request in one message, of at most {MAX_MESSAGE_BYTES} bytes")
        self._send(frame)
        return call_id, []


class WebrtcPublisher(_FrameSession):
    """Publishes events, each a request."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        self._publisher = FramePublisher(topic, authority, scheme)
        super().__init__(self._publisher, authority)

    def publish(self, data: bytes) -> list[bytes]:
        """Publish one event."""
        (frame,) = self._publisher.publish(data)
        self._send(frame)
        return []


class WebrtcSubscriber(_FrameSession):
    """One subscription to a topic: usable when it stands."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(FrameSubscriber(topic, authority, scheme), authority)
