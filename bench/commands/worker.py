"""`wirebench worker`"""

from typing import Annotated

import typer


def worker(
    master: Annotated[
        str, typer.Option(metavar="HOST[:PORT]", help="Where wirebench load --distributed waits for workers.")
    ],
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long the master may take to answer.")] = "60s",
) -> None:
    """Take part in a load that several machines offer together: wirebench load --distributed says where to.

    A worker serves one run and ends. It offers what one load engine offers; start one for each core that is to load.

    Exit status: 0 the run is over; 2 bad input, no master there, or it turned this worker away; 3 the master has gone;
    130 interrupted.
    """
    from bench import preflight
    from bench.distributed.worker import work
    from bench.output import say
    from bench.quantities import parse_duration_ns

    preflight.raise_open_files()
    work(master, parse_duration_ns(wait, "--wait") / 1e9, say)
