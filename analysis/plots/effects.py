"""The effects of many claims below one another: each ratio with its interval, on a logarithmic scale around 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.plots import style
from analysis.plots.style import INK, MUTED, SERIES, SMALL_PX, SURFACE, Colour, Plot
from analysis.stats import Estimate
from analysis.verdict import Verdict

_ROW_PX = 19.0
_LABEL_PX, _VALUE_PX = 150.0, 54.0
_MOST = 64.0
"""Ratios beyond this, either way, are drawn at the edge, as a triangle."""
_COLOURS: dict[str, tuple[Colour, str]] = {
    Verdict.UPHELD: (SERIES[0], "o"),
    Verdict.REFUTED: (SERIES[1], "s"),
    Verdict.CONDITIONAL: (SERIES[3], "D"),
    Verdict.UNDECIDED: (MUTED, "o"),
}


@dataclass(frozen=True)
class Effect:
    """A claim's ratio of one side to the other."""

    label: str
    verdict: str
    ratio: Estimate


def plot(name: str, effects: Sequence[Effect]) -> Plot:
    """The effects of claims, in the order given. There is at least one."""
    return Plot(
        name,
        "Effects",
        "The ratio that decides each claim that compares two sides, with its 95 % interval. 1 is no difference. "
        f"Triangles at the edge are ratios beyond {_MOST:g}.",
        f"The ratio and its interval of {len(effects)} claims on a logarithmic scale; the claims' pages have numbers.",
        style.drawn(_draw, effects),
    )


def _draw(effects: Sequence[Effect]) -> Figure:
    top, bottom = 26.0, 38.0
    figure = style.new_figure(top + _ROW_PX * len(effects) + bottom)
    axes = style.add_axes(figure, _LABEL_PX, top, _VALUE_PX, bottom)
    axes.set_ylim(len(effects), 0)
    axes.set_yticks([])
    axes.set_xscale("log")
    reach = min(_MOST, max(2.0, *(_reach(effect.ratio) for effect in effects)))
    axes.set_xlim(1 / (reach * 1.15), reach * 1.15)
    ticks = [2.0**power for power in range(-6, 7) if 1 / reach <= 2.0**power <= reach]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) < 8 else ticks[len(ticks) // 2 % 2 :: 2]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    axes.set_xlabel("ratio, logarithmic")
    axes.grid(axis="x")
    axes.axvline(1, color=MUTED.light, linewidth=1)
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    width = style.WIDTH_PX - _LABEL_PX - _VALUE_PX
    for row, effect in enumerate(effects):
        colour, marker = _COLOURS[effect.verdict]
        middle, ratio = row + 0.5, effect.ratio
        hollow = effect.verdict == Verdict.UNDECIDED
        axes.text(
            -(_LABEL_PX - 4) / width, middle, style.clip(effect.label, 24), color=INK.light, fontsize=SMALL_PX, **where
        )
        axes.text(
            1 + (_VALUE_PX - 4) / width,
            middle,
            f"{ratio.value:.3g}×",
            ha="right",
            color=INK.light,
            fontsize=SMALL_PX,
            **where,
        )
        if ratio.low is not None and ratio.high is not None:
            ends = [max(1 / reach, min(reach, end)) for end in (ratio.low, ratio.high)]
            axes.plot(ends, [middle, middle], color=colour.light, linewidth=2, alpha=0.6)
        at = max(1 / reach, min(reach, ratio.value))
        axes.plot(
            [at],
            [middle],
            linestyle="none",
            marker=marker if at == ratio.value else (">" if ratio.value > 1 else "<"),
            markersize=5.5,
            color=SURFACE.light if hollow else colour.light,
            markeredgecolor=colour.light,
            markeredgewidth=1.1,
        )
    x = 8.0
    for verdict, (colour, marker) in _COLOURS.items():
        if any(effect.verdict == verdict for effect in effects):
            height = top + _ROW_PX * len(effects) + bottom
            style.write_key(axes, x, height - 12, str(verdict), style.Line(colour.light, marker=marker))
            x += len(str(verdict)) * 6.4 + 30
    return figure


def _reach(ratio: Estimate) -> float:
    values = [value for value in (ratio.value, ratio.low, ratio.high) if value]
    return max(max(value, 1 / value) for value in values)
