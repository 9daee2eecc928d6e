"""The lean client of raw UDP: a request and its answer are a datagram each (see `bench.wire.frames`)."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import ClassVar, Literal, cast

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError, UnsupportedError
from bench.wire.frames import MAX_DATAGRAM_PAYLOAD_BYTES, OK, decode_datagram, frame_ids, is_status, shape_of


class UdpClient:
    """One socket. A lost datagram is an exchange that the engine gives up on; an answer that comes late, or twice, is
    ignored."""

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
        self._request = shape_of(exchange.opcode, exchange.body, exchange.a, exchange.b)
        self._answer = shape_of(OK, exchange.answer)
        self._expected = exchange.answer if check_content else None
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()

    def open(self) -> None:
        """The protocol has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        return ids, list(map(self._request.encode_one, ids))

    def feed(self, data: bytes) -> Sequence[Hashable]:
        expected_id = self._answer.match_one(data)
        if expected_id in self._waiting:
            self._waiting.remove(expected_id)
            return (expected_id,)
        status, _, _, frame_id, payload = decode_datagram(data)
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

    def abandon(self, exchange_id: Hashable) -> bool:
        self._waiting.discard(cast(bytes, exchange_id))
        return True
