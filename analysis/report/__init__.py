"""The report: one HTML file that needs nothing else, with the same figures beside it as CSV, and as pictures on
request."""

import base64
import importlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import jinja2
from markupsafe import Markup

from analysis.export.tables_csv import figures_csv, summary_csv
from analysis.load_results import Ladder, Run, load_run
from analysis.plots import PLOTS
from analysis.report.chapter import Chapter, chapter
from analysis.report.picture import Picture
from analysis.summary import Group
from bench import __version__
from bench.errors import OutputError
from bench.resultfile import write_atomically

Image = Literal["png", "svg"]


def write_report(result_paths: Sequence[Path], out: Path, images: Sequence[Image] = ()) -> Path:
    """Write report.html, figures.csv and summary.csv into the folder `out`, and pictures of every plot into
    out/images if `images` names formats for them. Gives the path of the page.

    Raises UsageError for a file that is no result file, OutputError if something cannot be written.
    """
    runs = [load_run(path) for path in result_paths]
    tables = {"figures.csv": figures_csv(runs), "summary.csv": summary_csv(runs)}
    chapters = [chapter(run, number, _draw, _draw_ladder) for number, run in enumerate(runs, start=1)]
    page = out / "report.html"
    for name, text in tables.items():
        write_atomically(out / name, text)
    for each in chapters:
        for picture in each.pictures:
            _write_images(picture, out / "images", images)
    write_atomically(page, _render(runs, chapters, tables))
    return page


def _draw(group: Group, prefix: str) -> list[Picture]:
    """Every plot of a group. Importing matplotlib takes half a second, so it is imported here and nowhere before."""
    from analysis.plots import style

    pictures: list[Picture] = []
    for module in PLOTS:
        for plot in importlib.import_module(f"analysis.plots.{module}").plots(group):
            name = f"{prefix}-{plot.name}"
            svg = Markup(style.inline_svg(style.to_svg(plot.figure, ground=False), name, plot.alt))
            pictures.append(Picture(name, len(pictures), plot.title, plot.caption, svg, plot.figure))
    return pictures


def _draw_ladder(ladder: Ladder, name: str, title: str, caption: str) -> Picture:
    from analysis.plots import ladder as plots
    from analysis.plots import style

    plot = plots.plot(ladder, name, title, caption)
    svg = Markup(style.inline_svg(style.to_svg(plot.figure, ground=False), name, plot.alt))
    return Picture(name, 0, title, caption, svg, plot.figure)


def _write_images(picture: Picture, folder: Path, images: Sequence[Image]) -> None:
    from analysis.plots import style

    for image in images:
        path = folder / f"{picture.name}.{image}"
        content = style.to_png(picture.figure) if image == "png" else style.to_svg(picture.figure, ground=True).encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place with --out") from None


def _render(runs: Sequence[Run], chapters: Sequence[Chapter], tables: dict[str, str]) -> str:
    from analysis.plots import style

    here = files("analysis.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((here / "report.html").read_text(encoding="utf-8")).render(
        chapters=chapters,
        runs=runs,
        version=__version__,
        css=Markup(style.palette_css() + (here / "report.css").read_text(encoding="utf-8")),
        js=Markup((here / "report.js").read_text(encoding="utf-8")),
        downloads={name: base64.b64encode(text.encode()).decode() for name, text in tables.items()},
    )
