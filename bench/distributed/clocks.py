"""How far apart two clocks are, from questions and answers (as in NTP, RFC 5905, section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """A worker's clock: what it shows is the master's plus `offset_ns`, but for `error_ns` either way."""

    offset_ns: int
    error_ns: int


def read_clock(samples: Sequence[Sequence[int]]) -> Clock:
    """A clock from samples (asked, answered, heard), the second by that clock and the others by ours, in nanoseconds.
    The one with the shortest round trip tells most: the answer was given at some time in between."""
    asked, answered, heard = min(samples, key=lambda sample: sample[2] - sample[0])
    return Clock(answered - (asked + heard) // 2, (heard - asked + 1) // 2)


def drifted(begin: Clock, end: Clock) -> Clock:
    """A clock that was read twice: its error covers what it drifted in between."""
    return Clock(begin.offset_ns, max(begin.error_ns, end.error_ns) + abs(end.offset_ns - begin.offset_ns))
