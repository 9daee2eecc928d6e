"""`wirebench report`"""

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import Json


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Result files.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder. [default: results/reports/NAME-OF-RUN]")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write every figure as a PNG file too.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write every figure as an SVG file too.")] = False,
    json_file: Json = None,
) -> None:
    """Make an HTML report of result files, with its figures as CSV."""
    from analysis.report import Image, write_report
    from bench.output import answer
    from bench.reporting import report_folder

    wanted: dict[Image, bool] = {"png": png, "svg": svg}
    page = write_report(runs, out or report_folder(runs[0]), [image for image, asked in wanted.items() if asked])
    found = {"report": str(page), "runs": [str(path) for path in runs]}
    answer(json_file, lambda: json.dumps(found, indent=1), lambda: str(page))
