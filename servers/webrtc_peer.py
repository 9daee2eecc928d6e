"""The server's end of a WebRTC connection, and what is asked on its data channels (see `bench.wire.webrtc_signalling`).

A data channel can't be told to wait: what arrives is handed over at once. So a peer that asks for more than it takes is
cut off.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from aiortc import RTCDataChannel

from bench.contract import MAX_BODY_BYTES, Opcode
from bench.errors import ProtocolError
from bench.wire.frames import (
    FATAL,
    HEADER_BYTES,
    MORE,
    NAMED,
    NO_ID,
    OK,
    SUBPROTOCOL,
    decode_datagram,
    encode_frame,
    is_status,
    split_named,
)
from bench.wire.webrtc_peer import Peer
from bench.wire.webrtc_signalling import Description
from servers.counters import REQUESTS
from servers.frame_events import FrameSubscription
from servers.service import Collect, Refused, Route
from servers.service_error import ServiceError
from servers.topics import Event, Topic
from servers.worker import Lives, TransportKind, Worker

CONNECT_TIMEOUT_S = 10.0
"""How long a peer may take from its offer to the end of the DTLS handshake."""

MAX_CHANNELS = 256
"""Channels that a peer may have open; one more is closed at once."""

MAX_IN_FLIGHT = 16 * 1024
"""Requests of a peer that may be under way; those past it are refused with status 503."""

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""What may wait to be sent to a peer; each of its channels may have its share of that."""

MAX_UNSENT_EVENT_BYTES = 64 * 1024
"""What may wait to be sent on a channel before further events have to: less than its share."""

_BINARY_ONLY = (Opcode.BYTES, Opcode.UPLOAD)
"""Operations whose answers are no text, whatever they were asked with."""


