"""What coordination costs is measured with real workers."""

from itertools import count
from types import SimpleNamespace

import pytest

from bench.loadprocess import Progress
from bench.peers import coordination_questions as questions
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


def test_the_share_is_without_looking_and_without_what_results_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = used_s = 100.0
    looking = count()

    def process_time() -> float:
        return used_s + 0.25 * ((next(looking) + 1) // 2)  # each look asks twice, and uses that between

    monkeypatch.setattr(questions, "time", SimpleNamespace(monotonic=lambda: now_s, process_time=process_time))
    monkeypatch.setattr(questions.psutil.Process, "children", lambda _me, recursive: [])
    meter = questions._Meter()
    for after_s, cost_s, seconds in ((3.0, 1.0, 2), (3.0, 0.03, 3), (3.0, 0.09, 3), (0.9, 5.0, 2)):
        now_s, used_s = now_s + after_s, used_s + cost_s
        for _ in range(seconds):
            meter.progress(Progress(1.0, 1, 0, None))
            used_s += 0.01  # what is done with each second
    assert meter.share() == pytest.approx((0.02 + 0.03 + 0.03 + 0.09) / 6, abs=1e-6)
