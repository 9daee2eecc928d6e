"""p50 and p99 latency side by side: a dot for each round, and the intervals of the medians."""

from collections.abc import Iterator

from analysis.metrics import P50, P99, show_duration
from analysis.plots import strips, style
from analysis.plots.style import Plot
from analysis.summary import Group


def plots(group: Group) -> Iterator[Plot]:
    """One plot of all scenarios but those on a ladder of rates, whose latency the load curve shows."""
    on_ladders = {id(rung) for ladder in group.ladders for rung in ladder.rungs}
    rows = strips.rows(group, (P50, P99), lambda summary: id(summary) not in on_ladders)
    if not rows:
        return
    if group.is_push:
        counted = "from when an event was due to be published to its delivery at a subscriber"
    else:
        closed = all(summary.scenario.is_closed for summary in group.summaries)
        counted = "from sent to answered" if closed else "from when a request was due to its answer"
    yield Plot(
        "latency",
        "Latency",
        f"Time {counted}. Each mark is that percentile of one round; percentiles of rounds are never averaged.",
        f"p50 and p99 latency of {len(rows)} scenarios, a mark for each round; the table has the numbers.",
        style.drawn(strips.draw, rows, "latency", show_duration, ("p50", "p99")),
    )
