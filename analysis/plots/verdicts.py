"""How many claims of each chapter came out how: a bar for each chapter."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots import style
from analysis.plots.style import GRID, INK, MUTED, SERIES, SMALL_PX, SURFACE, Plot
from analysis.verdict import Verdict

_ROW_PX = 24.0
_LABEL_PX = 192.0
_COLOURS = {
    Verdict.UPHELD: SERIES[0],
    Verdict.CONDITIONAL: SERIES[3],
    Verdict.REFUTED: SERIES[1],
    Verdict.UNDECIDED: MUTED,
    Verdict.UNSUPPORTED: GRID,
}
"""In the order in which they stand in a bar."""


def plot(name: str, chapters: Sequence[tuple[str, Mapping[str, int]]]) -> Plot:
    """The verdicts of chapters, each with how many claims came out how."""
    claims = sum(sum(counts.values()) for _, counts in chapters)
    told = "; ".join(
        f"{title}: {', '.join(f'{counts[v]} {v}' for v in _COLOURS if counts.get(v))}" for title, counts in chapters
    )
    return Plot(
        name,
        "Verdicts by chapter",
        f"What came out of {claims} claims.",
        f"Verdicts by chapter. {told}.",
        style.drawn(_draw, chapters),
    )


def _draw(chapters: Sequence[tuple[str, Mapping[str, int]]]) -> Figure:
    top, bottom = 26.0, 24.0
    height = top + _ROW_PX * len(chapters) + bottom
    figure = style.new_figure(height)
    axes = style.add_axes(figure, _LABEL_PX, top, 18, bottom)
    axes.set_ylim(len(chapters), 0)
    axes.set_yticks([])
    axes.set_xlim(0, max(sum(counts.values()) for _, counts in chapters))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    left = -(_LABEL_PX - 4) / (style.WIDTH_PX - _LABEL_PX - 18)
    for row, (title, counts) in enumerate(chapters):
        axes.text(left, row + 0.5, style.clip(title, 34), color=INK.light, fontsize=SMALL_PX, **where)
        begin = 0
        for verdict, colour in _COLOURS.items():
            count = counts.get(verdict, 0)
            if not count:
                continue
            axes.barh(row + 0.5, count, 0.68, left=begin, color=colour.light, edgecolor=SURFACE.light, linewidth=1)
            dark = colour is not GRID
            ink = SURFACE.light if dark else INK.light
            axes.text(begin + count / 2, row + 0.5, str(count), ha="center", va="center", color=ink, fontsize=SMALL_PX)
            begin += count
    x = 8.0
    for verdict, colour in _COLOURS.items():
        if any(counts.get(verdict) for _, counts in chapters):
            style.write_key(axes, x, height - 12, str(verdict), style.Line(colour.light, marker="s"))
            x += len(str(verdict)) * 6.2 + 24
    return figure
