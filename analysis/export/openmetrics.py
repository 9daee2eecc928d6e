"""A run as OpenMetrics text, version 1.0.0: a gauge for each metric, in base units, with its scenario as labels; the
label `estimate` says whether it is the median over the trials or an end of its interval."""

from collections.abc import Iterator

from analysis.export.figures import Figure, figures
from analysis.load_results import Run
from analysis.regression import scenario_hash

_BASE_UNITS = {"ns": ("seconds", 1e-9), "us": ("seconds", 1e-6), "bytes": ("bytes", 1.0), "share": ("ratio", 1.0)}
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def openmetrics(run: Run) -> str:
    """The exposition. Names begin with wirebench_ and end in their unit."""
    families: dict[str, list[Figure]] = {}
    for figure in figures(run):
        families.setdefault(figure.metric.name, []).append(figure)
    return "".join(line for family in families.values() for line in _family(family)) + "# EOF\n"


def _family(members: list[Figure]) -> Iterator[str]:
    metric, unit = members[0].metric, members[0].unit
    base, factor = _BASE_UNITS.get(unit, ("", 1.0))
    stem = "_".join(word for word in metric.name.split("_") if word != unit)
    name = f"wirebench_{stem}" + (f"_{base}" if base else "")
    yield f"# TYPE {name} gauge\n"
    if base:
        yield f"# UNIT {name} {base}\n"
    yield f"# HELP {name} {metric.title.translate(_ESCAPES)}\n"
    for figure in members:
        labels = {
            "scenario": figure.scenario_name,
            "scenario_hash": scenario_hash(figure.scenario),
            "protocol": figure.scenario.protocol,
        }
        found = figure.estimate
        for estimate, value in (("median", found.value), ("low", found.low), ("high", found.high)):
            if value is not None:
                spelled = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
                yield f'{name}{{{spelled},estimate="{estimate}"}} {value * factor!r}\n'
