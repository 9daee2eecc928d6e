"""How every plot looks: one size, one palette for light and dark pages, and the way from a figure to SVG and PNG.

A figure is drawn in the light colours, so that a file of its own looks right. Inside a page each of these colours
becomes a CSS variable, which the page sets for light and for dark (`palette_css`). One SVG unit is one CSS pixel at
WIDTH_PX.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.errors import OutputError

WIDTH_PX = 440
"""Narrow enough to be read on a phone without scaling down much; wider pages put two side by side."""

FONT_PX = 12.0
SMALL_PX = 10.5
_POINTS_PER_INCH = 72  # SVG units per inch in matplotlib


@dataclass(frozen=True)
class Colour:
    """A colour of the palette: the name of its CSS variable, and its value on a light and on a dark page."""

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1c2128", "#e6edf3")
MUTED = Colour("muted", "#59636e", "#9da7b3")
GRID = Colour("grid", "#e4e8ec", "#2a313a")
SURFACE = Colour("surface", "#fffffe", "#14181d")
SERIES = (
    Colour("series-1", "#0a4a86", "#4593fc"),
    Colour("series-2", "#c2410c", "#e5734a"),
    Colour("series-3", "#078565", "#46dfa0"),
    Colour("series-4", "#9650bd", "#b184c4"),
    Colour("series-5", "#5f3d00", "#f3d24f"),
    Colour("series-6", "#262b31", "#dae7f4"),
)
"""Told apart under the common kinds of colour blindness; at least 4.5:1 against the page in both schemes."""

PALETTE = (INK, MUTED, GRID, SURFACE, *SERIES)
Dashes = Literal["solid"] | tuple[int, tuple[float, ...]]
_DASHES: tuple[Dashes, ...] = ("solid", (0, (4, 1.6)), (0, (1.2, 1.4)))
MARKERS = ("o", "s", "D", "^", "v", "P")

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "svg.hashsalt": "wirebench",  # the same figures give the same bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT_PX,
    "text.parse_math": False,  # names are data; a dollar sign in one is no formula
    "axes.unicode_minus": True,
    "axes.edgecolor": MUTED.light,
    "axes.labelcolor": MUTED.light,
    "axes.linewidth": 0.8,
    "text.color": INK.light,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "xtick.labelsize": SMALL_PX,
    "ytick.labelsize": SMALL_PX,
    "axes.labelsize": SMALL_PX,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}


@dataclass(frozen=True)
class Plot:
    """A figure with its words. `name` is unique in a report; `alt` says in a sentence what the plot shows."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@contextmanager
def drawing() -> Iterator[None]:
    """Inside, figures get the style; warnings about characters that a font lacks stay inside."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


P = ParamSpec("P")


def drawn(draw: Callable[P, Figure], *arguments: P.args, **options: P.kwargs) -> Figure:
    """The figure that `draw` makes, in the style."""
    with drawing():
        return draw(*arguments, **options)


def new_figure(height_px: float, width_px: float = WIDTH_PX) -> Figure:
    """An empty figure."""
    return Figure(figsize=(width_px / _POINTS_PER_INCH, height_px / _POINTS_PER_INCH))


def add_axes(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with margins in pixels from the edges of the figure."""
    width, height = (size * _POINTS_PER_INCH for size in figure.get_size_inches())
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return axes


@dataclass(frozen=True)
class Line:
    """How one thing is drawn wherever it appears in a plot; without dashes it is markers alone."""

    colour: str
    dashes: Dashes | None = None
    marker: str = ""


