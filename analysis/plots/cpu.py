"""CPU time for an answered request, on the server and on the load generator."""

from collections.abc import Iterator

from analysis.metrics import CLIENT_CPU, SERVER_CPU, show_cpu
from analysis.plots import strips, style
from analysis.plots.style import Plot
from analysis.summary import Group


def plots(group: Group) -> Iterator[Plot]:
    """One plot of both sides."""
    rows = strips.rows(group, (SERVER_CPU, CLIENT_CPU))
    if rows:
        yield Plot(
            "cpu",
            "CPU for a request",
            "User and system time of all processes of a side, divided by the answered requests.",
            f"CPU time for a request on both sides of {len(rows)} scenarios, a mark for each round.",
            style.drawn(strips.draw, rows, "CPU time for a request", show_cpu, ("server", "load generator")),
        )
