"""The report: one HTML file that needs nothing else, with the same figures beside it as CSV, and as pictures on
request."""

import base64
from collections.abc import Sequence
from pathlib import Path

from analysis.export.tables_csv import figures_csv, summary_csv
from analysis.load_results import load_run
from analysis.report import pages
from analysis.report.chapter import chapter
from analysis.report.picture import Image, write_images
from bench.resultfile import write_atomically


def write_report(result_paths: Sequence[Path], out: Path, images: Sequence[Image] = ()) -> Path:
    """Write report.html, figures.csv and summary.csv into the folder `out`, and pictures of every plot into
    out/images if `images` names formats for them. Gives the path of the page.

    Raises UsageError for a file that is no result file, OutputError if something cannot be written.
    """
    runs = [load_run(path) for path in result_paths]
    tables = {"figures.csv": figures_csv(runs), "summary.csv": summary_csv(runs)}
    chapters = [chapter(run, number, pages.draw, pages.draw_ladder) for number, run in enumerate(runs, start=1)]
    page = out / "report.html"
    for name, text in tables.items():
        write_atomically(out / name, text)
    for each in chapters:
        for picture in each.pictures:
            write_images(picture, out / "images", images)
    text = pages.render(
        "report.html",
        ("report.css",),
        ("report.js",),
        chapters=chapters,
        downloads={name: base64.b64encode(text.encode()).decode() for name, text in tables.items()},
    )
    write_atomically(page, text)
    return page
