"""Answered requests per second under closed loads: a dot for each round, and the interval of the median."""

from collections.abc import Iterator

from analysis.headlines import show_estimate
from analysis.metrics import THROUGHPUT, show_number
from analysis.plots import strips, style
from analysis.plots.strips import Row
from analysis.plots.style import Plot
from analysis.summary import Group


def plots(group: Group) -> Iterator[Plot]:
    """One plot of all the closed loads; an open load answers what it is offered, and the load curve shows whether."""
    rows = [
        Row(
            group.label(summary),
            show_estimate(summary.estimate(THROUGHPUT), THROUGHPUT.show) + (" †" if summary.fatal else ""),
            (strips.marks(summary, THROUGHPUT),),
            group.part(summary),
        )
        for summary in group.summaries
        if summary.scenario.is_closed and summary.estimate(THROUGHPUT) is not None
    ]
    if rows:
        yield Plot(
            "throughput",
            "Throughput",
            "Each dot is one round, the tick the median and the band its 95 % interval.",
            f"Answered requests per second of {len(rows)} scenarios, a dot for each round; the table has the numbers.",
            style.drawn(strips.draw, rows, "answered requests per second", show_number),
        )
