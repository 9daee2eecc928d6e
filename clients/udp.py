"""The lean client of raw UDP: a request and its answer are a datagram each (see `bench.wire.frames`)."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import ClassVar, Literal, cast

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError, UnsupportedError
from bench.wire.frames import ID, MAX_DATAGRAM_PAYLOAD_BYTES, OK, decode_datagram, frame_ids, is_status, shape_of


class UdpClient:
    """One socket. A lost datagram is an exchange that the engine gives up on; an answer that comes late, or twice, is
    ignored."""

    alpn: ClassVar[tuple[str, ...]] = ()
    transport_kind: ClassVar[Literal["stream", "datagram"]] = "datagram"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        """Raises UnsupportedError if the request or its answer cannot fit into a datagram."""
        if max(len(exchange.body), len(exchange.answer)) > MAX_DATAGRAM_PAYLOAD_BYTES:
            raise UnsupportedError(
                f"udp carries each request and each answer in one datagram, with a payload of at most"
                f" {MAX_DATAGRAM_PAYLOAD_BYTES} bytes; choose a smaller --payload, or tcp"
            )
        self.max_in_flight = 1 << 16
        self.closing = False
        self.outgoing: list[bytes] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._around_request = shape_of(exchange.opcode, exchange.body, exchange.a, exchange.b).around
        self._around_answer = shape_of(OK, exchange.answer).around
        self._expected = exchange.answer if check_content else None
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()

    def open(self) -> None:
        """The protocol has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        around = self._around_request
        if count == 1:
            frame_id = next(self._ids)
            self._waiting.add(frame_id)
            return (frame_id,), [frame_id.join(around)]
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        return ids, [frame_id.join(around) for frame_id in ids]

    def feed(self, data: bytes) -> Sequence[Hashable]:
        frame_id = data[ID]
        if frame_id in self._waiting and frame_id.join(self._around_answer) == data:
            self._waiting.remove(frame_id)
            return (frame_id,)
        status, _, _, _, payload = decode_datagram(data)
        if not is_status(status):
            raise ProtocolError("not an answer")
        if frame_id not in self._waiting:
            return ()
        self._waiting.remove(frame_id)
        if status != OK:
            self.failures.append((frame_id, "status"))
        elif self._expected is not None and payload != self._expected:
            self.failures.append((frame_id, "content"))
        else:
            return (frame_id,)
        return ()

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        self._waiting.discard(cast(bytes, exchange_id))
        return True
