"""Questions that are answered by measuring sides in turns, and what came out.

Every pair measures both sides one right after the other, so that both meet the same machine, and who goes first
alternates. The answer is the median over the pairs of the ratio within each.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from analysis import stats
from analysis.stats import Estimate
from bench.peers.process import VoidError
from bench.peers.programs import Program
from bench.placement import Placement

ENOUGH_PAIRS = 5
"""An interval is given from so many pairs on."""

Unit = Literal["requests/s", "ns", "%", "B"]
BUSY = 0.9
"""A generator that used less than this share of its core was not what limited the rate."""


@dataclass(frozen=True)
class Sample:
    """One measurement. `core_share` is how much of one core wirebench's load process used; None where that says nothing
    or is not known."""

    figure: float
    core_share: float | None = None


Measure = Callable[[], Sample]


@dataclass(frozen=True)
class Setting:
    """What holds for all questions of a run."""

    pairs: int
    duration_s: int
    placement: Placement


@dataclass(frozen=True)
class Question:
    """One row of the table. Two sides are compared: the first one's figure divided by the second's. The figure of a
    single side stands for itself."""

    name: str
    title: str
    sides: tuple[str, ...]
    unit: Unit
    better: Literal["higher", "lower"]
    target: float
    needs: tuple[Program, ...]
    open: Callable[[Setting], AbstractContextManager[Sequence[Measure]]]
    """Starts what is measured; gives a measurement for each side. It and they raise VoidError."""

    @property
    def is_ratio(self) -> bool:
        return len(self.sides) == 2


@dataclass
class Answer:
    """What is known so far: a row of samples for each pair that counts (one for each side), and why others do not."""

    question: Question
    rows: list[tuple[Sample, ...]] = field(default_factory=list)
    voids: list[str] = field(default_factory=list)
    missing: tuple[Program, ...] = ()

    def medians(self) -> list[float] | None:
        """The median figure of each side."""
        return [median(s.figure for s in side) for side in zip(*self.rows, strict=True)] if self.rows else None

    def core_share(self) -> float | None:
        """The median share of its core that wirebench's load process used, as the first side."""
        shares = [row[0].core_share for row in self.rows if row[0].core_share is not None]
        return median(shares) if shares else None

    def values(self) -> list[float]:
        """Of each pair the ratio, or the single figure."""
        return [row[0].figure / row[1].figure if self.question.is_ratio else row[0].figure for row in self.rows]

    def estimate(self) -> Estimate | None:
        """The median of the values and, from ENOUGH_PAIRS on, its 95 % interval."""
        values = self.values()
        is_ratio = self.question.is_ratio
        found = stats.ratio_estimate([math.log(value) for value in values]) if is_ratio else stats.estimate(values)
        return found if found is None or found.n >= ENOUGH_PAIRS else Estimate(found.value, None, None, found.n)

    def met(self) -> bool | None:
        """Whether the median reaches the target; None if nothing was measured."""
        found, target = self.estimate(), self.question.target
        if found is None:
            return None
        return found.value >= target if self.question.better == "higher" else found.value <= target

    def record(self) -> dict[str, Any]:
        """As the JSON answer holds it. Figures are in `unit`; `value` is a ratio where there are two sides."""
        found, values = self.estimate(), self.values()
        return {
            "name": self.question.name,
            "title": self.question.title,
            "sides": list(self.question.sides),
            "unit": self.question.unit,
            "rows": [[sample.figure for sample in row] for row in self.rows],
            "medians": self.medians(),
            "core_share": self.core_share(),
            "value": None
            if found is None
            else {
                "kind": "ratio" if self.question.is_ratio else "figure",
                "median": found.value,
                "least": min(values),
                "most": max(values),
                "low": found.low,
                "high": found.high,
                "n": found.n,
            },
            "target": {"better": self.question.better, "value": self.question.target},
            "met": self.met(),
            "voids": self.voids,
            "missing": [program.name for program in self.missing],
        }


def ask(answer: Answer, setting: Setting) -> Iterator[str]:
    """Measure, and keep what comes out in `answer`; yields a line after each pair."""
    question = answer.question
    answer.missing = tuple(program for program in question.needs if program.find() is None)
    if answer.missing:
        yield f"left out: {', '.join(program.name for program in answer.missing)} not installed"
        return
    try:
        with question.open(setting) as measures:
            for number in range(setting.pairs):
                where = f"pair {number + 1} of {setting.pairs}"
                try:
                    row = _measure(measures, reverse=number % 2 == 1)
                except VoidError as error:
                    answer.voids.append(f"{where}: {error}")
                    yield f"{where}: void: {error}"
                else:
                    answer.rows.append(row)
                    yield f"{where}: {answer.values()[-1]:.4g}" + (" ×" if question.is_ratio else f" {question.unit}")
    except VoidError as error:
        answer.voids.append(str(error))
        yield f"void: {error}"


def _measure(measures: Sequence[Measure], reverse: bool) -> tuple[Sample, ...]:
    if reverse:
        return tuple(reversed([measure() for measure in reversed(measures)]))
    return tuple(measure() for measure in measures)
