"""The lean client of raw TCP: binary frames (see `bench.wire.frames`), answers in any order.

The good answer to an exchange is known but for its id. So bytes that are exactly such answers, with ids that are
waited for, are complete and checked by that comparison; whatever else comes is parsed.
"""

from collections.abc import Callable, Hashable, Sequence
from itertools import islice, repeat
from typing import ClassVar, Literal, cast

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.wire.frames import FATAL, ID, MORE, NO_ID, OK, FrameReader, frame_ids, is_status, shape_of


class TcpClient(FrameReader):
    """One connection."""

    alpn: ClassVar[tuple[str, ...]] = ()
    transport_kind: ClassVar[Literal["stream", "datagram"]] = "stream"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__()
        self.max_in_flight = 1 << 16
        self.closing = False
        self.outgoing: list[bytes] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._request = shape_of(exchange.opcode, exchange.body, exchange.a, exchange.b)
        self._answer = answer = shape_of(OK, exchange.answer)
        self._answer_bytes, self._around = answer.frame_bytes, answer.around
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()
        self._abandoned: set[bytes] = set()
        # The answer that is arriving: its frame, how much of its payload has come, and whether that is as it should be.
        self._expected = exchange.answer if check_content else None
        self._id = NO_ID
        self._status = 0
        self._more = False
        self._mid_answer = False
        self._body_bytes = 0
        self._body_good = True
        self._completed: list[bytes] = []

    # Client

    def open(self) -> None:
        """The protocol has no greeting."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        if count == 1:
            frame_id = next(self._ids)
            self._waiting.add(frame_id)
            return (frame_id,), [frame_id.join(self._request.around)]
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        return ids, [self._request.encode(ids)]

    def feed(self, data: bytes) -> Sequence[Hashable]:
        if not self._mid_answer:
            frame_id = data[ID]
            if len(data) == self._answer_bytes and frame_id in self._waiting and frame_id.join(self._around) == data:
                self._waiting.remove(frame_id)
                return (frame_id,)
            ids = self._answer.match(data)
            if ids and self._take(ids):
                return ids
        return self._parse_answers(data)

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> tuple[bytes, Callable[[], bytes]] | None:
        if self._mid_answer or len(self._waiting) != 1:
            return None
        (frame_id,) = self._waiting
        return frame_id.join(self._around), repeat(frame_id.join(self._request.around)).__next__

    def abandon(self, exchange_id: Hashable) -> bool:
        frame_id = cast(bytes, exchange_id)
        self._waiting.remove(frame_id)
        self._abandoned.add(frame_id)
        return True

    def _take(self, ids: list[bytes]) -> bool:
        """End the wait for these answers, if all are waited for and none is there twice."""
        waiting = self._waiting
        if not waiting.issuperset(ids):
            return False
        left = len(waiting) - len(ids)
        waiting.difference_update(ids)
        if len(waiting) == left:
            return True
        waiting.update(ids)
        return False

    # Answers that are not as expected, or not whole

    def _parse_answers(self, data: bytes) -> Sequence[Hashable]:
        self._completed = []
        try:
            self.parse(data)
        except ProtocolError:
            if not (self._completed or self.failures):
                raise
            # What was over before the error stays so; what is still due has failed.
            self.closing = True
            self.failures.extend((frame_id, "protocol") for frame_id in self._waiting)
            self._waiting.clear()
        self._mid_answer = self.mid_frame or self._more
        return self._completed

    # FrameReader

    def frame_begun(self, flags: int, code: int, a: int, b: int, frame_id: bytes) -> None:
        if flags & FATAL or not is_status(code):
            raise ProtocolError(f"the server gave up with status {code}" if flags & FATAL else "not an answer")
        if self._more and (frame_id, code) != (self._id, self._status):
            raise ProtocolError("a frame between the pieces of another answer")
        self._id, self._status, self._more = frame_id, code, bool(flags & MORE)

    def payload_received(self, data: bytes) -> None:
        if self._expected is not None and self._body_good:
            self._body_good = self._expected.startswith(data, self._body_bytes)
            self._body_bytes += len(data)

    def frame_received(self) -> None:
        if self._more:
            return
        good = self._expected is None or (self._body_good and self._body_bytes == len(self._expected))
        self._body_bytes = 0
        self._body_good = True
        if self._id in self._waiting:
            self._waiting.remove(self._id)
            if self._status != OK:
                self.failures.append((self._id, "status"))
            elif not good:
                self.failures.append((self._id, "content"))
            else:
                self._completed.append(self._id)
        elif self._id in self._abandoned:
            self._abandoned.remove(self._id)
        else:
            raise ProtocolError("an answer that nothing asked for")
