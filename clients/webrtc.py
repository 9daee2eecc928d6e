"""The clients of WebRTC data channels: each request and each answer is a frame in a message (see
`bench.wire.webrtc_signalling`)."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import ClassVar, cast

from aiortc import RTCDataChannelParameters

from bench.contract import Exchange
from bench.errors import ProtocolError, UnsupportedError
from bench.wire.frames import HEADER_BYTES, ID, OK, SUBPROTOCOL, decode_datagram, frame_ids, is_status, shape_of
from bench.wire.webrtc_signalling import MAX_PAYLOAD_BYTES
from clients.webrtc_connection import FrameChannel

_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""What may be under way either way: data channels do not push back, so the number of exchanges has to."""


class WebrtcClient(FrameChannel):
    """One connection with one data channel, ordered and reliable."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        """Raises UnsupportedError if the request or its answer cannot fit into a message."""
        super().__init__(authority)
        largest = max(len(exchange.body), len(exchange.answer))
        if largest > MAX_PAYLOAD_BYTES:
            raise UnsupportedError(
                f"webrtc carries each request and each answer in one message, with a payload of at most"
                f" {MAX_PAYLOAD_BYTES} bytes; choose a smaller --payload, or websocket"
            )
        self.max_in_flight = max(1, min(1 << 16, _IN_FLIGHT_BYTES // (HEADER_BYTES + largest)))
        self._around_request = shape_of(exchange.opcode, exchange.body, exchange.a, exchange.b).around
        self._around_answer = shape_of(OK, exchange.answer).around
        self._expected = exchange.answer if check_content else None
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        around = self._around_request
        if count == 1:
            frame_id = next(self._ids)
            self._waiting.add(frame_id)
            self._send(frame_id.join(around))
            return (frame_id,), []
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        for frame_id in ids:
            self._send(frame_id.join(around))
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        self._waiting.discard(cast(bytes, exchange_id))
        return True

    # FrameChannel

    def _take(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            frame_id = message[ID]
            if frame_id in self._waiting and frame_id.join(self._around_answer) == message:
                self._waiting.remove(frame_id)
                self._link.answered((frame_id,))
                return
        self._look_closer(message)

    def _look_closer(self, message: bytes | str) -> None:
        """An answer that is not the one expected, nor waited for."""
        if isinstance(message, str):
            raise ProtocolError("a text message is no frame")
        status, _, _, frame_id, payload = decode_datagram(message)
        if not is_status(status):
            raise ProtocolError("not an answer")
        if frame_id not in self._waiting:
            return
        self._waiting.remove(frame_id)
        if status != OK:
            self.failures.append((frame_id, "status"))
        elif self._expected is not None and payload != self._expected:
            self.failures.append((frame_id, "content"))
        else:
            self._link.answered((frame_id,))
            return
        self._link.answered(())


class UnreliableWebrtcClient(WebrtcClient):
    """One connection with one data channel, unordered and without retransmission: a lost message is an exchange that
    the engine gives up on."""

    channel_parameters: ClassVar = RTCDataChannelParameters(
        label=SUBPROTOCOL, protocol=SUBPROTOCOL, ordered=False, maxRetransmits=0
    )
