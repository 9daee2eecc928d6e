"""What a mix came to: the figures of each of its requests, and whether the thresholds on it held. Percentiles are those
of a trial; of several trials the median is shown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from analysis.load_results import Distribution, Judged, Trial
from analysis.metrics import show_duration, show_number, show_share
from bench.quantities import format_rate

SHOWN_AS = {"ns": show_duration, "share": show_share, "count": show_number, "per_s": format_rate}
"""How the figures of thresholds are spelled, by their unit."""

MARKS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}
"""Whether a threshold held; None where its figure was not measured."""

COLUMNS = ("p50", "p99", "max")
"""What of a request's latency is shown."""


@dataclass(frozen=True)
class RequestRow:
    """A request of a mix: how often it was answered in all trials, its latencies as COLUMNS says, and what failed."""

    name: str
    completed: int
    latencies: Sequence[str]
    failed: str
    complaint: str


@dataclass(frozen=True)
class ThresholdRow:
    """A threshold: its figure, and whether it held in every trial. `rounds` says in how many, if there are several."""

    text: str
    value: str
    held: bool | None
    rounds: str

    @property
    def mark(self) -> str:
        return MARKS[self.held]


def request_rows(trials: Sequence[Trial]) -> list[RequestRow]:
    """The requests of a mix; none for other patterns."""
    names = dict.fromkeys(name for trial in trials for name in trial.requests)
    return [_request_row(name, [trial for trial in trials if name in trial.requests]) for name in names]


def _request_row(name: str, trials: Sequence[Trial]) -> RequestRow:
    found = [trial.requests[name] for trial in trials]
    errors: Counter[str] = Counter()
    for each in found:
        errors.update(each.errors)
    latencies = [each.latency_ns for each in found if each.latency_ns is not None]
    return RequestRow(
        name,
        sum(each.completed for each in found),
        [_median_of(latencies, column) for column in COLUMNS],
        ", ".join(f"{number:,} {kind}" for kind, number in sorted(errors.items())),
        next((each.complaint for each in found if each.complaint), ""),
    )


def _median_of(latencies: Sequence[Distribution], column: str) -> str:
    return show_duration(median(getattr(each, column) for each in latencies)) if latencies else "–"


def threshold_rows(trials: Sequence[Trial]) -> list[ThresholdRow]:
    """The thresholds that trials were judged by; none where there are none."""
    by_text: dict[str, list[Judged]] = {}
    for trial in trials:
        for judged in trial.thresholds:
            by_text.setdefault(judged.threshold, []).append(judged)
    return [_threshold_row(text, found) for text, found in by_text.items()]


def _threshold_row(text: str, found: Sequence[Judged]) -> ThresholdRow:
    values = [judged.value for judged in found if judged.value is not None]
    held = [judged.held for judged in found]
    verdict = False if False in held else None if None in held else True
    value = SHOWN_AS[found[0].unit](median(values)) if values else "not measured"
    rounds = f"held in {held.count(True)} of {len(held)} rounds" if len(held) > 1 else ""
    return ThresholdRow(text, value, verdict, rounds)
