"""The short way of writing packets of a QUIC connection; see `bench.wire.quic_connection`, which reads them."""

import math
from typing import Any

import aioquic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import create_congestion_control
from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, Limit, QuicConnection, QuicNetworkPath
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import AlertIllegalParameter, CipherSuite, Direction, Epoch

from bench.wire.priorities import DEFAULT_URGENCY
from bench.wire.quic_tickets import Tickets
from bench.wire.quic_varint import encode_varint

VERIFIED = ((1, 7), (1, 8))
"""The first release of aioquic that the short way was checked with, and the first after them that it was not."""

MAX_DATAGRAM_BYTES = 1200
"""The payload of a UDP datagram: what every path carries (RFC 9000, section 14), and what aioquic sends by itself."""

ACK_DELAY_S = 0.008
"""How long one packet may wait to be acknowledged along with an answer; below the 25 ms that aioquic announces."""

_HEAD_BYTES = 11
"""What stands before the data in the STREAM frame of a whole message, at most."""

_WHOLE_BYTES = MAX_DATAGRAM_BYTES - 64
"""The longest message that is sure to be whole in a packet that has nothing else."""

_LEAST_BYTES = 32
"""With less room in a packet, it is full."""


def _is_verified() -> bool:
    first, after = VERIFIED
    return first <= tuple(int(part) for part in aioquic.__version__.split(".")[:2]) < after


class _Recovery(QuicPacketRecovery):
    """aioquic's, which tells whether packets were lost, and can forget paths."""

    lost = False

    def forget(self, space: QuicPacketSpace, now: float) -> None:
        """All packets of a space that are not acknowledged never reached anybody."""
        self._pto_count = 0
        self._on_packets_lost(congestion_event=False, now=now, packets=tuple(space.sent_packets.values()), space=space)

    def begin_anew(self, configuration: QuicConfiguration) -> None:
        """Nothing is known of the path any more (RFC 9000, section 9.4). Nothing may be in flight."""
        algorithm = configuration.congestion_control_algorithm
        self._cc = create_congestion_control(algorithm, max_datagram_size=self._pacer._max_datagram_size)
        self._rtt_initialized = False
        self._rtt_min = math.inf

    def _on_packets_lost(self, **options: Any) -> None:
        if options["packets"]:
            self.lost = True
        super()._on_packets_lost(**options)


