"""What is shown while a run goes on."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from bench import display
from bench.display import Lines, RunClock, Screen, spell_figures, spell_left, watch
from bench.load.histogram import new_hdr
from bench.loadprocess import Progress
from bench.plan import PlannedTrial
from bench.scenario import parse_scenario

SCENARIO = parse_scenario({"protocol": "tcp", "load": "closed:8", "warmup": "1s", "duration": "3s"}, "test", "g")


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(display, "time", clock)
    return clock


def trial(**changes: Any) -> dict[str, Any]:
    return {
        "scenario": {"name": "tcp single"},
        "round": 0,
        "error": None,
        "counts": {"errors": {"timeout": 2}, "dropped": 1},
        "throughput_per_s": 12_345.6,
        "latency_ns": {"p50": 50_000, "p99": 1_500_000},
        "doubts": [{"kind": "errors", "fatal": True}, {"kind": "noisy-host", "fatal": False}],
        **changes,
    }


def progress(latency_ns: int, period_s: float = 0.5) -> Progress:
    hdr = new_hdr()
    hdr.record_value(latency_ns)
    return Progress(period_s, 1000, 3, hdr)


def test_time_left_counts_what_trials_take_beside_their_measuring(clock: Time) -> None:
    run = RunClock([SCENARIO, SCENARIO], rounds=2)
    assert run.trials == 4
    assert run.left_s == pytest.approx(4 * 4 + 4 * 0.6)
    run.begin(SCENARIO)
    clock.now += 6  # two more than it says
    run.end()
    run.begin(SCENARIO)
    assert run.left_s == pytest.approx(3 * 6)
    clock.now += 3
    assert run.left_s == pytest.approx(3 * 6 - 3)
    assert run.share == pytest.approx(9 / 24)
    clock.now += 100
    assert run.left_s == 0


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with watch("mine", [SCENARIO], 2, stream) as watcher:
        assert isinstance(watcher, Lines)
        for number in range(2):
            watcher.trial_begins(PlannedTrial(SCENARIO, number, 1))
            watcher.progress(progress(1000))
            watcher.trial_ended(trial(round=number))
    figures = "12,346/s   p50 50 µs   p99 1.5 ms   3 errors   doubts: errors (fatal), noisy-host"
    assert stream.getvalue().splitlines() == [
        f"[1/2] round 1 of 2: tcp single: {figures}",
        f"[2/2] round 2 of 2: tcp single: {figures}",
    ]


def test_the_screen_shows_where_the_run_stands(clock: Time) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        screen = Screen("mine", RunClock([SCENARIO], 3), live)

        def shown() -> str:
            other = Console(file=io.StringIO(), width=100)
            other.print(live.get_renderable())
            return other.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO of the line above

        screen.trial_begins(PlannedTrial(SCENARIO, 0, 1))
        assert "mine   round 1 of 3   trial 1 of 3" in shown()
        assert "0:14 left" in shown()
        assert "tcp single closed:8 echo 64B   starting" in shown()
        screen.progress(progress(2_000_000))
        screen.progress(progress(4_000_000))
        assert "2,000/s   p50 2 ms   p99 4 ms   max 4 ms   6 errors" in shown()
        screen.trial_ended(trial(error="no server"))
        screen.trial_begins(PlannedTrial(SCENARIO, 1, 1))
        assert "round 2 of 3   trial 2 of 3" in shown()
        assert "last  tcp single   failed: no server" in shown()
    output = console.file.getvalue()  # type: ignore[attr-defined]  # as above
    assert "failed: tcp single: no server" in output


@pytest.mark.parametrize("trials", [1, 2])
def test_a_narrow_terminal_loses_no_figure(trials: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        screen = Screen("mine", RunClock([SCENARIO], trials), live)
        screen.trial_begins(PlannedTrial(SCENARIO, 0, 1))
        screen.progress(progress(2_000_000))
        shown = Console(file=io.StringIO(), width=60)
        shown.print(live.get_renderable())
    text = " ".join(shown.file.getvalue().split())  # type: ignore[attr-defined]  # as above
    assert "2,000/s p50 2 ms p99 2 ms max 2 ms 3 errors" in text


def test_what_was_not_measured_is_no_number() -> None:
    assert spell_figures(0.0, None, None, 1) == "0/s   p50 –   p99 –   1 error"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_time_left_is_spelled_as_on_a_clock(seconds: float, text: str) -> None:
    assert spell_left(seconds) == text


def test_the_only_trial_has_a_line_each_second_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with watch("mine", [SCENARIO], 1, stream) as watcher:
        watcher.trial_begins(PlannedTrial(SCENARIO, 0, 1))
        for latency_ns, period_s in ((1_000_000, 1.0), (3_000_000, 1.0), (5_000_000, 0.5)):
            watcher.progress(progress(latency_ns, period_s))
        watcher.trial_ended(trial())
    assert stream.getvalue().splitlines() == [
        "   1 s   1,000/s   p50 1 ms   p99 1 ms   max 1 ms   3 errors",
        "   2 s   1,000/s   p50 3 ms   p99 3 ms   max 3 ms   3 errors",
    ]
