"""A run in the Bencher Metric Format: an object for each scenario, with a measure and its interval for each metric."""

import json

from analysis.export.figures import figures
from analysis.load_results import Run


def bencher(run: Run) -> str:
    """The document. Measures carry this project's metric names, which say their unit."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for figure in figures(run):
        measure = {"value": figure.estimate.value}
        if figure.estimate.low is not None and figure.estimate.high is not None:
            measure |= {"lower_value": figure.estimate.low, "upper_value": figure.estimate.high}
        found.setdefault(figure.scenario_name, {})[figure.metric.name] = measure
    return json.dumps(found, indent=1) + "\n"
