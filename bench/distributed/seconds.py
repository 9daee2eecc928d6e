"""A load second by second, as workers report it while it goes on.

On the way a second is a dictionary: `second` (counted from when measuring began), `completed`, `errors`, and `hdr`, the
encoded HdrHistogram of latencies. Histograms are added, so nothing is lost on the way but what a worker never sent.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.load.histogram import Histogram, new_hdr, recorded
from bench.loadprocess import Progress


class Clerk:
    """Puts together, on a worker, what its load processes report, second by second."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[list[int], Histogram]] = {}

    def add(self, second: int, progress: dict[str, Any]) -> None:
        """What a load process says of half a second (see `bench.load.recorder`)."""
        counts, latency = self._open.setdefault(second, ([0, 0], Histogram()))
        counts[0] += progress["completed"]
        counts[1] += progress["errors"]
        latency.add_sparse(progress["positions"], progress["counts"])

    def take(self, before: int | None = None) -> Iterator[dict[str, Any]]:
        """The seconds before that one, or all; they are given once."""
        for second in sorted(second for second in self._open if before is None or second < before):
            (completed, errors), latency = self._open.pop(second)
            yield {"second": second, "completed": completed, "errors": errors, "hdr": latency.encode()}


class Reported:
    """What one worker has reported so far."""

    def __init__(self) -> None:
        self.completed = 0
        self.errors = 0
        self.hdr = new_hdr()
        self.until = 0
        """The first second that it has said nothing of."""

    def add(self, second: dict[str, Any]) -> None:
        """One more of its seconds."""
        self.completed += second["completed"]
        self.errors += second["errors"]
        self.hdr.decode_and_add(second["hdr"])
        self.until = max(self.until, second["second"] + 1)

    def partial_result(self, is_open: bool, intervals: int) -> dict[str, Any]:
        """As the result of a load process, of one that never gave its own: latency and counts as far as they were
        reported, and no more."""
        empty = Histogram().encode()
        return {
            "completed": self.completed,
            "done_in_window": self.completed,
            "measured_ns": self.until * 1_000_000_000,
            "errors": {"unknown": self.errors} if self.errors else {},
            "dropped": 0,
            "latency": self.hdr.encode().decode("ascii"),
            "service": empty,
            "lateness": empty if is_open else None,
            "intervals": [{"completed": 0, "errors": 0, "hdr": empty} for _ in range(intervals)],
            "tally": {},
            "delivery": None,
            "cpu_user_s": 0.0,
            "cpu_system_s": 0.0,
            "context_switches_voluntary": 0,
            "context_switches_involuntary": 0,
        }


class Together:
    """The seconds of all workers, each added up once nothing more of it is to come."""

    def __init__(self) -> None:
        self._open: dict[int, Progress] = {}
        self._next = 0

    def add(self, second: dict[str, Any]) -> None:
        """What one worker did in a second; if that is over for the others, it counts for the next."""
        number = max(second["second"], self._next)
        was = self._open.get(number) or Progress(1.0, 0, 0, new_hdr())
        was.hdr.decode_and_add(second["hdr"])
        completed, errors = was.completed + second["completed"], was.errors + second["errors"]
        self._open[number] = Progress(1.0, completed, errors, was.hdr)

    def take(self, before: int) -> Iterator[tuple[int, Progress]]:
        """The seconds before that one, in order."""
        for number in sorted(number for number in self._open if number < before):
            self._next = number + 1
            yield number, self._open.pop(number)


def times_ms(hdr: Any) -> list[tuple[float, int]]:
    """A histogram as Locust has them: milliseconds, here with three significant digits, and how many; ascending."""
    values_ns, counts = recorded(hdr)
    unit_ns = 10 ** np.maximum(np.log10(np.maximum(values_ns, 1)).astype(np.int64) - 2, 0)
    rounded_ns = (values_ns + unit_ns // 2) // unit_ns * unit_ns
    (first,) = np.diff(rounded_ns, prepend=-1).nonzero()
    return list(zip((rounded_ns[first] / 1e6).tolist(), np.add.reduceat(counts, first).tolist(), strict=True))
