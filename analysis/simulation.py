"""How often verdicts are right, by simulated servers whose difference is known: the same rules and rounds as for real
ones, on figures that are drawn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.verdict import ROUNDS, Rule, Standing, judge_rule

DIFFERENCES, NOISES = (0.0, 0.03, 0.10), (0.01, 0.02, 0.04)
MARGIN = 0.03
"""What a simulated claim says: one server is faster by so much or more."""

_CLAIMS = 400
"""As many as tell shares of some percent."""

DRIFT = 0.10
"""How much the state of the machine, which both sides of a round share, moves between rounds: the standard deviation of
its logarithm."""


@dataclass(frozen=True)
class Simulated:
    """What became of `claims` claims that one server is faster than the other, at a true difference and a noise."""

    difference: float
    noise: float
    """Of a trial beside the others of its round: the standard deviation of its logarithm."""
    rounds: int
    claims: int
    standings: Counter[Standing]

    def share(self, standing: Standing) -> float:
        """How many ended so."""
        return self.standings[standing] / self.claims


def simulated(differences: Sequence[float] = DIFFERENCES) -> list[Simulated]:
    """What `wirebench claims --simulate` shows; a difference of 0 alone is the A/A figure: how often servers that are
    alike are told apart."""
    return simulate(differences, NOISES, ROUNDS, _CLAIMS, MARGIN, seed=1)


def simulate(
    differences: Sequence[float], noises: Sequence[float], rounds: int, claims: int, margin: float, seed: int
) -> list[Simulated]:
    """Every difference with every noise. Rounds are added as a run adds them: an undecided claim gets as many again,
    twice at most."""
    generator = np.random.default_rng(seed)
    found = []
    for difference in differences:
        for noise in noises:
            standings: Counter[Standing] = Counter()
            for _ in range(claims):
                standings[_one(generator, difference, noise, rounds, margin)] += 1
            found.append(Simulated(difference, noise, rounds, claims, standings))
    return found


def _one(generator: np.random.Generator, difference: float, noise: float, rounds: int, margin: float) -> Standing:
    rule = Rule("it takes less time", "latency_p50_ns", "one", "less", "other", margin=margin)
    one: dict[int, float] = {}
    other: dict[int, float] = {}
    standing = Standing.UNDECIDED
    for extra in range(3):
        for number in range(extra * rounds, (extra + 1) * rounds):
            state = 1e6 * np.exp(generator.normal(0, DRIFT))
            other[number] = float(state * np.exp(generator.normal(0, noise)))
            one[number] = float(state * np.exp(generator.normal(0, noise)) / (1 + difference))
        standing = judge_rule(rule, "", one, other).standing
        if standing is not Standing.UNDECIDED:
            break
    return standing
