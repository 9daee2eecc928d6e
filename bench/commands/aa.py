"""`wirebench aa`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import (
    AbUrl,
    Build,
    Command,
    Executions,
    Json,
    Margin,
    Metrics,
    PairedDurations,
    PairedLoads,
    PairedOut,
    Protocols,
    Seed,
)


def aa(
    revision: Annotated[str, typer.Argument(metavar="REV", help="A revision of this repository.")] = "HEAD",
    command: Command = None,
    url: AbUrl = None,
    build: Build = None,
    protocol: Protocols = None,
    execution: Executions = None,
    load: PairedLoads = None,
    duration: PairedDurations = None,
    pairs: Annotated[int, typer.Option(metavar="N", min=10, max=1000, help="Pairs.")] = 40,
    metric: Metrics = None,
    margin: Margin = "2%",
    seed: Seed = None,
    out: PairedOut = None,
    json_file: Json = None,
) -> None:
    """Compare a revision with itself: how noisy this machine is, and how often wirebench ab would be right on it.

    From the pairs that were measured a thousand gates are drawn, with the sides of each pair changed by chance, and
    judged as wirebench ab judges; and again with a head that is made slower by 5 % and 10 %.

    Exit status: 0 the gate's false alarms are as rare as they must be; 1 they are not; 2 bad input; 3 nothing valid was
    measured; 130 interrupted.
    """
    from bench import abview, compareview
    from bench.output import answer, check_json

    check_json(json_file)
    options = {"protocol": protocol, "execution": execution, "load": load, "duration": duration}
    words = ["wirebench", *sys.argv[1:]]
    asked = abview.Asked(None, options, command, url, build, None, metric or (), margin, pairs, seed, out, words)
    found, folder, pair_s = abview.run_equal(asked, revision)
    if not found.is_valid:
        raise typer.Exit(3)
    noise, gates = abview.gates(folder, metric or (), compareview.parse_margin(margin), abview.DEFAULT_PAIRS)
    answer(
        json_file,
        lambda: compareview.aa_json(noise, gates, found, pair_s),
        lambda: compareview.show_aa(noise, gates, found, pair_s),
    )
    raise typer.Exit(0 if compareview.is_quiet(gates) else 1)