class QuicWriter(QuicConnection):
    """A connection that writes: what it is given to send leaves with the next `datagrams`."""

    _loss: _Recovery

    def __init__(
        self,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes | None,
        tickets: Tickets | None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            session_ticket_fetcher=None if tickets is None else tickets.take,
            session_ticket_handler=None if tickets is None else tickets.keep,
        )
        self._takes_early_data = tickets is not None and tickets.takes_early_data
        self._is_verified = _is_verified()
        self._ack_delay = ACK_DELAY_S
        self._loss = _Recovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=self._max_datagram_size,
            peer_completed_address_validation=not self._is_client,
            send_probe=self._send_probe,
            logger=self._logger,
        )
        # Streams with something to send: a whole message that is not yet in the stream's buffer, or None.
        self._to_send: dict[QuicStream, bytes | None] = {}
        # The next packets are aioquic's to write.
        self._unusual = True
        self._urgencies: dict[int, int] = {}
        """Those of streams that are more urgent than most, or less (see `prioritise`)."""
        self._window_bytes: int | None = None
        self._held: set[int] = set()
        # Those of packets with a short header, once the handshake is confirmed.
        self._cryptos_one_rtt: CryptoPair
        self._space_one_rtt: QuicPacketSpace

    # What to send

    @property
    def free_streams(self) -> int:
        """How many more bidirectional streams the peer allows to be opened now."""
        return self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4

    def allow_streams(self, count: int) -> None:
        """Let the peer have so many bidirectional streams open. To be called before anything was received."""
        self._local_max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", count)

    def limit_windows(self, window_bytes: int) -> None:
        """Let the peer be so far ahead on each bidirectional stream, rather than farther and farther; streams can be
        held from then on. To be called before anything was sent or received."""
        self._window_bytes = window_bytes
        self._local_max_stream_data_bidi_local = self._local_max_stream_data_bidi_remote = window_bytes

    def hold(self, stream_id: int) -> None:
        """Give the peer no more credit on a stream for now: of its window at most comes what has not come yet."""
        self._held.add(stream_id)

    def release(self, stream_id: int) -> None:
        """Hold a stream no more, whether it was held or not."""
        if stream_id in self._held:
            self._held.remove(stream_id)
            self._unusual = True

    @property
    def next_peer_stream_id(self) -> int:
        """The bidirectional stream that the peer has not yet opened, of those the lowest. For servers."""
        return self._local_max_streams_bidi.used * 4

    @property
    def has_messages(self) -> bool:
        """Some bidirectional stream is not over for both ends."""
        return any(not stream_id & 2 for stream_id in self._streams)

    def unsent_bytes(self, stream_id: int) -> int:
        """How much of what was given to a stream is not yet acknowledged; 0 if it was reset."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        return stream.sender._buffer_stop - stream.sender._buffer_start

    def open_with(self, data: bytes) -> int:
        """Open a bidirectional stream with a whole message, which ends it. Gives the stream's id."""
        stream_id = self._local_next_stream_id_bidi
        if not self._is_verified or stream_id // 4 >= self._remote_max_streams_bidi:
            self.send_stream_data(stream_id, data, end_stream=True)
            return stream_id
        stream = self._streams[stream_id] = QuicStream(
            stream_id, self._local_max_stream_data_bidi_local, self._remote_max_stream_data_bidi_remote
        )
        self._local_next_stream_id_bidi = stream_id + 4
        self._to_send[stream] = data
        return stream_id

    def finish_with(self, stream_id: int, data: bytes) -> None:
        """Send the rest of a message on a stream, and end it. Does nothing if the stream is gone, or was reset."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._buffer_stop == 0 and self._is_verified:
            if stream.sender._reset_error_code is None:
                self._to_send[stream] = data
        else:
            self.write(stream_id, data, True)

    def write(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """Send data on a stream. Does nothing if it is gone, or was reset."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._reset_error_code is None:
            self.send_stream_data(stream_id, data, is_end)

    def prioritise(self, stream_id: int, urgency: int) -> None:
        """What is to be sent on a stream goes before what is of a higher urgency, and after that of a lower one (RFC
        9218, section 10); streams that nothing is said of have DEFAULT_URGENCY."""
        if urgency != DEFAULT_URGENCY:
            self._urgencies[stream_id] = urgency

    def cancel(self, stream_id: int, code: int) -> None:
        """Reset a stream and ask the peer to send no more on it. Does nothing if it is gone."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.reset_stream(stream_id, code)
            if not stream.receiver.is_finished:
                self.stop_stream(stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        """Ask the peer to send no more on a stream. Does nothing if it is gone, or complete."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, code)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        super().send_stream_data(stream_id, data, end_stream)
        stream = self._streams[stream_id]
        if stream.is_blocked:
            self._unusual = True
        else:
            self._to_send.setdefault(stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self._keep_whole_messages()
        self._unusual = True
        super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self._unusual = True
        super().stop_stream(stream_id, error_code)

    # Writing

    def datagrams(self, now: float) -> list[tuple[bytes, Any]]:
        """What is to be sent at `now` (seconds), each with the address that it is for."""
        if (
            self._is_usual()
            and not self._to_send
            and not self._is_ack_due(now)
            and not self._is_credit_due()
            and self._close_event is None
            and len(self._network_paths) == 1
        ):
            self._pacing_at = None
            return []
        return self.datagrams_to_send(now)

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        if self._is_usual():
            self._write_quickly(builder, now)
            return
        self._keep_whole_messages()
        self._streams_queue = sorted(self._streams.values(), key=self._urgency)
        try:
            super()._write_application(builder, network_path, now)
        finally:
            self._loss.lost = False
            self._look_round(network_path)

    def _look_round(self, network_path: QuicNetworkPath) -> None:
        """Find out what is left to be sent, and whether any of it is unusual."""
        self._unusual = bool(
            not self._handshake_confirmed
            or not network_path.is_validated
            or network_path.remote_challenges
            or self._handshake_done_pending
            or self._probe_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
            or not all(cid.was_sent for cid in self._host_cids)
        )
        if self._urgencies:
            self._urgencies = {key: self._urgencies[key] for key in self._urgencies.keys() & self._streams.keys()}
        self._to_send = {}
        for stream in self._streams.values():
            sender, receiver = stream.sender, stream.receiver
            if (
                sender._reset_error_code is not None  # until the stream is over, which only aioquic's way finds out
                or receiver._stop_error_code is not None
                or stream.max_stream_data_local_sent != stream.max_stream_data_local
            ):
                self._unusual = True
            if not (sender.buffer_is_empty or stream.is_blocked):
                self._to_send[stream] = None

    def _is_usual(self) -> bool:
        return self._is_verified and not (self._unusual or self._ping_pending or self._datagrams_pending)

    def _is_ack_due(self, now: float) -> bool:
        return self._space_one_rtt.ack_at is not None and self._space_one_rtt.ack_at <= now

    def _is_credit_due(self) -> bool:
        """Whether the peer is to be told that it may send more, or open more streams."""
        data, bidi, uni = self._local_max_data, self._local_max_streams_bidi, self._local_max_streams_uni
        return (
            data.used * 2 > data.value
            or data.value != data.sent
            or bidi.sent - bidi.used < bidi.value - bidi.sent
            or uni.sent - uni.used < uni.value - uni.sent
        )

    def _write_quickly(self, builder: QuicPacketBuilder, now: float) -> None:
        """Write acknowledgements, credit and streams."""
        space, crypto, pacer = self._space_one_rtt, self._cryptos_one_rtt, self._loss._pacer
        self._streams_queue.clear()
        is_credit_due = self._is_credit_due()
        while is_credit_due or self._to_send or self._is_ack_due(now):
            if not self._is_ack_due(now):
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if space.ack_at is not None:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if is_credit_due:
                self._write_connection_limits(builder=builder, space=space)
                is_credit_due = False
            self._write_streams(builder)
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)

    def _write_streams(self, builder: QuicPacketBuilder) -> None:
        """Fill the packet."""
        to_send = self._to_send
        buffer, packet = builder._buffer, builder._packet
        assert packet is not None
        room = builder.remaining_flight_space
        credit = self._remote_max_data - self._remote_max_data_used
        waiting = list(to_send.items())
        if self._urgencies:
            waiting.sort(key=lambda one: self._urgency(one[0]))
        for stream, data in waiting:
            stream_id = stream.stream_id
            assert stream_id is not None
            if data is not None:
                size = len(data)
                allowed = size <= credit and size <= stream.max_stream_data_remote
                if allowed and size + _HEAD_BYTES <= room:
                    frame = b"\x0b" + encode_varint(stream_id) + (size | 0x4000).to_bytes(2, "big") + data
                    buffer.push_bytes(frame)
                    room -= len(frame)
                    credit -= size
                    self._remote_max_data_used += size
                    sender = stream.sender
                    sender.highest_offset = sender._buffer_stop = sender._buffer_fin = size
                    packet.delivery_handlers.append((self._on_message_delivery, (stream, data)))
                    packet.is_ack_eliciting = packet.in_flight = True
                    del to_send[stream]
                    continue
                if allowed and (
                    size <= MAX_DATAGRAM_BYTES // 2 or (room < MAX_DATAGRAM_BYTES // 4 and size <= _WHOLE_BYTES)
                ):
                    return  # it is whole in the next packet
                stream.sender.write(data, True)
                to_send[stream] = None
            if room < _LEAST_BYTES:
                return
            sender = stream.sender
            before = sender.highest_offset
            try:
                used = self._write_stream_frame(
                    builder, self._space_one_rtt, stream, min(before + credit, stream.max_stream_data_remote)
                )
            except QuicPacketBuilderStop:
                return
            credit -= used
            self._remote_max_data_used += used
            if sender.buffer_is_empty or (not sender._pending_eof and not len(sender._pending)):
                sender.buffer_is_empty = True
                del to_send[stream]
            elif used:
                to_send[stream] = to_send.pop(stream)  # the others come first
            room = builder.remaining_flight_space

    def _urgency(self, stream: QuicStream) -> int:
        assert stream.stream_id is not None
        return self._urgencies.get(stream.stream_id, DEFAULT_URGENCY)

    def _keep_whole_messages(self) -> None:
        """Put the messages that wait to be sent as a whole into the buffers of their streams."""
        for stream, data in self._to_send.items():
            if data is not None:
                self._to_send[stream] = None
                if stream.sender._reset_error_code is None:
                    stream.sender.write(data, True)

    def _on_message_delivery(self, delivery: QuicDeliveryState, stream: QuicStream, data: bytes) -> None:
        """A frame that held all that was sent on a stream was acknowledged, or lost."""
        sender = stream.sender
        if delivery is not QuicDeliveryState.ACKED:
            if sender._reset_error_code is None:
                sender._buffer += data
                sender.on_data_delivery(delivery, 0, len(data), True)
        elif sender._reset_error_code is None:
            sender.is_finished = True
            if stream.receiver.is_finished:
                self._discard(stream)

    def _discard(self, stream: QuicStream) -> None:
        """A stream is over for both ends."""
        stream_id = stream.stream_id
        assert stream_id is not None
        self._urgencies.pop(stream_id, None)
        if self._streams.pop(stream_id, None) is not None and not self._is_client and not stream_id & 3:
            self._local_max_streams_bidi.value += 1

    def _is_low_on_credit(self, stream: QuicStream) -> bool:
        """Whether the peer is to be told that it may send more on a stream."""
        receiver = stream.receiver
        if self._window_bytes is None:
            return receiver.highest_offset * 2 > stream.max_stream_data_local
        if receiver.is_finished or stream.stream_id in self._held:
            return False
        return (stream.max_stream_data_local - receiver.starting_offset()) * 2 < self._window_bytes

    # aioquic

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if self._window_bytes is None:
            super()._write_stream_limits(builder, space, stream)
            return
        if self._is_low_on_credit(stream):
            stream.max_stream_data_local = stream.receiver.starting_offset() + self._window_bytes
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            assert stream.stream_id is not None
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream, max_offset: int
    ) -> int:
        assert builder._packet is not None
        handlers = builder._packet.delivery_handlers
        before = len(handlers)
        used = super()._write_stream_frame(builder, space, stream, max_offset)
        if len(handlers) > before:
            handlers[-1] = (self._on_frame_delivery, (stream, *handlers[-1][1]))
        return used

    def _on_frame_delivery(
        self, delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, fin: bool
    ) -> None:
        """A frame with a part of what was sent on a stream was acknowledged, or lost."""
        stream.sender.on_data_delivery(delivery, start, stop, fin)
        if stream.sender.is_finished and stream.receiver.is_finished:
            self._discard(stream)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if not (self._is_client or self._takes_early_data):
            self.tls._max_early_data = None  # what tickets say of it; aioquic's would always allow it

    def _update_traffic_key(self, direction: Direction, epoch: Epoch, cipher_suite: CipherSuite, secret: bytes) -> None:
        if epoch is Epoch.ZERO_RTT and not (self._is_client or self._takes_early_data):
            # aioquic accepts early data with any ticket, and clients may send it only where the ticket allows it (RFC
            # 8446, section 4.2.10).
            raise AlertIllegalParameter("early data that the ticket did not allow")
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        self._cryptos_one_rtt = self._cryptos[Epoch.ONE_RTT]
        self._space_one_rtt = self._spaces[Epoch.ONE_RTT]
        self._unusual = True
