"""The figures of a run as exporters take them: of each scenario and metric the values of the valid trials."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis import stats
from analysis.load_results import Run, Scenario
from analysis.metrics import THROUGHPUT, Metric, show_duration
from analysis.regression import METRICS, full_name
from analysis.stats import Estimate
from analysis.summary import summaries


@dataclass(frozen=True)
class Figure:
    """One metric of one scenario. `values` are by round; `estimate` is their median with its interval."""

    scenario: Scenario
    metric: Metric
    values: tuple[float, ...]
    estimate: Estimate

    @property
    def scenario_name(self) -> str:
        """Unique in a run."""
        return full_name(self.scenario)

    @property
    def name(self) -> str:
        """Unique in a run."""
        return f"{self.scenario_name}: {self.metric.name}"

    @property
    def is_rate(self) -> bool:
        """Whether more is better here, where others are times or sizes."""
        return self.metric is THROUGHPUT

    @property
    def unit(self) -> str:
        """The unit that the metric's name ends in."""
        name = self.metric.name
        if name.endswith("_per_s"):
            return "1/s"
        words = name.split("_")
        return next((unit for unit in ("ns", "us", "bytes", "share") if unit in words), "1")


def figures(run: Run, metrics: Sequence[Metric] = METRICS) -> Iterator[Figure]:
    """All that were measured."""
    for summary in summaries(run):
        for metric in metrics:
            values = tuple(summary.valid_by_round(metric).values())
            if (estimate := stats.estimate(values)) is not None:
                yield Figure(summary.scenario, metric, values, estimate)


def as_cost(figure: Figure) -> Figure:
    """For formats in which less is always better: a rate becomes the time that each answer took of the whole."""
    if not figure.is_rate:
        return figure
    low, high = figure.estimate.low, figure.estimate.high
    estimate = Estimate(
        1e9 / figure.estimate.value,
        None if high is None else 1e9 / high,
        None if low is None else 1e9 / low,
        figure.estimate.n,
    )
    return replace(figure, metric=_TIME_EACH, values=tuple(1e9 / value for value in figure.values), estimate=estimate)


_TIME_EACH = Metric(
    "time_per_answer_ns",
    "time for each answer, of all together",
    "lower",
    lambda trial: 1e9 / trial.throughput_per_s if trial.throughput_per_s else None,
    show_duration,
)
