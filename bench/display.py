"""The live display of a run, on standard error: a moving one on a terminal; elsewhere a line for each trial, or for
each second of a trial that is the only one.

It is drawn when something is reported, twice a second at most, and never by a thread or timer of its own: what draws
takes CPU from what is measured.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from bench.load.histogram import new_hdr, percentiles
from bench.loadprocess import Progress
from bench.plan import PlannedTrial
from bench.quantities import format_duration, format_rate
from bench.run import Watcher
from bench.scenario import Scenario

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_OVERHEAD_S = 0.6
"""What a trial takes beside warm-up and measured phase, as long as no trial has shown it."""


@contextmanager
def watch(
    title: str, scenarios: Sequence[Scenario], rounds: int, stream: TextIO | None = None, rounds_before: int = 0
) -> Iterator[Watcher]:
    """The display that suits the stream: standard error, if none is named. `title` is what runs; `rounds_before` have
    been run already."""
    stream = stream or sys.stderr
    clock = RunClock(scenarios, rounds, rounds_before)
    if not stream.isatty():
        yield Lines(clock, stream)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), auto_refresh=False, transient=True) as live:
        yield Screen(title, clock, live)


class RunClock:
    """How far a run has come, and when it will have ended."""

    def __init__(self, scenarios: Sequence[Scenario], rounds: int, rounds_before: int = 0) -> None:
        self.trials = len(scenarios) * rounds
        self.rounds = rounds_before + rounds
        self.ended = 0
        self._planned_s = sum(nominal_s(scenario) for scenario in scenarios) * rounds
        self._ended_s = 0.0
        self._running_s = 0.0
        self._started = self._trial_started = time.monotonic()

    def begin(self, scenario: Scenario) -> None:
        """A trial begins."""
        self._running_s = nominal_s(scenario)
        self._trial_started = time.monotonic()

    def end(self) -> None:
        """The trial has ended."""
        self.ended += 1
        self._ended_s += self._running_s
        self._running_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds to the end of the run."""
        now = time.monotonic()
        spent = self._trial_started - self._started
        overhead = max(0.0, spent - self._ended_s) / self.ended if self.ended else _OVERHEAD_S
        whole = self._planned_s - self._ended_s + overhead * (self.trials - self.ended)
        return max(0.0, whole - (now - self._trial_started))

    @property
    def share(self) -> float:
        """How much of the run is over, 0 to 1."""
        gone = time.monotonic() - self._started
        return gone / max(1e-9, gone + self.left_s)


def nominal_s(scenario: Scenario) -> float:
    """How long a trial sends: warm-up and measured phase."""
    return (scenario.warmup_ns + scenario.duration_ns) / 1e9


class Lines:
    """One line for each trial that has ended; of the only trial of a run, one for each second of it."""

    def __init__(self, clock: RunClock, stream: TextIO) -> None:
        self._clock = clock
        self._stream = stream
        self._measured_s = 0.0

    def trial_begins(self, planned: PlannedTrial) -> None:
        self._clock.begin(planned.scenario)

    def progress(self, progress: Progress) -> None:
        if self._clock.trials > 1 or progress.period_s < 1:
            return  # a part of a second ends the run
        self._measured_s += progress.period_s
        print(f"{self._measured_s:4.0f} s   {spell_progress(progress)}", file=self._stream, flush=True)

    def trial_ended(self, trial: dict[str, Any]) -> None:
        clock = self._clock
        clock.end()
        if clock.trials == 1:
            return  # what follows the run says the same
        where = f"[{clock.ended}/{clock.trials}] round {trial['round'] + 1} of {clock.rounds}"
        print(f"{where}: {trial['scenario']['name']}: {figures(trial)}", file=self._stream, flush=True)


class Screen:
    """Where the run stands, and how the trial under way does; a trial that fails leaves a line behind."""

    def __init__(self, title: str, clock: RunClock, live: "Live") -> None:
        self._title = title
        self._clock = clock
        self._live = live
        self._planned: PlannedTrial | None = None
        self._last = ""
        self._so_far = Progress(0.0, 0, 0, new_hdr())

    def trial_begins(self, planned: PlannedTrial) -> None:
        self._planned = planned
        self._so_far = Progress(0.0, 0, 0, new_hdr())
        self._clock.begin(planned.scenario)
        self._draw("starting")

    def progress(self, progress: Progress) -> None:
        self._so_far = self._so_far.plus(progress)
        now = replace(self._so_far, period_s=progress.period_s, completed=progress.completed)
        self._draw(spell_progress(now))

    def trial_ended(self, trial: dict[str, Any]) -> None:
        self._clock.end()
        self._last = f"{trial['scenario']['name']}   {figures(trial)}"
        if trial["error"] is not None:
            from rich.text import Text

            self._live.console.print(Text(f"failed: {trial['scenario']['name']}: {trial['error']}", style="red"))

    def _draw(self, state: str) -> None:
        self._live.update(self._picture(state), refresh=True)

    def _picture(self, state: str) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        clock, planned = self._clock, self._planned
        assert planned is not None
        where = f"{self._title}"
        if clock.trials > 1:
            where += f"   round {planned.round + 1} of {clock.rounds}   trial {clock.ended + 1} of {clock.trials}"
        left = f"{spell_left(clock.left_s)} left"
        head = Table.grid(padding=(0, 2))
        head.add_row(Text(where, style="bold"), ProgressBar(total=1.0, completed=clock.share, width=24), Text(left))
        # The only trial is what the title says. What does not fit wraps: figures are what people look for.
        name = Text.assemble((planned.scenario.name, "cyan"), "   ") if clock.trials > 1 else Text()
        lines = [Text.assemble("now   ", name, state)]
        if self._last:
            lines.append(Text(f"last  {self._last}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(head, *lines)


def figures(trial: dict[str, Any]) -> str:
    """A trial's figures in one line, with what speaks against them."""
    if trial["error"] is not None:
        return f"failed: {trial['error']}"
    latency, counts = trial["latency_ns"], trial["counts"]
    p50, p99 = (latency["p50"], latency["p99"]) if latency else (None, None)
    failed = sum(counts["errors"].values()) + counts["dropped"]
    kinds = [doubt["kind"] + (" (fatal)" if doubt["fatal"] else "") for doubt in trial["doubts"]]
    doubts = f"   doubts: {', '.join(kinds)}" if kinds else ""
    return spell_figures(trial["throughput_per_s"], p50, p99, failed) + doubts


def spell_progress(progress: Progress) -> str:
    """As `spell_figures`, with the longest latency too."""
    hdr = progress.hdr
    p50, p99, most = percentiles(hdr, 50, 99, 100) if hdr.total_count else (None, None, None)
    rate_per_s = progress.completed / progress.period_s if progress.period_s else 0.0
    return spell_figures(rate_per_s, p50, p99, progress.errors, most)


def spell_figures(
    rate_per_s: float, p50_ns: float | None, p99_ns: float | None, errors: int, max_ns: float | None = None
) -> str:
    """ "84,123/s   p50 553 µs   p99 4.84 ms   0 errors"; with a maximum "max 7.21 ms" after p99."""
    p50, p99 = ("–" if ns is None else _spell(ns) for ns in (p50_ns, p99_ns))
    most = "" if max_ns is None else f"   max {_spell(max_ns)}"
    return f"{format_rate(rate_per_s)}   p50 {p50}   p99 {p99}{most}   {errors} error{'s' if errors != 1 else ''}"


def _spell(ns: float) -> str:
    return format_duration(ns).replace(" us", " µs")


def spell_left(seconds: float) -> str:
    """ "0:07", "12:34", "1:02:03"."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
