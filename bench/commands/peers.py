"""`wirebench peers`"""

from typing import Annotated

import typer

from bench.commands.options import Json


def peers(
    pairs: Annotated[int, typer.Option(min=1, max=100, help="Interleaved pairs that each question gets.")] = 5,
    duration: Annotated[str, typer.Option(help="How long each side of a pair runs, in whole seconds.")] = "2s",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask just this question, like http1-wrk; may be repeated.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Compare wirebench with the other load generators and servers that are installed.

    Same server, same core, measured in turns: the answers are ratios, each with its target. What is not installed is
    left out and named.

    Exit status: 0 measured, targets met or not; 2 bad input; 3 a question got no pair that counts; 130 interrupted
    (what was done is printed and saved).
    """
    from bench.peers.run import run_peers

    raise typer.Exit(run_peers(pairs, duration, only or [], json_file))