class WebrtcPeer:
    """One peer, from its offer to its end."""

    transport_kind: ClassVar[TransportKind] = "datagram"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, worker: Worker, address: str, offer: Description, answer_offer: Callable[[Description | None], None]
    ) -> None:
        """`address` is the IP address to be reached at. `answer_offer` is called with this end's description, or None
        if there is no socket to be had."""
        self.worker = worker
        self.max_message_bytes = offer.max_message_bytes or MAX_BODY_BYTES
        self.in_flight = 0
        self.draining = False
        self.share_bytes = MAX_UNSENT_BYTES
        """What may wait to be sent on each channel."""
        self._channels: set[_Channel] = set()
        self._peer = Peer(address, False, self._channel_opened)
        self._ended = asyncio.Event()
        self._answered = self._stopping = False
        worker.connections.add(self)
        self._life = asyncio.get_running_loop().create_task(self._live(offer, answer_offer))
        self._life.add_done_callback(lambda _: worker.lost(self))

    async def _live(self, offer: Description, answer_offer: Callable[[Description | None], None]) -> None:
        try:
            try:
                answer_offer(await self._peer.gather(offer.mid))
            except OSError:
                answer_offer(None)
                return
            self._answered = True
            if self.draining:
                return
            with contextlib.suppress(ProtocolError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._peer.connect(offer, self._ended.set)
                await self._ended.wait()
        finally:
            self._stopping = True
            await self._peer.stop()

    # Connection

    def answer(self, token: tuple["_Channel", Any], route: Route, answer: bytes) -> None:
        self.in_flight -= 1
        channel, request = token
        channel.answer(request, route, answer)
        if self.draining:
            self.drain()

    def drain(self) -> None:
        self.draining = True
        if not self._answered:
            return
        if not self._channels:
            self.abort()
        elif not self.in_flight:
            for channel in list(self._channels):
                channel.close()  # after what is still to be sent

    def abort(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._ended.set()  # for a cancellation can get lost (in the wait_for of Python 3.11)
            self._life.cancel()

    # Channels

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self.draining or len(self._channels) >= MAX_CHANNELS:
            channel.close()
            return
        try:
            opened = self._open(channel)
        except ServiceError as error:
            channel.send(f"{error.status} {error.message}")
            channel.close()
            return
        self._channels.add(opened)
        self.share_bytes = MAX_UNSENT_BYTES // len(self._channels)

    def _open(self, channel: RTCDataChannel) -> "_Channel":
        if channel.protocol == SUBPROTOCOL:
            return _Frames(self, channel)
        route = self.worker.service.route(b"/" + channel.label.removeprefix("/").encode())
        if route.other is not None and route.other.topic is not None:
            return _Events(self, channel, route)
        return _Messages(self, channel, route)

    def channel_closed(self, channel: "_Channel") -> None:
        """The channel has been closed, by either end."""
        self._channels.discard(channel)
        self.share_bytes = MAX_UNSENT_BYTES // max(1, len(self._channels))
        if self._peer.sctp.state == "closed" or (self.draining and not self._channels):
            self._ended.set()


class _Channel(ABC):
    """One data channel that is asked something."""

    def __init__(self, peer: WebrtcPeer, channel: RTCDataChannel) -> None:
        self._peer = peer
        self._channel = channel
        self._run = peer.worker.run
        self._counts = peer.worker.counts
        channel.on("message", self._received)
        channel.on("close", self._closed)

    @abstractmethod
    def _received(self, message: bytes | str) -> None:
        """A message has arrived."""

    @abstractmethod
    def answer(self, request: Any, route: Route, answer: bytes) -> None:
        """Send an answer; `request` is what the channel gave to `_start`."""

    def close(self) -> None:
        """Close the channel, after what is still to be sent."""
        self._channel.close()

    def _closed(self) -> None:
        self._peer.channel_closed(self)

    def _start(self, request: Any, route: Route, body: bytes) -> None:
        if route.receiver is not Collect:
            receiver = route.receiver()
            receiver.feed(body)
            body = receiver.finish()
        self._peer.in_flight += 1
        self._run(self._peer, (self, request), route, body)

    def _send(self, message: bytes | str) -> None:
        channel = self._channel
        if channel.readyState != "open":
            return
        if channel.bufferedAmount > self._peer.share_bytes:
            self._peer.abort()
            return
        channel.send(message)

    def _refuse(self, why: str) -> None:
        """There is no other way to tell a refusal from an answer than that it is the last message."""
        self._send(why)
        self.close()


class _Frames(_Channel):
    """Each message is a frame."""

    def __init__(self, peer: WebrtcPeer, channel: RTCDataChannel) -> None:
        super().__init__(peer, channel)
        self._subscriptions: list[FrameSubscription] = []
        self._inbox = peer.worker.inbox()
        channel.bufferedAmountLowThreshold = MAX_UNSENT_EVENT_BYTES
        channel.on("bufferedamountlow", self._drained)

    def _received(self, message: bytes | str) -> None:
        peer = self._peer
        if peer.draining:
            return
        try:
            if isinstance(message, str):
                raise ProtocolError("a text message is no frame", 400)
            code, a, b, frame_id, payload = decode_datagram(message)
            if is_status(code):
                raise ProtocolError("not a request", 400)
            if code == NAMED:
                method, path, payload = split_named(a, payload)
        except ProtocolError as error:
            self._unsubscribe()  # nothing comes behind the last frame
            self._send(encode_frame(error.code, NO_ID, str(error).encode(), flags=FATAL))
            self.close()
            return
        self._counts[REQUESTS] += 1
        try:
            service = peer.worker.service
            route = service.named(method, path) if code == NAMED else service.operation(code, a, b)
        except ServiceError as error:
            self._send(encode_frame(error.status, frame_id, error.message.encode()))
            return
        if peer.in_flight >= MAX_IN_FLIGHT:
            self._send(encode_frame(503, frame_id, b"more than %d requests are under way" % MAX_IN_FLIGHT))
            return
        self._start(frame_id, route, payload)

    def answer(self, request: bytes, route: Route, answer: bytes) -> None:
        longest = self._peer.max_message_bytes - HEADER_BYTES
        if isinstance(answer, Refused):
            self._send(encode_frame(answer.status, request, answer))
        elif route.topic is not None:
            self._subscribe(request, route.topic, route.after_id)
        elif len(answer) > longest:
            self._send(encode_frame(413, request, b"the answer is longer than %d bytes" % longest))
        else:
            self._send(encode_frame(OK, request, answer))

    def close(self) -> None:
        for subscription in self._subscriptions:
            for event in subscription.end(self._inbox):
                subscription.deliver(event)
            self._send(encode_frame(OK, subscription.frame_id, b""))
        self._subscriptions = []
        super().close()

    def _subscribe(self, frame_id: bytes, topic: Topic, after_id: int | None) -> None:
        if self._channel.readyState != "open":
            return
        self._send(encode_frame(OK, frame_id, b"", flags=MORE))
        subscription = FrameSubscription(frame_id, topic, self._push, self._peer.abort)
        self._subscriptions.append(subscription)
        topic.subscribe(subscription, self._inbox, after_id)

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            subscription.end(self._inbox)
        self._subscriptions = []

    def _push(self, frame: bytes) -> bool:
        """Send an event. Gives whether the next may follow at once."""
        self._send(frame)
        return self._channel.bufferedAmount <= MAX_UNSENT_EVENT_BYTES

    def _drained(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.drained(self._inbox)

    def _closed(self) -> None:
        self._unsubscribe()
        super()._closed()


class _Messages(_Channel):
    """Each message is the body of a request of one route. An answer is text if the request was and it can be."""

    def __init__(self, peer: WebrtcPeer, channel: RTCDataChannel, route: Route) -> None:
        super().__init__(peer, channel)
        self._route = route

    def _received(self, message: bytes | str) -> None:
        peer = self._peer
        if peer.draining:
            return
        self._counts[REQUESTS] += 1
        if peer.in_flight >= MAX_IN_FLIGHT:
            self._refuse(f"503 more than {MAX_IN_FLIGHT} requests are under way")
            return
        is_text = isinstance(message, str)
        self._start(is_text, self._route, message.encode() if isinstance(message, str) else message)

    def answer(self, request: bool, route: Route, answer: bytes) -> None:
        if isinstance(answer, Refused):
            self._refuse(f"{answer.status} {answer.decode()}")
        elif len(answer) > self._peer.max_message_bytes:
            self._refuse(f"413 the answer is longer than {self._peer.max_message_bytes} bytes")
        else:
            self._send(answer.decode() if request and route.opcode not in _BINARY_ONLY else answer)


class _Events(_Channel):
    """Text messages are published, and each event of the topic is delivered as one."""

    def __init__(self, peer: WebrtcPeer, channel: RTCDataChannel, route: Route) -> None:
        super().__init__(peer, channel)
        assert route.other is not None
        assert route.other.topic is not None
        self._publishing = route
        self._topic = route.other.topic
        self._inbox = peer.worker.inbox()
        channel.bufferedAmountLowThreshold = MAX_UNSENT_EVENT_BYTES
        channel.on("bufferedamountlow", lambda: self._topic.drained(self, self._inbox))
        self._topic.subscribe(self, self._inbox, route.other.after_id)

    def _received(self, message: bytes | str) -> None:
        if self._peer.draining:
            return
        self._counts[REQUESTS] += 1
        if isinstance(message, str):
            self._start(None, self._publishing, message.encode())
        else:
            self._refuse("400 events are text")

    def answer(self, request: None, route: Route, answer: bytes) -> None:
        if isinstance(answer, Refused):
            self._refuse(f"{answer.status} {answer.decode()}")

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self._send(event.data.decode(errors="replace"))
        return self._channel.bufferedAmount <= MAX_UNSENT_EVENT_BYTES

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        super().close()

    def close(self) -> None:
        for event in self._topic.unsubscribe(self, self._inbox):
            self.deliver(event)
        super().close()

    def _closed(self) -> None:
        self._topic.unsubscribe(self, self._inbox)
        super()._closed()
