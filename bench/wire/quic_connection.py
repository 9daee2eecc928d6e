"""A QUIC connection (RFC 9000) of aioquic's, with a short way for what nearly all packets of a running one are.

aioquic goes through every stream for every packet that it builds, and makes a header, a context, a buffer, a frame and
an event for each piece of a message. Most packets need none of that: they come over the path in use, under the keys in
use, and hold acknowledgements and data of streams; and messages that fit into one frame need no buffer to be put
together or cut up. `QuicPeer` reads and writes such packets itself, on aioquic's own state. Anything else (handshakes,
migration, key updates, losses, resets, flow control, errors) is left to aioquic: a packet that is not understood in
full is handed over as it came, or from the frame on that is not. After anything unusual the next packets are written
by aioquic, until nothing unusual is left to be said.

It rests on the inside of aioquic; `quic_writing.VERIFIED` says which releases it was checked with. With others,
`QuicPeer` leaves everything to aioquic: slower, and right.
"""

import logging
from collections.abc import Callable
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionError, QuicConnectionState, QuicReceiveContext
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame, decode_packet_number
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import FinalSizeError, QuicStream
from aioquic.tls import Epoch

from bench.wire.quic_tickets import Tickets
from bench.wire.quic_varint import read_varint
from bench.wire.quic_writing import ACK_DELAY_S, QuicWriter

MAX_STREAMS = 1 << 60
"""More streams than that cannot be numbered (RFC 9000, section 4.6)."""

_SAMPLE_AT, _SAMPLE_BYTES = 4, 16
"""What header protection is made from: this far behind the start of the packet number (RFC 9001, section 5.4.2)."""

# What peers do wrong is told by events; aioquic's log of it is for whoever asks for one.
logging.getLogger("quic").addHandler(logging.NullHandler())


