"""A load second by second, as workers report it while it goes on.

On the way a second is a dictionary: `second` (counted from when measuring began), `completed`, `errors`, and `hdr`, the
encoded HdrHistogram of latencies. Histograms are added, so nothing is lost on the way but what a worker never sent.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bench.load.histogram import Histogram, add, decode, encode, new_hdr, recorded
from bench.loadprocess import Progress


class Clerk:
    """Puts together, on a worker, what its load processes report, second by second."""

    def __init__(self) -> None:
        self._open: dict[int, dict[str, Any]] = {}

    def add(self, second: int, progress: dict[str, Any]) -> None:
        """What a load process says of a second (see `bench.load.recorder`)."""
        told = {key: progress[key] for key in ("completed", "errors", "hdr")}
        was = self._open.get(second)
        if was is not None:  # of a load process that has taken up a part, or late
            together = decode(was["hdr"])
            add(together, decode(told["hdr"]))
            told = {key: was[key] + told[key] for key in ("completed", "errors")} | {"hdr": encode(together)}
        self._open[second] = told

    def take(self, before: int | None = None) -> Iterator[dict[str, Any]]:
        """The seconds before that one, or all; they are given once."""
        for second in sorted(second for second in self._open if before is None or second < before):
            yield {"second": second, **self._open.pop(second)}


class Reported:
    """What one worker has reported so far."""

    def __init__(self) -> None:
        self.completed = 0
        self.errors = 0
        self.hdr = new_hdr()
        self.until = 0
        """The first second that it has said nothing of."""

    def add(self, second: dict[str, Any], latency: Any) -> None:
        """One more of its seconds; `latency` is its histogram, decoded."""
        self.completed += second["completed"]
        self.errors += second["errors"]
        add(self.hdr, latency)
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
            "latency": encode(self.hdr),
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

    def add(self, second: dict[str, Any], latency: Any) -> None:
        """What one worker did in a second; if that is over for the others, it counts for the next. `latency` is its
        histogram, decoded, which may take up those of others."""
        number = max(second["second"], self._next)
        if (was := self._open.get(number)) is None:
            self._open[number] = Progress(1.0, second["completed"], second["errors"], latency)
            return
        add(was.hdr, latency)
        completed, errors = was.completed + second["completed"], was.errors + second["errors"]
        self._open[number] = replace(was, completed=completed, errors=errors)

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