def line(index: int) -> Line:
    """The n-th line of a plot: colours first, then the same colours dashed. The marker tells them apart without
    colour."""
    return Line(
        SERIES[index % len(SERIES)].light, _DASHES[index // len(SERIES) % len(_DASHES)], MARKERS[index % len(MARKERS)]
    )


def write_key(axes: Axes, x_px: float, y_px: float, text: str, drawn: Line) -> None:
    """One entry of a legend, at pixels from the lower left of the figure: a sample of the line or marker, and its
    name."""
    figure = axes.get_figure()
    assert figure is not None  # axes of a figure know it
    place: dict[str, Any] = {"transform": figure.dpi_scale_trans, "clip_on": False}
    x, y, length = x_px / _POINTS_PER_INCH, y_px / _POINTS_PER_INCH, (22 if drawn.dashes else 6) / _POINTS_PER_INCH
    if drawn.dashes:
        axes.plot([x, x + length], [y, y], color=drawn.colour, linestyle=drawn.dashes, linewidth=1.8, **place)
    if drawn.marker:
        axes.plot([x + length / 2], [y], marker=drawn.marker, markersize=5.5, color=drawn.colour, **place)
    axes.text(x + length + 6 / _POINTS_PER_INCH, y, text, va="center", fontsize=SMALL_PX, color=INK.light, **place)


def clip(text: str, characters: int) -> str:
    """At most so many characters."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def to_svg(figure: Figure, ground: bool) -> str:
    """The figure as SVG in the light colours; on a light ground for a file of its own, on none for a page."""
    buffer = io.StringIO()
    figure.patch.set(visible=ground, facecolor=SURFACE.light)
    with drawing():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "wirebench"})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG in the light colours, three pixels to each CSS pixel."""
    buffer = io.BytesIO()
    figure.patch.set(visible=True, facecolor=SURFACE.light)
    with drawing():
        figure.savefig(buffer, format="png", dpi=3 * _POINTS_PER_INCH)
    return buffer.getvalue()


def inline_svg(svg: str, name: str, alt: str) -> str:
    """An SVG file as an element of a page: its palette as CSS variables, its ids its own, scaled by the page.

    `alt` is what a screen reader says in its place.
    """
    start = svg.find("<svg ")
    if start < 0:
        raise OutputError(f"the plot {name} could not be drawn as SVG")
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>", "", svg[start:], flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', body)
    opening = f'<svg class="plot" role="img" aria-label="{escape(alt, quote=True)}" viewBox="{box[1] if box else ""}">'
    body = body[body.index(">") + 1 :]
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'href="#|url\(#', lambda m: f"{m[0]}{name}-", body)
    body = re.sub(r"font-family: [^;\"]+(; )?", "", body)
    body = re.sub(r"font: (?:\w+ )*([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    by_hex = {colour.light: colour.name for colour in PALETTE}
    body = re.sub(r"#[0-9a-f]{6}\b", lambda m: f"var(--{by_hex[m[0]]})" if m[0] in by_hex else m[0], body)
    return f"{opening}\n{_shortened(body)}"


def _shortened(body: str) -> str:
    """The same picture in about half the bytes: numbers of four digits, and nothing that draws nothing."""
    body = re.sub(r"<g/>|<defs>\s*</defs>", "", body)
    groups: list[bool] = []

    def shortened(found: re.Match[str]) -> str:
        tag = found[0]
        if tag.startswith("<g"):  # one that says nothing of what is in it is left out
            groups.append(tag != "<g>")
            return _shortened_tag(tag) if groups[-1] else ""
        if tag == "</g>":
            return tag if groups.pop() else ""
        return _shortened_tag(tag)

    return re.sub(r"\n\s*", "\n", re.sub(r"<[^>]*>", shortened, body)).strip()


def _shortened_tag(tag: str) -> str:
    tag = re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.4g}", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"|; stroke-(linecap: square|linejoin: miter)(?=[;"])', "", tag)
    tag = re.sub(r'(?<= d=")[^"]*', lambda path: _shortened_path(path[0]), tag)
    return "" if re.fullmatch(r'<path d="M[-\d. ]*"[^>]*/>', tag) else tag


def _shortened_path(path: str) -> str:
    """Lines to the side and up or down need one number, and those that go on straight none of their own."""
    x = y = last = ""
    made: list[str] = []
    for command, numbers in re.findall(r"([A-Za-z])\s*([^A-Za-z]*)", path):
        (left, top), at = (x, y), numbers.split()
        if at:
            x, y = at[-2:]
        drawn, way = command + " ".join(at), ""
        if command == "L" and (x, y) == (left, top):
            continue
        if command == "L" and x == left:
            drawn, way = f"V{y}", "down" if float(y) > float(top) else "up"
        elif command == "L" and y == top:
            drawn, way = f"H{x}", "right" if float(x) > float(left) else "left"
        if way and way == last:
            made.pop()
        made.append(drawn)
        last = way
    return "".join(made)


def palette_css() -> str:
    """The palette as CSS variables, for light pages, dark pages and paper."""
    light = " ".join(f"--{colour.name}: {colour.light};" for colour in PALETTE)
    dark = " ".join(f"--{colour.name}: {colour.dark};" for colour in PALETTE)
    return (
        f":root {{ {light} color-scheme: light dark; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )
