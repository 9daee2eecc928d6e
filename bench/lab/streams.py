"""What a TCP stream carries: items in the words of its protocol, and the seam of those who read them.

No keys are needed: what is encrypted is named by where it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bench.lab.packets import Way

Arrival = Callable[[Way, int], int | None]
"""When the byte at an offset of a stream first arrived, in nanoseconds; None if it never did."""


@dataclass(frozen=True)
class Item:
    """Something that a stream carries, from an offset on until the next. `is_data` marks what requests and answers are
    made of, as against handshakes."""

    way: Way
    offset: int
    words: str
    is_data: bool = False


class StreamReader(Protocol):
    """Takes both ways of a stream as they were sent, and gives what begins in them."""

    def feed(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]: ...


class DataReader:
    """A stream of a protocol that has no words here."""

    def feed(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]:
        return [Item(way, offset, "data", True)]
