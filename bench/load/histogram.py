"""HDR histograms of nanoseconds, filled many values at a time.

The counts are laid out as HdrHistogram's own (three significant digits, 1 ns to 1 h), so that filling is one numpy pass
over a block of records, and the `hdrhistogram` package does the rest: percentiles, merging, the V2 encoding.
"""

import sys
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

HIGHEST_NS = 3_600_000_000_000
DIGITS = 3
_SUB_BUCKET_BITS = 11  # 2,048 sub-buckets, half of them used in each bucket but the first: three significant digits
_LENGTH = HdrHistogram(1, HIGHEST_NS, DIGITS).counts_len
SAMPLES_BEYOND = 10
"""A percentile can be told if at least so many samples lie beyond it."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


def new_hdr() -> Any:
    """An empty histogram of the shape that all of wirebench uses."""
    return HdrHistogram(1, HIGHEST_NS, DIGITS)


def encode(hdr: Any) -> str:
    """The V2 encoding of an HdrHistogram, in base64."""
    return str(hdr.encode().decode("ascii"))


def decode(encoded: str) -> Any:
    """An HdrHistogram from its V2 encoding, in base64."""
    return HdrHistogram.decode(encoded)


def add(hdr: Any, other: Any) -> None:
    """Add to an HdrHistogram of our shape the counts of another: as its `add`, which takes five times as long."""
    np.frombuffer(hdr.counts, np.int64)[:] += np.frombuffer(other.counts, np.int64)
    hdr.total_count += other.total_count
    hdr.min_value, hdr.max_value = min(hdr.min_value, other.min_value), max(hdr.max_value, other.max_value)


def recorded(hdr: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that an HdrHistogram has counts of, ascending, in the middle of what it takes for equal, and the
    counts. The `hdrhistogram` package takes a hundred times as long: it walks over all places in Python."""
    counts = np.frombuffer(hdr.counts, np.int64)
    (positions,) = counts.nonzero()
    half = _SUB_BUCKET_BITS - 1
    bucket = np.maximum((positions >> half) - 1, 0)
    inside = positions - (bucket << half)
    return (inside << bucket) + ((1 << bucket) >> 1), counts[positions]


class Histogram:
    """Counts of durations. Values over an hour count as an hour."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.full(_LENGTH, 0)  # unlike zeros, in memory before it is needed
        self.max_ns = 0
        self.min_ns = HIGHEST_NS

    def record(self, values_ns: NDArray[np.int64]) -> None:
        """Add a block of values."""
        if not len(values_ns):
            return
        clipped = np.clip(values_ns, 0, HIGHEST_NS)
        # The position of the highest bit, exact below 2**53, gives the bucket; the bits under it the place inside.
        _, exponent = np.frexp((clipped | ((1 << _SUB_BUCKET_BITS) - 1)).astype(np.float64))
        bucket = exponent - _SUB_BUCKET_BITS
        index = (bucket.astype(np.int64) << (_SUB_BUCKET_BITS - 1)) + (clipped >> bucket)
        added = np.bincount(index)
        self.counts[: len(added)] += added
        self.max_ns = max(self.max_ns, int(clipped.max()))
        self.min_ns = min(self.min_ns, int(clipped.min()))

    def write_added(self, since: NDArray[np.int64], hdr: Any) -> None:
        """Make an HdrHistogram that of what was added since `counts` were those. Least and greatest are then exact to
        the resolution only. (To make a new one takes as long as all of this.)"""
        added = self.counts - since
        np.frombuffer(hdr.counts, np.int64)[:] = added
        (positions,) = added.nonzero()
        hdr.total_count, hdr.min_value, hdr.max_value = int(added.sum()), sys.maxsize, 0
        if hdr.total_count:
            hdr.min_value, hdr.max_value = (int(hdr.get_value_from_index(int(positions[at]))) for at in (0, -1))

    def to_hdr(self) -> Any:
        """The same counts as an HdrHistogram."""
        hdr = new_hdr()
        np.frombuffer(hdr.counts, np.int64)[:] = self.counts
        hdr.total_count = int(self.counts.sum())
        if hdr.total_count:
            hdr.min_value, hdr.max_value = self.min_ns, self.max_ns
        return hdr

    def encode(self) -> str:
        """The V2 encoding, in base64."""
        return encode(self.to_hdr())


def percentiles(hdr: Any, *wanted: float) -> list[int]:
    """The value that so many percent do not exceed, for each wanted percentage, of an HdrHistogram that is not empty:
    as its `get_value_at_percentile`, which walks over all places in Python, and takes twenty times as long."""
    values, counts = recorded(hdr)
    summed = np.cumsum(counts)
    targets = [hdr.get_target_count_at_percentile(percent) for percent in wanted]
    places = np.searchsorted(summed, targets).tolist()
    return [int(hdr.get_highest_equivalent_value(int(values[place]))) for place in places]


def mean(hdr: Any) -> float:
    """The mean of an HdrHistogram that is not empty."""
    values, counts = recorded(hdr)
    return float(values @ counts) / float(counts.sum())


def summarise(hdr: Any) -> dict[str, Any] | None:
    """What result files hold of a histogram; None for an empty one: nothing was measured. So is p999 for too few."""
    if not hdr.total_count:
        return None
    quantiles: dict[str, int | None] = dict(zip(PERCENTILES, percentiles(hdr, *PERCENTILES.values()), strict=True))
    if hdr.total_count * (1 - PERCENTILES["p999"] / 100) < SAMPLES_BEYOND:
        quantiles["p999"] = None
    return {
        "count": int(hdr.total_count),
        "mean": mean(hdr),
        "min": int(hdr.get_min_value()),
        **quantiles,
        "max": int(hdr.get_max_value()),
        "hdr": encode(hdr),
    }
