"""`wirebench compare`"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import CompareExports, Json, Margin, Metrics


def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="Result file of what there was.")],
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="Result file of what there is now.")],
    metric: Metrics = None,
    margin: Margin = "5%",
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare what was measured in different environments.")
    ] = False,
    export: CompareExports = None,
    json_file: Json = None,
) -> None:
    """Say of each scenario and metric of two result files: better, worse, same or unknown.

    Runs that were measured apart hold what else the machine did meanwhile; wirebench ab measures in pairs.

    Exit status: 0 nothing is worse; 1 something is; 2 bad input; 3 nothing valid was measured.
    """
    from analysis.export import OF_COMPARISON
    from bench import compareview
    from bench.output import answer, check_json

    check_json(json_file)
    exports = compareview.parse_exports(export or (), OF_COMPARISON)
    found = compareview.compare(base, head, metric or (), compareview.parse_margin(margin), across_machines)
    answer(json_file, lambda: compareview.comparison_json(found), lambda: compareview.show_comparison(found))
    compareview.write_exports(exports, OF_COMPARISON, found)
    raise typer.Exit(compareview.exit_code(found))
