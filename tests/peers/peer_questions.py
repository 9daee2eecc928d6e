"""Questions whose sides are functions of the test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.peers.comparison import Answer, Measure, Question, Sample, Setting, ask
from bench.peers.process import VoidError
from bench.placement import Placement

SETTING = Setting(pairs=5, duration_s=1, placement=Placement((), ()))


def question(*measures: Measure, target: float = 1.0, **fields: Any) -> Question:
    """A question with these sides."""

    @contextmanager
    def open_sides(setting: Setting) -> Iterator[Sequence[Measure]]:
        yield measures

    sides = tuple(f"side {number}" for number in range(len(measures)))
    fields = {"unit": "requests/s", "better": "higher", "needs": (), "open": open_sides, **fields}
    return Question("name", "title", sides, target=target, **fields)


def answered(asked: Question, setting: Setting = SETTING) -> Answer:
    answer = Answer(asked)
    for _ in ask(answer, setting):
        pass
    return answer


def script(log: list[str], name: str, figures: Sequence[float | VoidError]) -> Measure:
    """A side that gives these figures one after the other."""
    upcoming = iter(figures)

    def measure() -> Sample:
        log.append(name)
        figure = next(upcoming)
        if isinstance(figure, VoidError):
            raise figure
        return Sample(figure)

    return measure


def always(figure: float, core_share: float | None = None) -> Measure:
    """A side that gives the same figure every time."""
    return lambda: Sample(figure, core_share)
