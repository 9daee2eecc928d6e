"""Memory of the server: RSS counts shared pages in every process, PSS divides them among those that share them."""

from collections.abc import Iterator

from analysis.metrics import PSS, RSS
from analysis.plots import strips, style
from analysis.plots.style import Plot
from analysis.summary import Group
from bench.quantities import format_size


def plots(group: Group) -> Iterator[Plot]:
    """One plot of RSS and PSS."""
    rows = strips.rows(group, (RSS, PSS))
    if rows:
        yield Plot(
            "memory",
            "Memory of the server",
            "At the end of a trial, all processes of the server together. RSS counts a page that processes share "
            "once in each of them, PSS once in all.",
            f"Memory of the server in {len(rows)} scenarios, a mark for each round.",
            style.drawn(strips.draw, rows, "memory", format_size, ("RSS", "PSS"), unit=2.0**20),
        )
