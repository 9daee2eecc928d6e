"""The search for the highest rate that is met: no clock, no load, only outcomes that it is told and the rate it wants
next.

Rates double from a first one until one is missed (or fall until one is met). What a service answers while it is
offered too much is about what it can answer, so the search goes on just below and just above that, and in growing
steps from there; where nothing of that kind is known it halves the gap. A rate that is missed once is tried again, and
two of three decide: what disturbs a trial makes it worse, hardly ever better. Trials that are known to be disturbed do
not count, as long as they are few.

Then comes a stage of its own: longer trials, judged strictly. The first is at the lowest rate missed: if it meets the
objectives, what disturbed the short ones has passed, and the search goes on from there. Those that follow are at the
highest rate met, of which three must meet the objectives before two miss them: the highest of many rates may have been
met by luck. One that fails there counts as missed, and a lower one is asked for.
"""

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from bench.objectives import Outcome

RESOLUTION = 0.04
"""How far apart the highest rate met and the lowest missed may lie in the end, relative to the lower. Short trials do
not tell more: at 2 % too much a queue is 40 ms long after two seconds."""
LOWEST_PER_S = 1.0
"""A service that misses its objectives there has no capacity worth the name."""
MAX_CONFIRMATIONS = 6
"""Rates that are tried for confirmation before the search gives up."""


