"""A figure run after run, with its level between changes: for `wirebench history plot`, whose pictures are files of
their own."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from analysis.history import RECENT, ChangePoint, Series
from analysis.metrics import Metric
from analysis.plots import style
from analysis.plots.style import GRID, INK, MUTED, SERIES

Found = Sequence[tuple[Series, Sequence[ChangePoint]]]

_WIDTH_PX = 720
_ROW_PX = 150.0
_TOP_PX = 22.0
_LEFT_PX, _RIGHT_PX, _FOOT_PX = 78.0, 12.0, 22.0


def trend(found: Found) -> Figure:
    """A row for each series: a dot for each run, a line for each level among the last RECENT, and an upright where it
    changes, which is dashed if that is for the better."""
    return style.drawn(_draw, found)


def _draw(found: Found) -> Figure:
    height = _ROW_PX * len(found)
    figure = style.new_figure(height, _WIDTH_PX)
    for row, (one, changes) in enumerate(found):
        top = row * _ROW_PX
        axes = style.add_axes(figure, _LEFT_PX, top + _TOP_PX, _RIGHT_PX, height - top - _ROW_PX + _FOOT_PX)
        values = np.asarray(one.values)
        axes.plot(range(len(values)), values, ".", markersize=3, color=SERIES[0].light, alpha=0.6)
        bounds = [max(0, len(values) - RECENT), *(change.index for change in changes), len(values)]
        for start, end in pairwise(bounds):
            axes.plot([start, end - 1], [float(np.median(values[start:end]))] * 2, color=INK.light, linewidth=1.4)
        for change in changes:
            dashes = "-" if change.is_worse else "--"
            axes.axvline(change.index - 0.5, color=SERIES[1].light, linewidth=1.2, linestyle=dashes)
        title = f"{one.metric.title} · {one.scenario} · {one.machine[:8]}"
        axes.set_title(style.clip(title, 100), loc="left", fontsize=style.SMALL_PX, color=MUTED.light, pad=4)
        axes.yaxis.set_major_formatter(_formatter(one.metric))
        axes.grid(axis="y", color=GRID.light)
        middle = len(values) // 2
        axes.set_xticks([0, middle, len(values) - 1][: len(values)], _dates(one, middle))
    return figure


def _dates(one: Series, middle: int) -> list[str]:
    return [one.started[at][:10] for at in (0, middle, len(one.started) - 1)][: len(one.started)]


def _formatter(metric: Metric) -> Callable[[float, float], str]:
    return lambda value, _position: metric.show(value) if value >= 0 else ""
