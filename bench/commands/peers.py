"""`wirebench peers`: side by side with other load generators and servers."""

from typing import Annotated

import typer


def peers(
    pairs: Annotated[str, typer.Option(metavar="N", help="How many interleaved pairs each question gets.")] = "5",
    duration: Annotated[
        str, typer.Option(metavar="TIME", help="How long each side of a pair runs, in whole seconds.")
    ] = "2s",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask only this question, like http1-wrk; may be repeated.")
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write a machine-readable answer; - for standard output."),
    ] = None,
) -> None:
    """Compare wirebench with the other load generators and servers that are installed.

    Same server, same core, measured in turns; the answers are ratios. What is not installed is left out and named.
    """
    from bench.peers.run import run_peers

    raise typer.Exit(run_peers(pairs, duration, only or [], json_file))
