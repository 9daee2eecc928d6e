"""How often verdicts are right, by simulated servers whose difference is known: the same rules and rounds as for real
ones, on figures that are drawn, or on those of a machine whose two sides were the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.load_results import Scenario
from analysis.metrics import Metric
from analysis.regression import ALPHA, Answer, Change, Question, answer, is_decided, looks_until
from analysis.verdict import Mode, Rule, Standing, judge_rule

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
    mode: Mode
    claims: int
    standings: Counter[Standing]

    @property
    def rounds(self) -> int:
        """Before a claim is judged."""
        return self.mode.rounds_of()

    @property
    def most_rounds(self) -> int:
        """Of a claim on which nothing was decided."""
        return self.rounds * self.mode.most

    def share(self, standing: Standing) -> float:
        """How many ended so."""
        return self.standings[standing] / self.claims


def simulated(mode: Mode, differences: Sequence[float] = DIFFERENCES) -> list[Simulated]:
    """What `wirebench claims --simulate` shows; a difference of 0 alone is the A/A figure: how often servers that are
    alike are told apart."""
    return simulate(mode, differences, NOISES, _CLAIMS, MARGIN, seed=1)


def simulate(
    mode: Mode, differences: Sequence[float], noises: Sequence[float], claims: int, margin: float, seed: int
) -> list[Simulated]:
    """Every difference with every noise. Rounds are added as a run in the mode adds them that never runs out of
    time."""
    generator = np.random.default_rng(seed)
    found = []
    for difference in differences:
        for noise in noises:
            standings: Counter[Standing] = Counter()
            for _ in range(claims):
                standings[_one(generator, mode, difference, noise, margin)] += 1
            found.append(Simulated(difference, noise, mode, claims, standings))
    return found


def _one(generator: np.random.Generator, mode: Mode, difference: float, noise: float, margin: float) -> Standing:
    rule = Rule("it takes less time", "latency_p50_ns", "one", "less", "other", margin=margin)
    one: dict[int, float] = {}
    other: dict[int, float] = {}
    standing = Standing.UNDECIDED
    rounds = mode.rounds_of()
    for batch in range(mode.most):
        for number in range(batch * rounds, (batch + 1) * rounds):
            state = 1e6 * np.exp(generator.normal(0, DRIFT))
            other[number] = float(state * np.exp(generator.normal(0, noise)))
            one[number] = float(state * np.exp(generator.normal(0, noise)) / (1 + difference))
        standing = judge_rule(rule, "", one, other).standing
        if standing is not Standing.UNDECIDED:
            break
    return standing


@dataclass(frozen=True)
class Gates:
    """What became of `gates` gates whose head takes `slowdown` more than base. `comparisons` counts the metrics that
    came out worse, of all of all gates; `pairs` is the median of the pairs that a gate took."""

    slowdown: float
    gates: int
    changes: Counter[Change]
    comparisons: Counter[Change]
    pairs: float

    @property
    def worse(self) -> float:
        """The share of gates that said worse."""
        return self.changes[Change.WORSE] / self.gates

    @property
    def worse_comparisons(self) -> float:
        """The share of comparisons that said worse."""
        return self.comparisons[Change.WORSE] / max(1, self.comparisons.total())


Side = Mapping[Metric, NDArray[np.float64]]
"""The figures of trials, in their order."""


def simulate_gates(
    base: Side, head: Side, scenario: Scenario, slowdown: float, margin: float, most: int, gates: int, seed: int
) -> Gates:
    """Gates on the figures of two sides that are the same. Each gate draws its pairs from them, with the sides of each
    pair changed by chance, which makes another experiment of two equal sides; then head is made slower."""
    generator = np.random.default_rng(seed)
    changes: Counter[Change] = Counter()
    comparisons: Counter[Change] = Counter()
    taken = []
    n = min(len(next(iter(base.values()))), len(next(iter(head.values()))))
    for _ in range(gates):
        which, swapped = generator.integers(0, n, most), generator.random(most) < 0.5
        figures = {}
        for metric in base:
            one, other = base[metric][which], head[metric][which]
            factor = 1 + slowdown if metric.better == "lower" else 1 / (1 + slowdown)
            figures[metric] = np.where(swapped, other, one), np.where(swapped, one, other) * factor
        pairs, answers = _gate(figures, scenario, margin, most)
        found = {one.change for one in answers}
        changes[next((c for c in (Change.WORSE, Change.BETTER, Change.UNKNOWN) if c in found), Change.SAME)] += 1
        comparisons.update(one.change for one in answers)
        taken.append(pairs)
    return Gates(slowdown, gates, changes, comparisons, float(np.median(taken)))


def _gate(
    figures: Mapping[Metric, tuple[NDArray[np.float64], NDArray[np.float64]]],
    scenario: Scenario,
    margin: float,
    most: int,
) -> tuple[int, tuple[Answer, ...]]:
    """What a gate would have said of these figures of base and head, pair by pair, and after how many pairs."""
    looks, n = looks_until(most), 0
    found: tuple[Answer, ...] = ()
    for n in looks:
        questions = [
            Question(scenario, metric, dict(enumerate(base[:n])), dict(enumerate(head[:n])))
            for metric, (base, head) in figures.items()
        ]
        found = answer(questions, margin, True, ALPHA / len(looks))
        if is_decided(found):
            break
    return n, found
