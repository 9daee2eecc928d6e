"""A run as pyperf's JSON, for `pyperf show` and `pyperf compare_to`: a benchmark for each scenario and metric, a run of
one value for each trial. pyperf takes less for better, so a rate becomes a time; what is zero it does not take."""

import io

from analysis.export.figures import as_cost, figures
from analysis.load_results import Run
from bench.errors import UsageError

_UNITS = {"ns": ("second", 1e-9), "us": ("second", 1e-6), "bytes": ("byte", 1.0)}


def pyperf_json(run: Run) -> str:
    """The document. Raises UsageError if there is nothing in the run that pyperf takes."""
    import pyperf

    benchmarks = []
    for figure in map(as_cost, figures(run)):
        unit, factor = _UNITS.get(figure.unit, ("integer", 1.0))
        if min(figure.values) > 0:
            metadata = {"name": figure.name, "unit": unit, "description": figure.metric.title}
            runs = [pyperf.Run([value * factor], metadata=metadata, collect_metadata=False) for value in figure.values]
            benchmarks.append(pyperf.Benchmark(runs))
    if not benchmarks:
        raise UsageError(f"{run.path}: holds no figure that pyperf takes: no trial is valid")
    file = io.StringIO()
    pyperf.BenchmarkSuite(benchmarks).dump(file)
    return file.getvalue()