class QuicPeer(QuicWriter):
    """One end of a connection. `receive` calls `on_data(stream_id, data, is_end)` for what arrives on streams, in order
    for each stream, and `on_event` with every other event; neither may raise."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        on_data: Callable[[int, bytes, bool], None],
        on_event: Callable[[QuicEvent], None],
        original_destination_connection_id: bytes | None = None,
        tickets: Tickets | None = None,
    ) -> None:
        super().__init__(configuration, original_destination_connection_id, tickets)
        self._on_data = on_data
        self._on_event = on_event
        self._cid_bytes = configuration.connection_id_length

    @property
    def has_begun(self) -> bool:
        """Some packet of the peer could be decrypted. For servers."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def is_closing(self) -> bool:
        """The connection is closed, or is about to be."""
        return self._close_event is not None

    @property
    def close_event(self) -> ConnectionTerminated | None:
        """Why the connection is closed, or is about to be."""
        return self._close_event

    @property
    def probe_timeout_s(self) -> float:
        """How long what was sent may take to be acknowledged before a probe is sent (RFC 9002, section 6.2)."""
        return self._loss.get_probe_timeout()

    @property
    def expects_acknowledgement(self) -> bool:
        """Something that was sent is to be acknowledged."""
        return any(space.ack_eliciting_in_flight for space in self._spaces.values())

    def resend_all(self, now: float) -> None:
        """What was sent of streams and is not acknowledged is sent again, for it was not taken: as early data, or where
        the peer is no longer. That says nothing of the path's capacity."""
        self._loss.forget(self._spaces[Epoch.ONE_RTT], now)
        self._unusual = True

    def receive(self, data: bytes, address: Any, now: float) -> None:
        """Take a datagram that came in at `now` (seconds)."""
        paths = self._network_paths
        if (
            self._handshake_confirmed
            and self._is_verified
            and data[0] < 0x80
            and self._close_event is None
            and self._state is QuicConnectionState.CONNECTED
            and paths[0].addr == address
            and paths[0].is_validated
            and self._receive_quickly(data, now)
        ):
            return
        self._unusual = True
        before = paths[0].addr if paths else None
        self.receive_datagram(data, address, now)
        if self._handshake_confirmed:
            if self._is_client and data[0] < 0x80:
                self._follow(data[1 : 1 + self._cid_bytes])
            elif before is not None and self._network_paths[0].addr != before:
                self._moved(before, now)
        self.tell()

    def wake(self, now: float) -> None:
        """A timer is due."""
        self.handle_timer(now)
        if self._probe_pending or self._loss.lost:
            self._unusual = True
        self.tell()

    def tell(self) -> None:
        """Pass aioquic's events on."""
        events = self._events
        while events:
            event = events.popleft()
            if type(event) is StreamDataReceived:
                self._on_data(event.stream_id, event.data, event.end_stream)
            else:
                self._on_event(event)

    def _moved(self, before: Any, now: float) -> None:
        """The peer sends from another address now (RFC 9000, section 9)."""
        self.resend_all(now)
        if self._network_paths[0].addr[0] != before[0]:  # another port alone is mostly a NAT's, on the same path
            self._loss.begin_anew(self._configuration)

    def _follow(self, cid: bytes) -> None:
        """The server uses another of our connection IDs, as it does when it has seen us move. aioquic's client does not
        mind which of them it is, and the short way knows one."""
        if cid != self.host_cid and any(own.cid == cid for own in self._host_cids):
            self.host_cid = cid

    def _receive_quickly(self, data: bytes, now: float) -> bool:
        """Take a packet with a short header. False if it is aioquic's to take; nothing has changed then."""
        crypto = self._cryptos_one_rtt.recv
        number_at = 1 + self._cid_bytes
        cid = data[1:number_at]
        sample_at = number_at + _SAMPLE_AT
        if cid != self.host_cid or len(data) < sample_at + _SAMPLE_BYTES or crypto.aead is None or crypto.hp is None:
            return False
        mask = crypto.hp._mask(data[sample_at : sample_at + _SAMPLE_BYTES])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0x18 or (first & 4) >> 2 != crypto.key_phase:  # reserved bits; a key update
            return False
        number_bytes = (first & 3) + 1
        payload_at = number_at + number_bytes
        truncated = int.from_bytes(data[number_at:payload_at], "big")
        truncated ^= int.from_bytes(mask[1 : 1 + number_bytes], "big")
        space = self._space_one_rtt
        number = decode_packet_number(truncated, 8 * number_bytes, space.expected_packet_number)
        header = bytes((first,)) + cid + truncated.to_bytes(number_bytes, "big")
        try:
            payload = crypto.aead.decrypt(data[payload_at:], header, number)
        except ValueError:  # aioquic's CryptoError
            return False
        if number in space.received_packets:
            return True
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & 0x20) != self._is_client
            self._spin_highest_pn = number
        try:
            is_ack_eliciting = self._read_frames(payload, now)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            is_ack_eliciting = False
        if self._close_event is not None:
            self.tell()
            return True
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if is_ack_eliciting:
            # At least every second packet is to be acknowledged at once (section 13.2.2): with this batch of them.
            space.ack_at = now + ACK_DELAY_S if space.ack_at is None else now
        return True

    def _read_frames(self, payload: bytes, now: float) -> bool:
        """Whether the packet with these frames asks for an acknowledgement. Raises QuicConnectionError."""
        at, size, is_ack_eliciting = 0, len(payload), False
        if not payload:
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Packet contains no frames"
            )
        while at < size:
            end = 0
            kind = payload[at]
            if kind & 0xF8 == 8:
                end = self._read_stream(payload, at)
                is_ack_eliciting = is_ack_eliciting or end > 0
            elif kind == QuicFrameType.ACK:
                end = self._read_ack(payload, at, now)
            elif kind == QuicFrameType.MAX_STREAMS_BIDI:
                end = self._read_max_streams(payload, at)
                is_ack_eliciting = is_ack_eliciting or end > 0
            elif kind == QuicFrameType.PADDING:
                end = at + 1
            if end == 0 or self._close_event is not None:
                break
            at = end
        if at < size and self._close_event is None:
            self._unusual = True
            context = QuicReceiveContext(
                epoch=Epoch.ONE_RTT,
                host_cid=self.host_cid,
                network_path=self._network_paths[0],
                quic_logger_frames=None,
                time=now,
                version=None,
            )
            try:
                is_ack_eliciting = self._payload_received(context, payload[at:])[0] or is_ack_eliciting
            finally:
                self.tell()
        return is_ack_eliciting

    def _read_ack(self, payload: bytes, at: int, now: float) -> int:
        """The end of an ACK frame of one range; 0 if it is aioquic's to read."""
        try:
            largest, at = read_varint(payload, at + 1)
            delay, at = read_varint(payload, at)
            others, at = read_varint(payload, at)
            length, at = read_varint(payload, at)
        except IndexError:
            return 0
        if others or length > largest:
            return 0
        self._loss.on_ack_received(
            ack_rangeset=RangeSet((range(largest - length, largest + 1),)),
            ack_delay=(delay << self._remote_ack_delay_exponent) / 1_000_000,
            now=now,
            space=self._space_one_rtt,
        )
        if self._loss.lost:
            self._unusual = True
        return at

    def _read_max_streams(self, payload: bytes, at: int) -> int:
        """The end of a MAX_STREAMS frame; 0 if it is aioquic's to read, as it is if streams wait for it."""
        try:
            maximum, at = read_varint(payload, at + 1)
        except IndexError:
            return 0
        if maximum > MAX_STREAMS or self._streams_blocked_bidi:
            return 0
        self._remote_max_streams_bidi = max(maximum, self._remote_max_streams_bidi)
        return at

    def _read_stream(self, payload: bytes, at: int) -> int:
        """The end of a STREAM frame; 0 if it is aioquic's to read."""
        kind, offset = payload[at], 0
        try:
            stream_id, at = read_varint(payload, at + 1)
            if kind & 4:
                offset, at = read_varint(payload, at)
            if kind & 2:
                length, at = read_varint(payload, at)
                end = at + length
            else:
                end = len(payload)
                length = end - at
        except IndexError:
            return 0
        total = self._local_max_data
        stream = self._streams.get(stream_id)
        if stream is None:
            limit = self._local_max_streams_bidi
            if (
                stream_id & 3  # no request
                or self._is_client
                or stream_id != limit.used * 4  # not the next
                or limit.used >= limit.value
            ):
                return 0
            if end > len(payload) or length > self._local_max_stream_data_bidi_remote:
                return 0
            if offset or total.used + length > total.value:
                return 0
            stream = self._streams[stream_id] = QuicStream(
                stream_id, self._local_max_stream_data_bidi_remote, self._remote_max_stream_data_bidi_local
            )
            limit.used += 1
        receiver = stream.receiver
        highest = receiver.highest_offset
        newly = offset + length - highest
        if newly < 0:
            newly = 0
        if end > len(payload) or offset + length > stream.max_stream_data_local or total.used + newly > total.value:
            return 0
        data = payload[at:end]
        if offset == 0 and kind & 1 and highest == 0 and receiver._final_size is None:
            # All of the message: there is nothing to put together.
            receiver.highest_offset = receiver._buffer_start = receiver._final_size = length
            receiver.is_finished = True
            total.used += newly
            if stream.sender.is_finished:
                self._discard(stream)
            self._on_data(stream_id, data, True)
            return end
        try:
            event = receiver.handle_frame(QuicStreamFrame(data=data, fin=bool(kind & 1), offset=offset))
        except FinalSizeError as error:
            raise QuicConnectionError(QuicErrorCode.FINAL_SIZE_ERROR, kind, str(error)) from None
        total.used += newly
        if self._is_low_on_credit(stream) and not receiver.is_finished:
            self._unusual = True
        if event is not None:
            if receiver.is_finished and stream.sender.is_finished:
                self._discard(stream)
            self._on_data(stream_id, event.data, event.end_stream)
        return end
