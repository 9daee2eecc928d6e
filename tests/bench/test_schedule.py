"""Due times are a closed form of the start: right in number, place and shape, whatever they are cut into."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.errors import UsageError
from bench.schedule import Closed, Concurrency, Open, due_times, parse_load

S = 1_000_000_000


def all_due(text: str, warmup_ns: int = 0, duration_ns: int = S, seed: int = 1, share: tuple[int, int] = (0, 1)):
    load = parse_load(text, "load")
    assert isinstance(load, Open)
    return np.concatenate(list(due_times(load, warmup_ns, load.duration_ns or duration_ns, seed, share)))


def test_constant_arrivals_are_exact_multiples_of_the_interval() -> None:
    due = all_due("open:5000/s", duration_ns=20 * S)
    assert len(due) == 100_000
    assert np.array_equal(due, np.arange(100_000) * 200_000)


def test_warmup_runs_at_the_first_rate_and_is_added_before() -> None:
    due = all_due("stages:1000/s@1s,5000/s@1s", warmup_ns=S // 2)
    edges = [0, S // 2, S // 2 + S, S // 2 + 2 * S]
    assert np.histogram(due, edges)[0].tolist() == [500, 1000, 5000]


@given(low=st.integers(1, 2000), high=st.integers(1, 2000), seconds=st.integers(1, 20))
@settings(derandomize=True, max_examples=60)
def test_a_ramp_follows_the_integral_of_its_rate(low: int, high: int, seconds: int) -> None:
    due = all_due(f"ramp:{low}-{high}/s@{seconds}s")
    total = (low + high) / 2 * seconds
    assert abs(len(due) - total) <= 1
    assert (np.diff(due) >= 0).all()
    t = due / S
    expected = low * t + (high - low) * t**2 / (2 * seconds)
    assert np.abs(expected - np.arange(len(due))).max() < 0.01


def test_poisson_gaps_are_exponential_and_the_seed_decides() -> None:
    due = all_due("poisson:10000/s", duration_ns=10 * S, seed=7)
    gaps = np.diff(due) / S
    assert stats.kstest(gaps, "expon", args=(0, 1e-4)).pvalue > 0.01
    assert np.array_equal(due, all_due("poisson:10000/s", duration_ns=10 * S, seed=7))
    assert not np.array_equal(due[:100], all_due("poisson:10000/s", duration_ns=10 * S, seed=8)[:100])


@pytest.mark.parametrize("text", ["open:5000/s", "poisson:5000/s", "burst:50/10ms", "ramp:100-5000/s@2s"])
@pytest.mark.parametrize("processes", [2, 3, 7])
def test_shares_of_all_processes_are_the_schedule(text: str, processes: int) -> None:
    whole = all_due(text)
    shares = [all_due(text, share=(index, processes)) for index in range(processes)]
    assert np.array_equal(np.sort(np.concatenate(shares)), whole)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_shares_of_connections_add_up() -> None:
    shares = [Concurrency(64, 3).share(index, 5) for index in range(5)]
    assert sum(share.connections for share in shares) == 64
    assert {share.in_flight for share in shares} == {3}


@pytest.mark.parametrize(
    "text",
    [
        "closed:64",
        "closed:8x16",
        "open:5000/s",
        "poisson:0.5/s",
        "burst:10/1s",
        "burst:7/300ms",
        "ramp:100-5000/s@60s",
        "stages:1000/s@10s,5000/s@30s",
    ],
)
def test_spelling_reads_back(text: str) -> None:
    load = parse_load(text, "load")
    assert str(load) == text
    assert parse_load(str(load), "load") == load


def test_closed() -> None:
    assert parse_load("closed:8x16", "load") == Closed(Concurrency(8, 16))


@pytest.mark.parametrize(
    "text",
    ["", "closed", "closed:0", "closed:-1", "closed:8x0", "closed:99999999", "open:5000", "open:0/s", "open:-5/s",
     "open:1e12/s", "open:nan/s", "poisson:x/s",
     "burst:1/1s", "burst:10", "burst:10/0s", "burst:100000/1ms", "ramp:100-5000/s",
     "ramp:100/s@5s", "ramp:0-5/s@5s", "stages:5/s@0s",
     "stages:", "stages:5/s", "burst:5/s", "64"],
)  # fmt: skip
def test_what_is_not_a_load_says_what_is(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_load(text, "--load")
    message = str(error.value)
    assert message.startswith("--load: ")
    assert "\n" not in message


def test_a_long_schedule_comes_in_chunks() -> None:
    load = parse_load("open:1000000/s", "load")
    assert isinstance(load, Open)
    chunks = list(itertools.islice(due_times(load, 0, 3600 * S, 1), 3))
    assert all(0 < len(chunk) <= 1024 for chunk in chunks)


def test_bursts_come_at_once_and_in_time() -> None:
    due = all_due("burst:10/100ms", duration_ns=S)
    times, counts = np.unique(due, return_counts=True)
    assert set(counts) == {10}
    assert np.array_equal(times, np.arange(len(times)) * S // 10)
