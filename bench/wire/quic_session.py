"""One connection of HTTP/3 on an event loop, as far as both ends are alike: its timer, and when it sends.

What a connection has to send leaves once in a turn of the loop, after all that had arrived was read: with it go the
acknowledgements, and answers share packets.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset

from bench.errors import ProtocolError
from bench.wire.http3 import BlockReader, ControlStreams
from bench.wire.quic_connection import QuicPeer
from bench.wire.quic_socket import DatagramSocket
from bench.wire.quic_tickets import Tickets

_TIMER_GRAIN_S = 0.001
"""Timers of the loop are not finer than this."""

T = TypeVar("T")


class Http3Session(ABC, Generic[T]):
    """One end of a connection. Its user hands it datagrams, and calls `flush` when there are no more."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        blocks: BlockReader[T],
        original_destination_connection_id: bytes | None = None,
        tickets: Tickets | None = None,
    ) -> None:
        self.quic = QuicPeer(
            configuration, self._take_data, self._take_event, original_destination_connection_id, tickets
        )
        self.blocks = blocks
        self.control = ControlStreams(self.quic, blocks, configuration.is_client)
        self.ended = False
        """The connection is over; nothing more is sent or taken."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._due_at = 0.0
        self._flushing: asyncio.Handle | None = None
        self._datagram_socket: DatagramSocket

    # What the two ends differ in

    @abstractmethod
    def message_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """What arrives on the stream of a request or an answer. Raises ProtocolError."""

    @abstractmethod
    def message_reset(self, stream_id: int, event: StreamReset | StopSendingReceived) -> None:
        """The peer gave such a stream up, or wants no more of it. Raises ProtocolError if that ends the connection."""

    @abstractmethod
    def event_received(self, event: QuicEvent) -> None:
        """Anything else that QUIC tells."""

    @abstractmethod
    def control_received(self) -> None:
        """Something has come in on the control stream."""

    @abstractmethod
    def connection_ended(self, event: ConnectionTerminated) -> None:
        """The connection is over."""

    # Sending

    def flush_soon(self) -> None:
        """Send at the end of the loop's turn."""
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush_now)

    def flush(self, now: float) -> None:
        """Send what there is to send at `now` (seconds)."""
        if self.ended:
            return
        datagrams = self.quic.datagrams(now)
        if datagrams:
            self._datagram_socket.send(datagrams)
        due_at = self.quic.get_timer()
        if due_at is None:
            return
        self._due_at = due_at
        if self._timer is None or due_at < self._timer_at - _TIMER_GRAIN_S:
            self._arm()

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the protocol: say so, and be done with it (section 8)."""
        self.quic.close(error_code=error.code, reason_phrase=str(error))

    def end(self) -> None:
        """Nothing is sent or taken any more."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()

    # From QuicPeer

    def _take_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        try:
            if stream_id & 3 == 0:
                self.message_received(stream_id, data, is_end)
            elif stream_id & 2:
                self.control.feed(stream_id, data, is_end)
                self.control_received()
        except ProtocolError as error:
            self.fail(error)

    def _take_event(self, event: QuicEvent) -> None:
        if isinstance(event, StreamReset | StopSendingReceived):
            try:
                if event.stream_id & 3 == 0:
                    self.message_reset(event.stream_id, event)
                else:
                    self.control.closed(event.stream_id)
            except ProtocolError as error:
                self.fail(error)
        elif isinstance(event, ConnectionTerminated):
            if not self.ended:
                self.end()
                self.connection_ended(event)
        else:
            self.event_received(event)

    # The timer

    def _arm(self) -> None:
        # It is set anew only to go off earlier: one that goes off too early looks when it is really due.
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._due_at
        self._timer = self._loop.call_at(self._due_at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now < self._due_at:
            self._due_at = max(self._due_at, now + _TIMER_GRAIN_S)
            self._arm()
            return
        self.quic.wake(now)
        self.flush(now)

    def _flush_now(self) -> None:
        self._flushing = None
        self.flush(time.monotonic())
