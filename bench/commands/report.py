"""`wirebench report`"""

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import Json


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Result files, a capacity file, or a folder of claims.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder. [default: results/reports/NAME-OF-RUN]")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write every figure as a PNG file too.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write every figure as an SVG file too.")] = False,
    json_file: Json = None,
) -> None:
    """Make an HTML report of result files, with its figures as CSV; of a capacity file, its page; of a folder of
    claims, its site, in that folder."""
    if any(run.is_dir() for run in runs):
        _site(runs, out is not None or png or svg, json_file)
        return
    from analysis.load_capacity import is_capacity, load_capacity
    from analysis.report import write_report
    from analysis.report.capacity import write_capacity_page
    from analysis.report.picture import Image
    from bench.errors import UsageError
    from bench.output import answer
    from bench.reporting import report_folder

    wanted: dict[Image, bool] = {"png": png, "svg": svg}
    images = [image for image, asked in wanted.items() if asked]
    folder = out or report_folder(runs[0])
    capacities = [run for run in runs if is_capacity(run)]
    if capacities and len(runs) > 1:
        raise UsageError(f"{capacities[0]}: a capacity file has a page of its own; name it alone")
    if capacities:
        page = write_capacity_page(load_capacity(runs[0]), folder, images)
    else:
        page = write_report(runs, folder, images)
    found = {"report": str(page), "runs": [str(path) for path in runs]}
    answer(json_file, lambda: json.dumps(found, indent=1), lambda: str(page))


def _site(runs: list[Path], has_options: bool, json_file: str | None) -> None:
    from analysis.report.site import write_site
    from bench.errors import UsageError
    from bench.output import answer

    if len(runs) > 1:
        raise UsageError("a folder of claims has a site of its own; name one folder, or result files")
    if has_options:
        raise UsageError(f"the site of {runs[0]} is written into that folder: leave out --out, --png and --svg")
    page = write_site(runs[0])
    found = {"report": str(page), "runs": [str(runs[0])]}
    answer(json_file, lambda: json.dumps(found, indent=1), lambda: str(page))
