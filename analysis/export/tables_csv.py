"""CSV files of all figures: one row for each trial, and one row for each scenario with medians and 95 % intervals.

Column names carry their units; an empty cell was not measured.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields

from analysis.load_results import Run, Scenario, Trial
from analysis.metrics import METRICS, PROBED, Metric, metric_named
from analysis.summary import Summary, summaries

Cell = str | int | float | bool | None

_RUN = ("run", "suite", "run_started")
_SCENARIO = tuple(field.name for field in fields(Scenario))
_COUNTS = ("offered", "sent", "completed", "dropped", "errors")
_TRIAL = ("round", "seed", "started", "valid", *_COUNTS, "errors_by_kind")
_METRICS = tuple(metric.name for metric in METRICS)


def figures_csv(runs: Sequence[Run]) -> str:
    """One row for each trial: every metric, what patterns counted and what probes gave."""
    metrics = [*METRICS, *_others(runs)]
    head = (*_RUN, *_SCENARIO, *_TRIAL, *(metric.name for metric in metrics), "doubts", "fatal_doubts", "error")
    return _csv(head, (_trial_row(run, trial, metrics) for run in runs for trial in run.trials))


def _others(runs: Sequence[Run]) -> list[Metric]:
    """The metrics that only these runs have."""
    trials = [trial for run in runs for trial in run.trials]
    names = dict.fromkeys(f"tally_{name}" for trial in trials for name in trial.tally or ())
    names |= dict.fromkeys(f"{PROBED}{name}" for trial in trials for name in trial.figures or ())
    return [metric for metric in map(metric_named, names) if metric is not None]


def run_csv(run: Run) -> str:
    """One row for each trial of one run."""
    return figures_csv([run])


def summary_csv(runs: Sequence[Run]) -> str:
    """One row for each scenario: of each figure the median over the trials, and the ends of its 95 % interval."""
    estimates = [f"{name}_{part}" for name in _METRICS for part in ("median", "low", "high")]
    head = (*_RUN, *_SCENARIO, "rounds", *estimates, "doubts", "fatal_doubts")
    return _csv(head, (_summary_row(run, summary) for run in runs for summary in summaries(run)))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180, section 2
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def _scenario_cells(run: Run, scenario: Scenario) -> list[Cell]:
    return [run.path.name, run.suite, run.started, *(getattr(scenario, name) for name in _SCENARIO)]


def _trial_row(run: Run, trial: Trial, metrics: Sequence[Metric]) -> list[Cell]:
    counts = trial.counts
    numbers: list[Cell] = [None] * (len(_COUNTS) + 1)
    if counts is not None:
        errors = sum(counts.errors.values())
        by_kind = " ".join(f"{kind}={number}" for kind, number in sorted(counts.errors.items()))
        numbers = [counts.offered, counts.sent, counts.completed, counts.dropped, errors, by_kind]
    return [
        *_scenario_cells(run, trial.scenario),
        trial.round,
        trial.seed,
        trial.started,
        trial.valid,
        *numbers,
        *(metric.of(trial) for metric in metrics),
        _kinds(doubt.kind for doubt in trial.doubts if not doubt.fatal),
        _kinds(doubt.kind for doubt in trial.doubts if doubt.fatal),
        trial.error,
    ]


def _summary_row(run: Run, summary: Summary) -> list[Cell]:
    estimates: list[Cell] = []
    for metric in METRICS:
        estimate = summary.estimate(metric)
        estimates += [None] * 3 if estimate is None else [estimate.value, estimate.low, estimate.high]
    return [
        *_scenario_cells(run, summary.scenario),
        len(summary.trials),
        *estimates,
        _kinds(tally.kind for tally in summary.doubts if not tally.fatal),
        _kinds(tally.kind for tally in summary.doubts if tally.fatal),
    ]


def _kinds(kinds: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(kinds))
