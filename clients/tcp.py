"""The lean client of raw TCP: binary frames (see `bench.wire.frames`), answers in any order.

The good answer to an exchange is known but for its id. So bytes that are exactly such answers, with ids that are
waited for, are complete and checked by that comparison; whatever else comes is parsed.
"""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import ClassVar

from bench.contract import Exchange
from bench.errors import ProtocolError
from bench.load.client import ErrorKind
from bench.wire.frames import FATAL, MORE, NO_ID, OK, FrameReader, FrameShape, frame_ids, is_status


class TcpClient(FrameReader):
    """One connection."""

    transport_kind: ClassVar = "stream"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__()
        self.max_in_flight = 1 << 16
        self.closing = False
        self.outgoing: list[bytes] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._request = FrameShape(exchange.opcode, exchange.body, exchange.a, exchange.b)
        self._answer = FrameShape(OK, exchange.answer)
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()
        self._abandoned: set[bytes] = set()
        # The answer that is arriving: how much of its payload has come, and whether that is as it should be.
        self._expected = exchange.answer if check_content else None
        self._id = NO_ID
        self._status = 0
        self._more = False
        self._body_bytes = 0
        self._body_good = True
        self._completed: list[bytes] = []

    # Client

    def open(self) -> None:
        """The protocol has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        return ids, [self._request.encode(ids)]

    def feed(self, data: bytes) -> Sequence[Hashable]:
        if not self._inside:
            ids = self._answer.match(data)
            if ids is not None and self._waiting.issuperset(ids):
                before = len(self._waiting)
                self._waiting.difference_update(ids)
                if before - len(self._waiting) == len(ids):
                    return ids
                raise ProtocolError("an answer that came twice")
        ...
