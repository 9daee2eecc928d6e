"""HDR histograms of result files: decoding, merging, percentile curves. Merging adds counts and loses nothing; it is
the only way that trials are put together here, and what shows a merge says so."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from bench.errors import UsageError

LOWEST_NS = 1
HIGHEST_NS = 3_600_000_000_000
DIGITS = 3


@dataclass(frozen=True)
class Histogram:
    """Counts of durations. `values_ns` are the top ends of the buckets that hold something, ascending; `counts`
    theirs."""

    values_ns: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def quantiles(self, shares: NDArray[np.float64] | list[float]) -> NDArray[np.int64]:
        """The values that these shares (0 to 1) of the durations don't exceed, as HdrHistogram counts them."""
        cumulative = self.counts.cumsum()
        ranks = np.maximum(1, np.floor(np.asarray(shares) * cumulative[-1] + 0.5))
        places = np.minimum(np.searchsorted(cumulative, ranks), len(cumulative) - 1)
        values: NDArray[np.int64] = self.values_ns[places]
        return values


@cache
def _bucket_tops() -> NDArray[np.int64]:
    shape = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    half: int = shape.sub_bucket_half_count
    bits: int = shape.sub_bucket_half_count_magnitude
    index = np.arange(shape.counts_len, dtype=np.int64)
    bucket = np.maximum((index >> bits) - 1, 0)
    sub_bucket = np.where(index < half, index, (index & (half - 1)) + half)
    tops: NDArray[np.int64] = ((sub_bucket + 1) << bucket) - 1
    return tops


def decode(blob: str, where: str) -> Histogram:
    """The histogram in a V2 blob. UsageError, which names `where`, if it is damaged or of another shape."""
    try:
        hdr = HdrHistogram.decode(blob.encode())
    except Exception as error:  # noqa: BLE001  # the codec raises a dozen kinds, ctypes' and zlib's own among them
        raise UsageError(f"{where}: the histogram is damaged: {error}") from None
    if (hdr.lowest_trackable_value, hdr.highest_trackable_value, hdr.significant_figures) != (
        LOWEST_NS,
        HIGHEST_NS,
        DIGITS,
    ):
        raise UsageError(f"{where}: the histogram is not HdrHistogram({LOWEST_NS}, {HIGHEST_NS}, {DIGITS})")
    counts = np.frombuffer(hdr.counts, np.int64)
    filled = np.flatnonzero(counts)
    return Histogram(_bucket_tops()[filled], counts[filled].copy())


def merge(histograms: Iterable[Histogram]) -> Histogram | None:
    """All the durations of several histograms; None of none."""
    parts = [histogram for histogram in histograms if len(histogram.counts)]
    if not parts:
        return None
    values, place = np.unique(np.concatenate([part.values_ns for part in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
    return Histogram(values, counts)


def nines(histogram: Histogram, points_per_nine: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The percentile curve on an axis of nines: x = -log10(1 - share), y in nanoseconds.

    It ends at 1 - 1/total, where one sample is left and the curve has reached the maximum: beyond, it would be
    invented.
    """
    end = float(np.log10(histogram.total)) if histogram.total > 1 else 0.0
    x = np.unique(np.append(np.arange(0, end, 1 / points_per_nine), end))
    return x, histogram.quantiles(1 - 10.0**-x)
