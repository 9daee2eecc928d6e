"""`wirebench export`"""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Result file.")],
    formats: Annotated[
        list[str],
        typer.Argument(
            metavar="FORMAT=FILE…", help="pyperf, github-action-benchmark, bencher, openmetrics or csv; - to show it."
        ),
    ],
) -> None:
    """Write the figures of a result file for other programs."""
    from analysis.export import OF_RUN
    from analysis.load_results import load_run
    from bench import compareview

    exports = compareview.parse_exports(formats, OF_RUN)
    compareview.write_exports(exports, OF_RUN, load_run(run))
