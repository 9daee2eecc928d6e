"""What each round says of a claim's rules: a dot for each round, and where sides are compared a line between the two of
the same round."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.metrics import Metric
from analysis.plots import strips, style
from analysis.plots.style import GRID, INK, MUTED, SMALL_PX, SURFACE, Plot

_LANE_PX, _HEAD_PX, _LINE_PX, _GAP_PX = 20.0, 24.0, 14.0, 10.0
_SIDE_PX = 92.0
"""Room for the names of sides."""
_CHARACTERS = 64
"""What a line of a rule's words holds."""


@dataclass(frozen=True)
class Lane:
    """A side: its place among the sides, which gives its colour, its figure by round, and the rounds in serious
    doubt."""

    side: str
    place: int
    figures: Mapping[int, float]
    doubtful: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Bout:
    """A rule under a condition: one side, or two that are compared. `expected` is what the rule lets the first side's
    figure be, from and to; an end that is None has no limit."""

    say: str
    condition: str
    lanes: tuple[Lane, ...]
    expected: tuple[float | None, float | None] | None

    @property
    def head(self) -> list[str]:
        """Its words, line by line."""
        return textwrap.wrap(": ".join(filter(None, (self.condition, self.say))), _CHARACTERS)


def plot(name: str, metric: Metric, bouts: Sequence[Bout]) -> Plot:
    """The rounds of rules about one figure. At least one bout holds one."""
    title = f"Every round: {metric.title}"
    pairs = any(len(bout.lanes) > 1 for bout in bouts)
    limits = any(bout.expected for bout in bouts)
    caption = "A dot for each round, hollow where in serious doubt."
    caption += " A line joins what both sides gave in the same round." if pairs else ""
    caption += " The grey band is what the rule expects." if limits else ""
    if len(bouts) > 1 and len({bout.say for bout in bouts}) == 1:
        caption = f"The rule everywhere: {bouts[0].say}. {caption}"
        bouts = [replace(bout, say="") for bout in bouts]
    rules = f"{len(bouts)} {'rule' if len(bouts) == 1 else 'rules'}"
    alt = f"{metric.title} in each round, for {rules}; the table has the numbers."
    return Plot(name, title, caption, alt, style.drawn(_draw, bouts, metric))


def _draw(bouts: Sequence[Bout], metric: Metric) -> Figure:
    bottom = 38.0
    height = sum(_height(bout) for bout in bouts) + bottom
    figure = style.new_figure(height)
    axes = style.add_axes(figure, _SIDE_PX, 0, 18, bottom)
    axes.set_ylim(height - bottom, 0)
    axes.set_yticks([])
    values = [value for bout in bouts for lane in bout.lanes for value in lane.figures.values()]
    expected = [end for bout in bouts for end in bout.expected or () if end is not None]
    high = max([*values, *expected])
    in_bytes = metric.name.endswith("_bytes") and high >= 1
    unit = 1024.0 ** int(math.log(high, 1024)) if in_bytes else 1.0
    logarithmic = strips.scale(axes, [*values, *expected], metric.show, unit)
    axes.set_xlabel(style.clip(metric.title, 52) + (", logarithmic" if logarithmic else ""))
    axes.grid(axis="x", clip_on=False)
    top = 0.0
    for bout in bouts:
        _draw_bout(axes, bout, top)
        top += _height(bout)
    return figure


def _height(bout: Bout) -> float:
    return _head_px(bout) + _LANE_PX * len(bout.lanes) + _GAP_PX


def _head_px(bout: Bout) -> float:
    return _HEAD_PX + _LINE_PX * (len(bout.head) - 1)


def _draw_bout(axes: Axes, bout: Bout, top: float) -> None:
    line: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
    where: dict[str, Any] = {**line, "va": "center"}
    ground = {"facecolor": SURFACE.light, "edgecolor": "none", "pad": 1.0}
    left, right = -(_SIDE_PX - 4) / (style.WIDTH_PX - _SIDE_PX - 18), 1.0
    if top:
        axes.plot([left, right], [top, top], color=GRID.light, linewidth=0.8, **line)
    head_px = _head_px(bout)
    axes.text(left, top + head_px / 2 + 2, "\n".join(bout.head), color=INK.light, bbox=ground, **where)
    middles = [top + head_px + _LANE_PX * (place + 0.5) for place in range(len(bout.lanes))]
    if bout.expected is not None:
        _shade(axes, bout.expected, middles[0])
    if len(bout.lanes) > 1:
        one, other = bout.lanes
        both = sorted(one.figures.keys() & other.figures.keys())
        segments = [[(one.figures[n], middles[0]), (other.figures[n], middles[1])] for n in both]
        axes.add_collection(LineCollection(segments, colors=MUTED.light, linewidths=0.8, alpha=0.7, clip_on=False))
    for lane, middle in zip(bout.lanes, middles, strict=True):
        axes.text(left, middle, style.clip(lane.side, 14), fontsize=SMALL_PX, color=MUTED.light, **where)
        _draw_lane(axes, lane, middle)


def _shade(axes: Axes, expected: tuple[float | None, float | None], middle: float) -> None:
    """What a rule expects. A limit of no width is widened to be seen."""
    from_x, to_x = axes.get_xlim()
    low = from_x if expected[0] is None else expected[0]
    high = to_x if expected[1] is None else expected[1]
    height = _LANE_PX * 0.8
    axes.fill_between([low, high], middle - height / 2, middle + height / 2, color=MUTED.light, alpha=0.25, linewidth=0)
    for end in {low, high} & set(expected):
        axes.plot([end, end], [middle - height / 2, middle + height / 2], color=MUTED.light, linewidth=1)


def _draw_lane(axes: Axes, lane: Lane, middle: float) -> None:
    drawn = style.line(lane.place)
    for hollow in (False, True):
        values = [value for number, value in lane.figures.items() if (number in lane.doubtful) is hollow]
        if values:
            axes.plot(
                values,
                [middle] * len(values),
                linestyle="none",
                marker=drawn.marker,
                markersize=5,
                color=SURFACE.light if hollow else drawn.colour,
                markeredgecolor=drawn.colour,
                markeredgewidth=1.1 if hollow else 0,
                alpha=1.0 if hollow else 0.8,
                clip_on=False,
            )
