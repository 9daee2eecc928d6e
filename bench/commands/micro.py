"""`wirebench micro`"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import Json


def _names() -> list[str]:
    from bench.micro import BENCHMARKS

    return list(BENCHMARKS)


def micro(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Which ones; all without it.", autocompletion=_names),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer processes and values: rougher.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Keep pyperf's JSON, for pyperf compare_to.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Time codecs and formats alone, with pyperf: changes too small for a load test still show.

    Two files of --out are compared by: python -m pyperf compare_to BASE HEAD

    Exit status: 0 fine; 2 bad input; 3 pyperf failed; 130 interrupted.
    """
    from bench import microview
    from bench.output import answer, check_json

    check_json(json_file)
    table, found = microview.run_micro(names or (), fast, out)
    answer(json_file, lambda: found, lambda: table)
