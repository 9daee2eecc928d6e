"""What is kept of every request: when it was intended, when it was sent, when its answer was complete.

The engine appends to plain arrays (the hot path); `digest` moves what they hold into histograms a block at a time, so
memory stays flat however long a run is. Only what was intended inside the measured window counts: the warm-up before it
and the drain after it are run, and left out.
"""

from array import array
from collections import Counter
from typing import Any

import numpy as np

from bench.load.histogram import Histogram, encode, new_hdr

_DIGEST_AT = 65_536


class Recorder:
    """Times in nanoseconds of CLOCK_MONOTONIC. A closed load has no intended times of its own: it intends what it
    sends."""

    def __init__(self, is_open: bool) -> None:
        self.sent = array("q")
        self.done = array("q")
        self.intended = array("q") if is_open else self.sent
        self.lateness = array("q")
        """Open loads: how long after its due time each measured request was taken up."""
        self._is_open = is_open
        self._start_ns = self._end_ns = self._interval_ns = 1 << 62
        self._latency, self._service, self._lateness = Histogram(), Histogram(), Histogram()
        self._intervals: list[Histogram] = []
        self._interval_errors: list[int] = []
        self._done_in_window = 0
        self._errors: Counter[str] = Counter()
        self._dropped = 0
        self._reported, self._recent = self._latency.counts.copy(), new_hdr()
        self._recent_errors = 0
        self._told_ns = 0
        """Until when `progress` has told."""
        self.last_error: str | None = None
        """The kind of the latest error, measured or not."""

    def set_window(self, start_ns: int, end_ns: int, intervals: int) -> None:
        """What is measured, cut into so many intervals. Records before this call are discarded.

        A digest is done once for nothing: the first takes ten times as long as any other, and the pause would be ours.
        """
        self._rehearse()
        self._start_ns, self._end_ns = start_ns, end_ns
        self._told_ns = start_ns
        self._interval_ns = (end_ns - start_ns) // intervals
        self._intervals = [Histogram() for _ in range(intervals)]
        self._interval_errors = [0] * intervals
        for records in (self.sent, self.done, self.intended, self.lateness):
            del records[:]

    def _rehearse(self) -> None:
        rehearsal = Recorder(self._is_open)
        rehearsal._start_ns, rehearsal._end_ns, rehearsal._interval_ns = 0, _DIGEST_AT, _DIGEST_AT
        rehearsal._intervals = [Histogram()]
        for records in (rehearsal.sent, rehearsal.done, rehearsal.lateness):
            records.extend(range(_DIGEST_AT))
        if self._is_open:
            rehearsal.intended.extend(range(_DIGEST_AT))
        rehearsal.progress()

    def stop(self, end_ns: int) -> None:
        """The measured window ends sooner."""
        self._end_ns = end_ns

    def error(self, kind: str, intended_ns: int, now_ns: int, count: int = 1) -> None:
        """Requests failed."""
        self.last_error = kind
        if self._start_ns <= intended_ns < self._end_ns:
            self._errors[kind] += count
            self._recent_errors += count
            if now_ns < self._end_ns:
                interval = min((now_ns - self._start_ns) // self._interval_ns, len(self._intervals) - 1)
                self._interval_errors[interval] += count

    def drop(self, intended_ns: int) -> None:
        """A request found neither a free connection nor room to wait."""
        self._dropped += self._start_ns <= intended_ns < self._end_ns

    def digest_if_due(self) -> None:
        """Digest if the arrays have grown enough for it to pay."""
        if len(self.done) >= _DIGEST_AT:
            self.digest()

    def digest(self) -> None:
        """Move all records into the histograms."""
        sent, done, intended = (np.array(a, np.int64) for a in (self.sent, self.done, self.intended))
        lateness = np.array(self.lateness, np.int64)
        for records in (self.sent, self.done, self.lateness):
            del records[:]
        if self._is_open:
            del self.intended[:]
        in_window = (done >= self._start_ns) & (done < self._end_ns)
        self._done_in_window += int(in_window.sum())
        measured = (intended >= self._start_ns) & (intended < self._end_ns)
        latency = (done - intended)[measured]
        self._latency.record(latency)
        self._service.record((done - sent)[measured])
        if self._is_open:
            self._lateness.record(lateness)
        inside = measured & in_window
        if inside.any():
            interval = np.minimum((done[inside] - self._start_ns) // self._interval_ns, len(self._intervals) - 1)
            inside_latency = (done - intended)[inside]
            for number in range(int(interval[0]), int(interval[-1]) + 1):  # answers are recorded in order
                self._intervals[number].record(inside_latency[interval == number])

    def progress(self, until_ns: int | None = None) -> dict[str, Any]:
        """What was recorded since the last call, how long that is until `until_ns` (None: the end of the window), and
        latencies as an encoded histogram."""
        until_ns = self._end_ns if until_ns is None else until_ns
        period_ns, self._told_ns = max(0, until_ns - self._told_ns), until_ns
        self.digest()
        self._latency.write_added(self._reported, self._recent)
        self._reported[:] = self._latency.counts
        errors, self._recent_errors = self._recent_errors, 0
        hdr = encode(self._recent)
        return {"period_ns": period_ns, "completed": self._recent.total_count, "errors": errors, "hdr": hdr}

    def result(self) -> dict[str, Any]:
        """Everything that was measured, ready for JSON; histograms are encoded."""
        self.digest()
        return {
            "completed": int(self._latency.counts.sum()),
            "done_in_window": self._done_in_window,
            "measured_ns": max(0, self._end_ns - self._start_ns),
            "errors": dict(self._errors),
            "dropped": self._dropped,
            "latency": self._latency.encode(),
            "service": self._service.encode(),
            "lateness": self._lateness.encode() if self._is_open else None,
            "intervals": [
                {"completed": int(h.counts.sum()), "errors": e, "hdr": h.encode()}
                for h, e in zip(self._intervals, self._interval_errors, strict=True)
            ],
        }
