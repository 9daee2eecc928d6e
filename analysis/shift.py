"""How far one side lies from another, without a belief about how figures are distributed: Hodges and Lehmann's estimate
with the interval and the test that belong to it (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods",
3rd edition, 3.2–3.3 and 4.2–4.3).

All of it rests on one sorted row of numbers: for pairs the mean of every two differences (Walsh averages, from
Wilcoxon's signed-rank statistic), for two samples every difference between them (from Mann and Whitney's). The estimate
is their median; a shift is refused if too many of them lie on one side of it; the interval is what is not refused. So
interval and test never contradict each other.

What few trials cannot give: of n pairs no p is below 2^-n, of n and m trials none below 1 / (n + m choose n).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]

_EXACT = 50
"""With more trials than this on a side of two samples, the statistic is taken as normal."""


@dataclass(frozen=True)
class Shift:
    """Where head lies relative to base. `row` is sorted; `tail[k]` is the probability, if there were no shift, that k
    or more of it lie above zero."""

    row: Row
    tail: Row

    @property
    def estimate(self) -> float:
        return float(np.median(self.row))

    def p_above(self, bound: float) -> float:
        """One-sided p against a shift of `bound` or less: small if head lies above it."""
        return float(self.tail[len(self.row) - int(np.searchsorted(self.row, bound, side="right"))])

    def p_below(self, bound: float) -> float:
        """One-sided p against a shift of `bound` or more: small if head lies below it."""
        return float(self.tail[int(np.searchsorted(self.row, bound, side="left"))])

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """The shifts that neither test refuses at `alpha` one-sided, so a confidence of 1 - 2·alpha; None where there
        are too few trials to refuse any."""
        refused = int(np.searchsorted(-self.tail, -alpha, side="left"))  # the least count that is refused
        if refused >= len(self.tail):
            return None
        outside = len(self.row) - refused
        return float(self.row[outside]), float(self.row[len(self.row) - 1 - outside])


def of_pairs(differences: Sequence[float] | Row) -> Shift:
    """From head - base of each pair."""
    values = np.asarray(differences, float)
    first, second = _pairs(len(values))
    return Shift(np.sort((values[first] + values[second]) / 2), _signed_rank_tail(len(values)))


def of_samples(base: Sequence[float], head: Sequence[float]) -> Shift:
    """From the values of two samples that have nothing to do with each other."""
    row = np.subtract.outer(np.asarray(head, float), np.asarray(base, float)).ravel()
    return Shift(np.sort(row), _rank_sum_tail(len(base), len(head)))


@cache
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n)


@cache
def _signed_rank_tail(n: int) -> Row:
    """Each rank from 1 to n is counted or not, each with probability one half."""
    chance: Row = np.ones(1)
    for rank in range(1, n + 1):
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return _tail(chance)


@cache
def _rank_sum_tail(n: int, m: int) -> Row:
    """Of all orders of n and m values, each as likely: how many values of one sample lie above those of the other."""
    if max(n, m) > _EXACT:
        mean, sd = n * m / 2, math.sqrt(n * m * (n + m + 1) / 12)
        return np.array([math.erfc((count - 0.5 - mean) / sd / math.sqrt(2)) / 2 for count in range(n * m + 1)])
    # Gauss's binomial coefficient: the product of (1 - x^(m+i)) / (1 - x^i), in whole numbers.
    ways: NDArray[Any] = np.zeros(n * m + 1, dtype=object)
    ways[0] = 1
    for i in range(1, n + 1):
        if m + i <= n * m:
            ways[m + i :] = ways[m + i :] - ways[: n * m + 1 - m - i]
        for at in range(i, n * m + 1):
            ways[at] += ways[at - i]
    orders = math.comb(n + m, n)
    return _tail(np.array([way / orders for way in ways]))


def _tail(chance: Row) -> Row:
    return np.minimum(1.0, np.cumsum(chance[::-1])[::-1])
