"""`wirebench list`"""

import json
from typing import Annotated

import typer

from bench.commands.options import Json


def _kinds() -> list[str]:
    from bench.catalogue import KINDS

    return list(KINDS)


def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="protocols, patterns, executions, stacks, suites, operations, loads, links, hops or service (what a "
            "wirebench.toml says); without it all.",
            autocompletion=_kinds,
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Show what there is to choose from.

    `wirebench list protocols` shows what each protocol is too, and counts its bytes, for which servers run for some
    seconds.
    """
    from bench import catalogue
    from bench.output import answer, check_json, say
    from bench.registry import choose

    kinds = catalogue.KINDS if kind is None else (choose(kind, catalogue.KINDS, "KIND"),)
    found = catalogue.catalogue()
    wanted = found if kind is None else {kind: found[kind]}
    shown = catalogue.show(found, kinds)
    if kind == "protocols":
        check_json(json_file)
        say("counting the bytes of an exchange over each protocol")
        wanted["properties"] = counted = catalogue.properties()
        shown += f"\n\n{catalogue.show_properties(counted)}"
    answer(json_file, lambda: json.dumps(wanted, indent=1), lambda: shown)
