"""What became of each message of publish-subscribe: whether it was due in the measured window, confirmed by the broker,
and seen by each reader. A message says itself when it was due and sent, as an event of `bench.load.push` does, and its
number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.contract import MIN_EVENT_BYTES, pattern

_HEADER = b"%019d %019d %010d "
_DUE, _SENT, _NUMBER = slice(0, 19), slice(20, 39), slice(40, 50)


class Written(NamedTuple):
    """A message as its body says it."""

    number: int
    due_ns: int
    sent_ns: int


class Ledger:
    """Messages have numbers from 0 on, and a byte for each question."""

    def __init__(self, payload_bytes: int, readers: int) -> None:
        """`payload_bytes` is at least MIN_EVENT_BYTES."""
        rest_bytes = payload_bytes - MIN_EVENT_BYTES
        self._filling = pattern((rest_bytes + 1) // 2).hex().encode("ascii")[:rest_bytes]
        self._measured, self._confirmed = bytearray(), bytearray()
        self._seen = [bytearray() for _ in range(readers)]

    def write(self, dues_ns: Sequence[int], now_ns: int, window_ns: tuple[int, int]) -> tuple[int, list[bytes]]:
        """New messages that were due then and are sent now: the number of the first, and their bodies."""
        first = len(self._measured)
        self._measured += bytes([window_ns[0] <= due < window_ns[1] for due in dues_ns])
        for flags in (self._confirmed, *self._seen):
            flags.extend(bytes(len(dues_ns)))
        return first, [_HEADER % (due, now_ns, number) + self._filling for number, due in enumerate(dues_ns, first)]

    def read(self, body: bytes) -> Written | None:
        """What a body says; None if it is not one that was written."""
        if body[MIN_EVENT_BYTES:] != self._filling:
            return None
        return Written(int(body[_NUMBER]), int(body[_DUE]), int(body[_SENT]))

    def confirm(self, first: int, count: int) -> None:
        """The broker has taken these."""
        self._confirmed[first : first + count] = b"\1" * count

    def see(self, reader: int, number: int) -> bool:
        """A reader has worked on a message. Whether it is the first time."""
        seen = self._seen[reader]
        first = not seen[number]
        seen[number] = 1
        return first

    @property
    def published(self) -> int:
        """Messages that were due in the measured window."""
        return sum(self._measured)

    @property
    def confirmed(self) -> int:
        """Those of them that the broker has confirmed."""
        return _both(self._confirmed, self._measured)

    @property
    def lost(self) -> int:
        """Confirmed messages that a reader has not got, counted for each reader: of the whole run."""
        confirmed = sum(self._confirmed)
        return sum(confirmed - _both(seen, self._confirmed) for seen in self._seen)


def _both(some: bytearray, others: bytearray) -> int:
    """At how many places both have a 1."""
    return int(np.count_nonzero(np.frombuffer(some, np.uint8) & np.frombuffer(others, np.uint8)))
