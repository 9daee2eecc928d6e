"""What is recorded is what happened: percentiles against numpy and HdrHistogram, windows, phases, intervals."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.load.histogram import HIGHEST_NS, Histogram, add, encode, mean, new_hdr, percentiles, summarise
from bench.load.recorder import Recorder

MS = 1_000_000


@given(st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=200))
@settings(derandomize=True, max_examples=60)
def test_a_histogram_filled_in_blocks_is_the_one_filled_value_by_value(values: list[int]) -> None:
    blocks = Histogram()
    for start in range(0, len(values), 64):
        blocks.record(np.array(values[start : start + 64], np.int64))
    one_by_one = new_hdr()
    for value in values:
        one_by_one.record_value(value)
    assert blocks.encode() == one_by_one.encode().decode()
    assert blocks.to_hdr().get_max_value() == one_by_one.get_max_value()
    assert blocks.to_hdr().get_min_value() == one_by_one.get_min_value()
    assert mean(blocks.to_hdr()) == pytest.approx(one_by_one.get_mean_value(), rel=1e-12)


def test_values_beyond_an_hour_count_as_an_hour() -> None:
    histogram = Histogram()
    histogram.record(np.array([5 * HIGHEST_NS, -3], np.int64))
    assert histogram.to_hdr().get_total_count() == 2
    assert histogram.to_hdr().get_min_value() == 0


def test_summaries_are_within_the_resolution() -> None:
    values = np.random.default_rng(3).lognormal(12, 1.5, 50_000).astype(np.int64)
    histogram = Histogram()
    histogram.record(values)
    summary = summarise(histogram.to_hdr())
    assert summary is not None
    ordered = np.sort(values)
    for name, rank in (("p50", 25_000), ("p90", 45_000), ("p99", 49_500), ("p999", 49_950)):
        assert ordered[rank - 2] * 0.999 <= summary[name] <= ordered[rank] * 1.001
    assert summary["max"] == pytest.approx(values.max(), rel=2e-3)
    assert summary["mean"] == pytest.approx(values.mean(), rel=2e-3)
    assert HdrHistogram.decode(summary["hdr"]).get_total_count() == 50_000


def test_nothing_measured_is_none() -> None:
    assert summarise(Histogram().to_hdr()) is None


def record(recorder: Recorder, intended: int, sent: int, done: int) -> None:
    recorder.intended.append(intended)
    recorder.sent.append(sent)
    recorder.done.append(done)


def test_only_what_was_intended_in_the_window_counts() -> None:
    recorder = Recorder(is_open=True)
    recorder.set_window(100 * MS, 200 * MS, intervals=10)
    record(recorder, 90 * MS, 90 * MS, 110 * MS)  # warm-up that ends inside
    record(recorder, 120 * MS, 125 * MS, 130 * MS)
    record(recorder, 190 * MS, 190 * MS, 250 * MS)  # intended inside, answered after
    record(recorder, 200 * MS, 200 * MS, 210 * MS)  # the drain
    recorder.error("timeout", 150 * MS, 160 * MS)
    recorder.error("timeout", 50 * MS, 160 * MS)
    recorder.drop(199 * MS)
    recorder.drop(99 * MS)
    result = recorder.result()
    assert result["completed"] == 2
    assert result["done_in_window"] == 2
    assert result["errors"] == {"timeout": 1}
    assert result["dropped"] == 1
    latency, service = HdrHistogram.decode(result["latency"]), HdrHistogram.decode(result["service"])
    assert latency.get_min_value() == pytest.approx(10 * MS, rel=1e-3)
    assert service.get_min_value() == pytest.approx(5 * MS, rel=1e-3)
    assert latency.get_max_value() == pytest.approx(60 * MS, rel=1e-3)
    assert [part["completed"] for part in result["intervals"]] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert [part["errors"] for part in result["intervals"]] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_records_before_the_window_is_set_are_gone() -> None:
    recorder = Recorder(is_open=False)
    recorder.sent.append(5 * MS)
    recorder.done.append(6 * MS)
    recorder.set_window(0, 100 * MS, intervals=2)
    assert recorder.result()["completed"] == 0


def test_digesting_in_pieces_changes_nothing() -> None:
    generator = np.random.default_rng(4)
    sent = np.sort(generator.integers(0, 1000 * MS, 30_000))
    done = sent + generator.integers(1, 5 * MS, 30_000)
    results = []
    for pieces in (1, 7):
        recorder = Recorder(is_open=False)
        recorder.set_window(100 * MS, 900 * MS, intervals=8)
        for part_sent, part_done in zip(np.array_split(sent, pieces), np.array_split(done, pieces), strict=True):
            recorder.sent.extend(part_sent.tolist())
            recorder.done.extend(part_done.tolist())
            recorder.digest_if_due()
        results.append(recorder.result())
    assert results[0] == results[1]
    inside = (sent >= 100 * MS) & (sent < 900 * MS)
    assert results[0]["completed"] == int(inside.sum())


def test_progress_is_what_happened_since_the_last_one() -> None:
    recorder = Recorder(is_open=False)
    recorder.set_window(0, 100 * MS, intervals=2)
    recorder.sent.extend([1 * MS, 2 * MS])
    recorder.done.extend([2 * MS, 4 * MS])
    recorder.error("closed", 3 * MS, 4 * MS)
    first, second = recorder.progress(), recorder.progress()
    assert (first["completed"], first["errors"]) == (2, 1)
    assert (first["period_ns"], second["period_ns"]) == (100 * MS, 0)
    latency = HdrHistogram.decode(first["hdr"])
    assert latency.get_total_count() == 2
    assert latency.get_max_value() == pytest.approx(2 * MS, rel=1e-3)
    assert (second["completed"], second["errors"]) == (0, 0)
    assert HdrHistogram.decode(second["hdr"]).get_total_count() == 0
    recorder.sent.append(5 * MS)
    recorder.done.append(6 * MS)
    third = recorder.progress()["hdr"]
    assert HdrHistogram.decode(third).get_max_value() == pytest.approx(1 * MS, rel=1e-3)
    assert HdrHistogram.decode(third).get_total_count() == 1


@pytest.mark.parametrize("samples", [1, 2, 7, 10_000])
def test_percentiles_are_those_of_hdrhistogram(samples: int) -> None:
    histogram = Histogram()
    histogram.record(np.random.default_rng(samples).lognormal(13, 2, samples).astype(np.int64))
    hdr, wanted = histogram.to_hdr(), (0.001, 1, 50, 90, 99, 99.9, 100)
    assert percentiles(hdr, *wanted) == [hdr.get_value_at_percentile(percent) for percent in wanted]


@given(st.lists(st.lists(st.integers(0, HIGHEST_NS), max_size=20), min_size=1, max_size=5))
@settings(derandomize=True, max_examples=40)
def test_histograms_are_added_as_hdrhistogram_adds_them(parts: list[list[int]]) -> None:
    ours, theirs = new_hdr(), new_hdr()
    for values in parts:
        other = new_hdr()
        for value in values:
            other.record_value(value)
        add(ours, other)
        theirs.add(other)
    assert encode(ours) == encode(theirs)
    assert ours.total_count == theirs.total_count == sum(map(len, parts))
    assert ours.get_max_value() == theirs.get_max_value()
    if ours.total_count:  # theirs takes the least of an empty histogram for 0
        assert ours.get_min_value() == ours.get_lowest_equivalent_value(min(map(min, filter(None, parts))))


def test_progress_says_how_long_it_was() -> None:
    recorder = Recorder(is_open=False)
    recorder.set_window(1000 * MS, 4000 * MS, intervals=3)
    assert [recorder.progress(at_ms * MS)["period_ns"] for at_ms in (2000, 3000)] == [1000 * MS] * 2
    recorder.stop(3300 * MS)
    assert recorder.progress()["period_ns"] == 300 * MS
    recorder.set_window(1000 * MS, 4000 * MS, intervals=3)
    recorder.stop(500 * MS)  # in the warm-up
    assert recorder.progress()["period_ns"] == 0
