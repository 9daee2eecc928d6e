"""`wirebench list`"""

import json
from typing import Annotated

import typer

from bench.commands.options import Json


def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="protocols, patterns, executions, stacks, suites, operations or loads; all of them without it.",
            autocompletion=lambda: ["protocols", "patterns", "executions", "stacks", "suites", "operations", "loads"],
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Show what there is to choose from."""
    from bench import catalogue
    from bench.output import STDOUT, write_json
    from bench.registry import choose

    kinds = catalogue.KINDS if kind is None else (choose(kind, catalogue.KINDS, "KIND"),)
    found = catalogue.catalogue()
    if json_file != STDOUT:
        print(catalogue.show(found, kinds))
    if json_file is not None:
        write_json(json_file, json.dumps(found if kind is None else {kind: found[kind]}, indent=1))
