"""Histograms of result files against the package that defines them."""

import base64

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from synthetic_run import hdr_blob

from analysis.histograms import decode, merge, nines
from bench.errors import UsageError


def recorded(values: list[int]) -> HdrHistogram:
    hdr = HdrHistogram(1, 3_600_000_000_000, 3)
    for value in values:
        hdr.record_value(value)
    return hdr


VALUES = [int(value) for value in np.random.default_rng(4).lognormal(13, 2, 2000)] + [
    1,
    5,
    2047,
    2048,
    3_599_000_000_000,
]


def test_quantiles_are_those_of_the_package() -> None:
    hdr = recorded(VALUES)
    histogram = decode(hdr.encode().decode(), "here")
    assert histogram.total == len(VALUES)
    shares = [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]
    expected = [hdr.get_value_at_percentile(max(share * 100, 1e-9)) for share in shares]
    assert histogram.quantiles(shares).tolist() == expected


def test_a_merge_is_the_histogram_of_all_values() -> None:
    parts = [decode(recorded(part).encode().decode(), "here") for part in (VALUES[:700], VALUES[700:])]
    merged, whole = merge(parts), decode(recorded(VALUES).encode().decode(), "here")
    assert merged is not None
    assert merged.values_ns.tolist() == whole.values_ns.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merge([]) is None


def test_the_percentile_curve_ends_where_the_samples_do() -> None:
    histogram = decode(recorded(VALUES[:1000]).encode().decode(), "here")
    x, y = nines(histogram)
    assert x[-1] == pytest.approx(3.0)  # a thousand samples are three nines
    assert y[-1] == histogram.quantiles([0.999])[0]
    assert (np.diff(y) >= 0).all()
    one_x, one_y = nines(decode(recorded([500]).encode().decode(), "here"))
    assert (one_x.tolist(), one_y.tolist()) == ([0.0], [500])


@pytest.mark.parametrize(
    "blob",
    [
        "",
        "AAAA",
        "!!!",
        hdr_blob(np.array([1e6] * 50), 1)[:-8],
        base64.b64encode(b"\x1c\x84\x93\x14" + b"\0" * 40).decode(),
        HdrHistogram(1, 1_000_000, 2).encode().decode(),
    ],
)
def test_a_damaged_histogram_is_a_usage_error_that_names_its_place(blob: str) -> None:
    with pytest.raises(UsageError, match=r"^run\.json: \$\.trials\[3\]: the histogram is"):
        decode(blob, "run.json: $.trials[3]")
