"""How evenly the workers of a server shared the requests."""

from collections.abc import Iterator

from analysis.metrics import show_number, worker_shares
from analysis.plots import strips, style
from analysis.plots.strips import Marks, Row
from analysis.plots.style import Plot
from analysis.summary import Group, Summary


def plots(group: Group) -> Iterator[Plot]:
    """One plot of the scenarios with at least two workers."""
    rows = [row for row in (_row(group, summary) for summary in group.summaries) if row is not None]
    if rows:
        yield Plot(
            "workers",
            "Spread over workers",
            "Each dot is one worker in one round; 1 is the even share, 0 a worker that got nothing.",
            f"Requests of each worker in {len(rows)} scenarios, as multiples of the even share.",
            style.drawn(strips.draw, rows, "requests of a worker, × the even share", show_number, reference=1.0),
        )


def _row(group: Group, summary: Summary) -> Row | None:
    by_round = [shares for shares in map(worker_shares, summary.trials) if shares]
    if not by_round:
        return None
    shares = [share for shares in by_round for share in shares]
    value = f"{max(map(len, by_round))} workers, {show_number(min(shares))}–{show_number(max(shares))}"
    return Row(group.label(summary), value, (Marks(tuple(shares), (False,) * len(shares), None),), group.part(summary))
