"""A run for github-action-benchmark (`tool: customSmallerIsBetter`): a rate becomes a time, so that less is better."""

import json

from analysis.export.figures import Figure, as_cost, figures
from analysis.load_results import Run


def github_benchmark(run: Run) -> str:
    """The document: a list of objects with name, unit, value, range and extra."""
    return json.dumps([_entry(figure) for figure in map(as_cost, figures(run))], indent=1) + "\n"


def _entry(figure: Figure) -> dict[str, str | float]:
    found = figure.estimate
    entry: dict[str, str | float] = {"name": figure.name, "unit": figure.unit, "value": found.value}
    if found.low is not None and found.high is not None:
        entry["range"] = f"{found.low:.6g} to {found.high:.6g}"
    return {**entry, "extra": f"median of {found.n} trials; {figure.metric.title}"}
