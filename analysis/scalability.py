"""The Universal Scalability Law: throughput of N requests in flight, or workers: X(N) = λN / (1 + σ(N-1) + κN(N-1)).

λ is the throughput of one, σ the share of the work that waits its turn (contention), κ the cost of each pair that must
agree (coherency). With κ above 0 throughput has a peak at √((1-σ)/κ), and falls beyond. Gunther, "A General Theory of
Computational Scalability Based on Rational Functions" (2008), and "Guerrilla Capacity Planning" (2007).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_POINTS = 4
"""Three parameters, and something left to tell how well they fit."""
GOOD_R_SQUARED = 0.9
_CLOSE = 0.05
"""A law that explains less of the variance fits poorly, and nothing is derived from it; unless it misses the points by
no more than that, relative to them: where throughput is the same throughout, there is no variance to explain."""
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Parameter:
    """A fitted value with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Scaling:
    """The law fitted to throughputs. `peak` is the N of the highest throughput, None unless κ is distinguishable from 0
    and the peak lies in the range that was measured; nor has a poor fit one. `r_squared` is the share of the variance
    that the law explains."""

    rate_of_one_per_s: Parameter
    contention: Parameter
    coherency: Parameter
    coherency_is_known: bool
    peak: Parameter | None
    r_squared: float
    is_good: bool
    least: float
    most: float

    def throughput_per_s(self, n: NDArray[np.float64]) -> NDArray[np.float64]:
        """The law at N; meaningful from `least` to `most`."""
        found: NDArray[np.float64] = usl(n, self.rate_of_one_per_s.value, self.contention.value, self.coherency.value)
        return found


def usl(n: NDArray[np.float64], rate: float, contention: float, coherency: float) -> NDArray[np.float64]:
    """X(N)."""
    return rate * n / (1 + contention * (n - 1) + coherency * n * (n - 1))


def fit(n: Sequence[float], throughput_per_s: Sequence[float]) -> Scaling | None:
    """The law that fits best, errors counted relative to the throughput. None for fewer than MIN_POINTS different N, or
    where nothing fits."""
    if len(set(n)) < MIN_POINTS or min(throughput_per_s) <= 0:
        return None
    from scipy import optimize, stats

    x, y = np.asarray(n, float), np.asarray(throughput_per_s, float)
    first = float(y[x.argmin()] / x.min())
    try:
        found, covariance = optimize.curve_fit(
            usl, x, y, p0=(first, 0.05, 1e-4), sigma=y, bounds=(0, np.inf), x_scale=(first, 0.1, 1e-3)
        )
    except (RuntimeError, optimize.OptimizeWarning):
        return None
    errors = np.sqrt(np.diag(covariance))
    rate, contention, coherency = (Parameter(float(v), float(e)) for v, e in zip(found, errors, strict=True))
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, max(1, len(x) - 3)))
    known = coherency.value - quantile * coherency.error > 0
    residual = float(((y - usl(x, *found)) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    r_squared = 1 - residual / total if total > 0 else 0.0
    misses = float(np.sqrt(((1 - usl(x, *found) / y) ** 2).mean()))
    is_good = r_squared >= GOOD_R_SQUARED or misses <= _CLOSE
    return Scaling(
        rate,
        contention,
        coherency,
        known,
        _peak(contention.value, coherency.value, covariance, float(x.max())) if known and is_good else None,
        r_squared,
        is_good,
        float(x.min()),
        float(x.max()),
    )


def _peak(contention: float, coherency: float, covariance: NDArray[np.float64], most: float) -> Parameter | None:
    """Where throughput is highest, with its error by the delta method; None beyond what was measured."""
    if contention >= 1 or (at := math.sqrt((1 - contention) / coherency)) > most:
        return None
    slope = np.array([-at / (2 * (1 - contention)), -at / (2 * coherency)])
    return Parameter(at, float(np.sqrt(slope @ covariance[1:, 1:] @ slope)))