class Stage(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    CONFIRM = "confirm"


class Reason(StrEnum):
    """Why a search stopped."""

    OBJECTIVE = "objective"
    """The next higher rate misses an objective."""
    DIED = "died"
    """The service does not live through the next higher rate."""
    GENERATOR = "generator-saturated"
    """The next higher rate is more than the load generator can offer."""
    DISTURBED = "disturbed"
    """Trials of the next higher rate were disturbed by other work on the machine, again and again."""
    MAX_RATE = "max-rate"
    """The highest rate that was allowed is met."""
    UNMET = "unmet"
    """Even the lowest rate misses an objective."""
    UNCONFIRMED = "unconfirmed"
    """No rate that short trials meet is met in long ones."""


_UP, _DOWN = 2.0, 0.25
_UNDER, _OVER = 0.01, 0.025
"""How far below and above the throughput of an overload the search tries next, relative to it."""
_STRIDE = 4
"""How much farther from that each further step is."""
_CLEARLY = 0.96
"""The most that an overload answers of what it is offered; independent requests may be that few by chance."""
_FALLS, _STEEPER = 0.035, 2.5
"""How far below a rate that failed the next one is tried for confirmation; by how much more where that fails again."""
_MISSES = 2
"""So many misses decide a rate."""
CONFIRMATIONS = 3
"""So many long trials that meet the objectives confirm a rate."""
_MEETS = {Stage.SEARCH: 2, Stage.CONFIRM: CONFIRMATIONS}
"""So many trials that meet the objectives do."""
_WIDE, _MAX_LONG = 1.06, 6
"""Between a rate confirmed and one refuted another is tried if they lie further apart, and this search has asked for
no more long trials yet: a search is to end in three minutes."""
_MAX_DISTURBED = 3
"""So many disturbed trials of a rate do not count. Where there are more, the search goes on as if the rate were met, as
the confirmation will tell; a confirmation counts them as missed."""


@dataclass(frozen=True)
class Step:
    """The trial that the search wants next."""

    stage: Stage
    rate_per_s: float


@dataclass(frozen=True)
class Found:
    """How a search ended: the highest rate confirmed, None if there is none, and the lowest rate missed, None if none
    was. What long trials missed is missed, whatever short ones came to; of what short ones missed, the lowest above all
    that were met."""

    rate_per_s: float | None
    missed_per_s: float | None
    reason: Reason


class RateSearch:
    """Tell it what came of each step, and ask for the next one."""

    def __init__(self, start_per_s: float, max_per_s: float) -> None:
        self._start = min(start_per_s, max_per_s)
        self._max = max_per_s
        self._tallies: dict[Stage, dict[float, Counter[Outcome]]] = {stage: {} for stage in Stage}
        self._throughputs: dict[float, float] = {}
        self._asked: Counter[float] = Counter()  # for long trials, by this search: others may be told of too

    def tell(self, step: Step, outcome: Outcome, throughput_per_s: float) -> None:
        """What came of a trial, and how much was answered in it."""
        rate = step.rate_per_s
        self._tallies[step.stage].setdefault(rate, Counter())[outcome] += 1
        self._throughputs[rate] = max(throughput_per_s, self._throughputs.get(rate, 0.0))

    def highest_met_per_s(self) -> float | None:
        """The highest rate that a short trial met."""
        met = [rate for rate, tally in self._tallies[Stage.SEARCH].items() if tally[Outcome.MET]]
        return max(met, default=None)

    def next(self) -> Step | Found:
        """The step to take, or how the search has ended."""
        step = self._next()
        if isinstance(step, Step) and step.stage is Stage.CONFIRM:
            self._asked[step.rate_per_s] += 1
        return step

    def _next(self) -> Step | Found:
        tried = self._tallies[Stage.SEARCH]
        met, missed = self._met(), self._missed()
        pending = [rate for rate in tried if rate not in met and rate not in missed]
        if pending:
            return Step(Stage.SEARCH, pending[0])
        refuted = self._decided(Stage.CONFIRM, met=False)
        high = min([*missed, *refuted], default=None)
        low = max((rate for rate in met if high is None or rate < high), default=None)
        if not refuted and (step := self._searching(low, high)) is not None:
            return step
        if low is None and not refuted:
            return Found(None, high, self._why(high))
        return self._confirming(low, high, refuted)

    def _searching(self, low: float | None, high: float | None) -> Step | None:
        """The next step of the search; None if it has closed in."""
        if low is None and high is None:
            return Step(Stage.SEARCH, self._start)
        if low is None:
            assert high is not None
            return Step(Stage.SEARCH, max(LOWEST_PER_S, _rounded(high * _DOWN))) if high > LOWEST_PER_S else None
        if high is None:
            return Step(Stage.SEARCH, min(self._max, low * _UP)) if low < self._max else None
        between = _rounded(self._between(low, high))
        return Step(Stage.SEARCH, between) if high / low > 1 + RESOLUTION and low < between < high else None

    def _between(self, low: float, high: float) -> float:
        """The rate between the two that says most."""
        middle = math.sqrt(low * high)
        if (carried := self._overload()) is None:
            return middle
        under, over = carried * (1 - _UNDER), carried * (1 + _OVER)
        if low < carried * (1 - 2 * _UNDER):
            if _rounded(under) < high:
                return under
            return max(middle, carried - _STRIDE * (carried - high))
        return min(middle, max(over, carried + _STRIDE * (low - carried)))

    def _overload(self) -> float | None:
        """What was answered at the lowest rate that was clearly more than that; None if there is none."""
        missed = (*self._missed(), *self._decided(Stage.CONFIRM, met=False))
        shown = [rate for rate in missed if 0 < self._throughputs[rate] < rate * _CLEARLY]
        return self._throughputs[min(shown)] if shown else None

    def _confirming(self, low: float | None, high: float | None, refuted: list[float]) -> Step | Found:
        """The next step once the search has closed in between `low` and `high`."""
        tried = self._tallies[Stage.CONFIRM]
        confirmed = self._decided(Stage.CONFIRM, met=True)
        best = max((rate for rate in confirmed if high is None or rate < high), default=None)
        tries_left = len(self._asked) < MAX_CONFIRMATIONS
        if not refuted:
            if high is not None and (tries_left if high not in tried else self._is_open(high)):
                return Step(Stage.CONFIRM, high)
            if low is not None and (best is None or low > best):
                return Step(Stage.CONFIRM, low)
        elif pending := [rate for rate in self._asked if rate < min(refuted) and self._is_pending(rate)]:
            return Step(Stage.CONFIRM, pending[0])
        elif best is None:
            lower = self._lower(refuted)
            if tries_left and lower >= LOWEST_PER_S:
                return Step(Stage.CONFIRM, lower)
            why = self._why(high)
            return Found(None, high, why if why is not Reason.OBJECTIVE else Reason.UNCONFIRMED)
        elif tries_left and min(refuted) / best > _WIDE:
            middle = _rounded(math.sqrt(best * min(refuted)))
            if best not in self._asked:  # confirmed by another search, for harder objectives: it may be far off
                return Step(Stage.CONFIRM, max(middle, self._lower(refuted)))
            if self._asked.total() <= _MAX_LONG:
                return Step(Stage.CONFIRM, middle)
        lowest_refuted = min(refuted, default=math.inf)
        highest = max((rate for rate in [*self._met(), *confirmed] if rate < lowest_refuted), default=0.0)
        above = min((rate for rate in [*self._missed(), *refuted] if rate > highest), default=high)
        return Found(best, above, Reason.MAX_RATE if above is None else self._why(above))

    def _lower(self, refuted: list[float]) -> float:
        """The rate to try next where long trials have missed all higher ones."""
        lowest = min(refuted)
        carried = self._throughputs[lowest]
        if len(refuted) == 1 and 0 < carried < lowest * (1 - _UNDER / 2):
            return _rounded(carried * (1 - _UNDER))
        return _rounded(lowest * (1 - _FALLS * _STEEPER ** (len(refuted) - 1)))

    def _is_pending(self, rate: float) -> bool:
        """Whether a confirmation has begun and is not decided. One long trial of a rate that was missed is none."""
        decided = (*self._decided(Stage.CONFIRM, met=True), *self._decided(Stage.CONFIRM, met=False))
        return rate not in decided and rate not in self._decided(Stage.SEARCH, met=False)

    def _is_open(self, rate: float) -> bool:
        """Whether the long trials of a rate that short ones missed say nothing yet."""
        tally = self._tallies[Stage.CONFIRM][rate]
        return tally.total() == tally[Outcome.DISTURBED] <= _MAX_DISTURBED

    def _overruled(self) -> list[float]:
        """The rates that short trials missed, and long ones meet."""
        return [
            rate
            for rate in self._decided(Stage.SEARCH, met=False)
            if (tally := self._tallies[Stage.CONFIRM].get(rate)) is not None
            and tally[Outcome.MET]
            and tally[Outcome.MET] + tally[Outcome.DISTURBED] == tally.total()
        ]

    def _met(self) -> list[float]:
        """The rates that the search counts as met."""
        return [*self._decided(Stage.SEARCH, met=True), *self._overruled()]

    def _missed(self) -> list[float]:
        """The rates that the search counts as missed."""
        overruled = self._overruled()
        return [rate for rate in self._decided(Stage.SEARCH, met=False) if rate not in overruled]

    def _decided(self, stage: Stage, met: bool) -> list[float]:
        """The rates that a stage has decided that way. In the search a rate that is met at first is met."""
        decided = []
        for rate, tally in self._tallies[stage].items():
            right, disturbed = tally[Outcome.MET], max(0, tally[Outcome.DISTURBED] - _MAX_DISTURBED)
            wrong = tally.total() - right - tally[Outcome.DISTURBED]
            if stage is Stage.SEARCH:
                right += disturbed
            else:
                wrong += disturbed
            at_once = stage is Stage.SEARCH and wrong == 0
            is_met, is_missed = right >= _MEETS[stage] or (at_once and right > 0), wrong >= _MISSES
            if (is_met and not is_missed) if met else is_missed:
                decided.append(rate)
        return decided

    def _why(self, rate: float | None) -> Reason:
        """Why nothing higher was found, given the lowest rate missed."""
        seen: Counter[Outcome] = Counter()
        for tallies in self._tallies.values():
            seen += tallies.get(rate, Counter()) if rate is not None else Counter()
        wrong = seen.total() - seen[Outcome.MET]
        if 2 * seen[Outcome.SATURATED] > wrong:
            return Reason.GENERATOR
        if 2 * seen[Outcome.DISTURBED] > wrong:
            return Reason.DISTURBED
        if 2 * seen[Outcome.DIED] > wrong:
            return Reason.DIED
        return Reason.OBJECTIVE if self._decided(Stage.SEARCH, met=True) else Reason.UNMET


def _rounded(rate_per_s: float) -> float:
    """Four significant digits: a rate that can be written down."""
    return float(f"{rate_per_s:.4g}")
