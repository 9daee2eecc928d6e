"""Pages from templates: reports and sites of claims share their frame, their style and how plots get into them."""

import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from analysis.load_results import Ladder
from analysis.plots import PLOTS
from analysis.report.picture import Picture
from analysis.summary import Group
from bench import __version__

if TYPE_CHECKING:
    from analysis.plots.style import Plot


def render(template: str, styles: Sequence[str], scripts: Sequence[str], **data: Any) -> str:
    """A page that needs nothing else: the template of that name with these style sheets and scripts inside it."""
    return (
        _templates()
        .get_template(template)
        .render(version=__version__, css=_css(tuple(styles)), js=Markup("".join(map(_text, scripts))), **data)
    )


def inline(plot: "Plot", prefix: str, order: int) -> Picture:
    """A plot as a picture in a page; its name begins with the prefix, so that it is the only one there."""
    return _picture(plot, f"{prefix}-{plot.name}", order)


def plots_of(group: Group, modules: Sequence[str]) -> Iterator["Plot"]:
    """What these modules of `analysis.plots` can show of a group. Importing matplotlib takes half a second, so it is
    imported here and nowhere before."""
    for module in modules:
        yield from importlib.import_module(f"analysis.plots.{module}").plots(group)


def draw(group: Group, prefix: str) -> list[Picture]:
    """Every plot of a group of a report."""
    return [inline(plot, prefix, order) for order, plot in enumerate(plots_of(group, PLOTS))]


def draw_ladder(ladder: Ladder, name: str, title: str, caption: str) -> Picture:
    """One ladder."""
    from analysis.plots import ladder as plots

    return _picture(plots.plot(ladder, name, title, caption), name, 0)


def _picture(plot: "Plot", name: str, order: int) -> Picture:
    from analysis.plots import style

    svg = Markup(style.inline_svg(style.to_svg(plot.figure, ground=False), name, plot.alt))
    return Picture(name, order, plot.title, plot.caption, svg, plot.figure)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _css(styles: tuple[str, ...]) -> Markup:
    from analysis.plots import style

    return Markup(style.palette_css() + "".join(map(_text, styles)))


@cache
def _text(name: str) -> str:
    return (files("analysis.report") / name).read_text(encoding="utf-8")
