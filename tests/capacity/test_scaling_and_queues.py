"""The Universal Scalability Law, the queue M/M/c and the size of a plan, beside values from elsewhere."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import poisson

from analysis.capacity import variability
from analysis.capacity_words import scaling_words
from analysis.queueing import departure, erlang_c, queue_like
from analysis.scalability import fit, usl
from analysis.sizing import size
from tests.capacity import simulated

N = [1, 2, 4, 8, 16, 32, 64]


def test_the_law_is_found_again_with_errors_that_cover_it() -> None:
    generator = np.random.default_rng(1)
    truth = (1000.0, 0.05, 0.001)
    within = 0
    for _ in range(40):
        found = fit(N, list(usl(np.array(N, float), *truth) * generator.normal(1, 0.02, len(N))))
        assert found is not None
        parameters = (found.rate_of_one_per_s, found.contention, found.coherency)
        within += sum(abs(p.value - true) < 2.78 * p.error for p, true in zip(parameters, truth, strict=True))
    assert within / 120 > 0.9  # Student's t with four degrees of freedom: 95 %


def test_a_peak_within_what_was_measured() -> None:
    found = fit(N, list(usl(np.array(N, float), 1000.0, 0.05, 0.002)))
    assert found is not None
    assert found.peak is not None
    assert found.peak.value == pytest.approx((0.95 / 0.002) ** 0.5, rel=0.01)


@pytest.mark.parametrize("coherency", [0.0, 1e-5])
def test_no_peak_where_none_was_measured(coherency: float) -> None:
    noise = np.random.default_rng(3).normal(1, 0.01, len(N))
    found = fit(N, list(usl(np.array(N, float), 1000.0, 0.05, coherency) * noise))
    assert found is not None
    assert found.peak is None


def test_a_poor_fit_is_said_to_be_one_and_has_no_peak() -> None:
    found = fit(N, [100.0, 400.0, 150.0, 420.0, 160.0, 410.0, 20.0])
    assert found is not None
    assert (found.is_good, found.peak) == (False, None)
    assert "a poor fit, so no peak" in scaling_words(asdict(found))


def test_a_throughput_that_does_not_grow_is_no_poor_fit() -> None:
    found = fit(N, [200.0, 201.0, 199.0, 200.0, 202.0, 199.0, 200.0])
    assert found is not None
    assert found.is_good


def test_too_few_points_for_the_law() -> None:
    assert fit([1, 2, 4], [10.0, 20.0, 30.0]) is None


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092)],  # printed tables of Erlang's C
)
def test_the_probability_of_waiting(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=1e-4)


def test_the_queue_is_that_of_a_simulated_one() -> None:
    trial = simulated.trial(2, simulated.exponential(0.005), 300.0, 60.0, 5, poisson=True)
    queue = queue_like(0.005, 400.0)
    assert (queue.servers, queue.besides_s) == (2, 0.0)
    assert trial["latency_ns"]["mean"] / 1e9 == pytest.approx(queue.latency_s(300.0), rel=0.12)


def exact_wait_of_fixed_service(servers: int, load: float) -> float:
    """The mean wait in M/D/c, in service times. What is there one service time later is what was there, less those that
    were served, and what has come in: so the distribution over time is that of a chain (Crommelin, 1932), and the mean
    wait follows by Little's law."""
    most = 400
    arrive = poisson.pmf(np.arange(most), load)
    chain = np.array([np.concatenate([np.zeros(max(n - servers, 0)), arrive])[:most] for n in range(most)])
    equations = np.vstack([chain.T - np.eye(most), np.ones(most)])
    there = np.linalg.lstsq(equations, np.append(np.zeros(most), 1.0), rcond=None)[0]
    return float((np.maximum(np.arange(most) - servers, 0) * there).sum() / load)


@pytest.mark.parametrize(("servers", "within"), [(1, 1e-4), (2, 0.06), (4, 0.13)])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_mean_wait_for_fixed_service_times(servers: int, within: float, share: float) -> None:
    queue = queue_like(1.0, servers, variability=0.0)
    assert queue.name == f"M/D/{servers}"
    wait = queue.latency_s(share * servers) - 1.0
    assert wait == pytest.approx(exact_wait_of_fixed_service(servers, share * servers), rel=within)


def test_independent_requests_for_a_single_server_wait_as_the_formula_says() -> None:
    trial = simulated.trial(1, simulated.fixed(0.005), 160.0, 60.0, 1, poisson=True)
    queue = queue_like(0.005, 200.0, variability=0.0)
    assert queue.formula == "the formula of Pollaczek and Khinchine, exact"
    assert trial["latency_ns"]["mean"] / 1e9 == pytest.approx(queue.latency_s(160.0), rel=0.1)


@pytest.mark.parametrize(("service", "expected"), [(simulated.fixed(0.005), 0.0), (simulated.exponential(0.005), 1.0)])
def test_how_much_service_times_vary(service: simulated.Service, expected: float) -> None:
    trials = [simulated.trial(1, service, 10.0, 200.0, seed, poisson=True) for seed in range(3)]
    found = variability([{"rate_per_s": 10.0, "trial": trial} for trial in trials], 20.0)
    assert found == pytest.approx(expected, abs=0.1)


def test_where_reality_leaves_the_queue() -> None:
    queue = queue_like(0.005, 400.0)
    measured = [(rate, queue.latency_s(rate) * (1.0 if rate < 250 else 2.0)) for rate in (50, 100, 200, 300, 350)]
    left = departure(queue, measured)
    assert left is not None
    assert (left.rate_per_s, left.measured_s) == (300, pytest.approx(2 * left.model_s))
    assert departure(queue, measured[:3]) is None


def test_units_for_a_rate() -> None:
    found = size(5000.0, headroom=0.3, growth=0.2, capacity_per_s=386.0, missed_per_s=390.0)
    assert (found.needed_per_s, found.units, found.with_spare, found.least) == (6000.0, 23, 24, 23)
    assert size(100.0, 0.0, 0.0, 50.0, None).units == 2
