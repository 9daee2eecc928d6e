"""The sides of a claim under its conditions, as a group of scenarios: what a result file of a claim holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.load_results import Run, Scenario
from analysis.summary import Contest, Group, Ladder, Part, Summary, summaries

_BETWEEN = ": "


def group_of(condition: str, side: str) -> str:
    """The group of a scenario of a claim, by which its trials are found again."""
    return f"{condition}{_BETWEEN}{side}"


def condition_of(scenario: Scenario) -> str:
    """The condition that a scenario of a claim is run under."""
    return scenario.group.rpartition(_BETWEEN)[0]


def side_of(scenario: Scenario) -> str:
    """The side of a claim that a scenario is."""
    return scenario.group.rpartition(_BETWEEN)[2]


@dataclass(frozen=True)
class Sides(Group):
    """The scenarios of a claim: called by their sides, in a part for each condition. That sides may be compared is what
    the claim says (`although`), so that nothing else parts them."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        by_condition: dict[str, list[Summary]] = {}
        for summary in self.summaries:
            by_condition.setdefault(condition_of(summary.scenario), []).append(summary)
        return tuple(
            Part(condition if len(by_condition) > 1 else "", tuple(members))
            for condition, members in by_condition.items()
        )

    @cached_property
    def contests(self) -> tuple[Contest, ...]:
        return tuple(Contest(part.words, part.summaries) for part in self.parts)

    @cached_property
    def ladders(self) -> tuple[Ladder, ...]:
        """Those within a condition: what changes between conditions is shown along them."""
        return tuple(
            ladder for ladder in super().ladders if len({condition_of(rung.scenario) for rung in ladder.rungs}) == 1
        )

    def label(self, summary: Summary) -> str:
        return side_of(summary.scenario)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sides in their order, which is that of their colours."""
        return tuple(dict.fromkeys(side_of(summary.scenario) for summary in self.summaries))

    def find(self, condition: str, side: str) -> Summary | None:
        """The scenario of a side under a condition; None if no trial of it is there."""
        group = group_of(condition, side)
        return next((each for each in self.summaries if each.scenario.group == group), None)


def sides_of(run: Run, conditions: Sequence[str], sides: Sequence[str]) -> Sides:
    """The scenarios of a claim's run in the order of its conditions and sides, as far as these are named."""

    def place(summary: Summary) -> tuple[object, ...]:
        found = ((condition_of(summary.scenario), conditions), (side_of(summary.scenario), sides))
        return tuple((among.index(name) if name in among else len(among), name) for name, among in found)

    return Sides(run.suite, tuple(sorted(summaries(run), key=place)))
