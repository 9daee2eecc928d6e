"""What coordination costs is measured with real workers."""

import pytest

from bench.peers.comparison import Setting
from bench.peers.coordination_questions import coordination_questions
from bench.placement import choose_placement


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("name", ["distributed-rate", "distributed-cpu"])
def test_each_side_is_measured(name: str) -> None:
    (question,) = (each for each in coordination_questions() if each.name == name)
    with question.open(Setting(1, 1, choose_placement(1))) as measures:
        figures = [measure().figure for measure in measures]
    assert len(figures) == len(question.sides)
    assert all(figure > 0 for figure in figures)
    if question.unit == "%":
        assert figures[0] < 100
