"""`wirebench claims`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import Json, Seed


def _names() -> list[str]:
    from bench.claims import CHAPTERS, claim_files

    return [*CHAPTERS, *claim_files()]


def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHAPTER|ID…]", help="Which claims; all of them without it.", autocompletion=_names),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Three rounds each, then up to twelve where nothing is decided, within 25 minutes."
        ),
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Ten rounds each, then up to thirty where nothing is decided, within 3 hours."),
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the claims, and run nothing.")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Show how often verdicts of the mode are right, on simulated servers.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Where it is kept; a run that was interrupted goes on. [default: results/claims/TIME]",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write the site too, and name its first page in the end.")
    ] = False,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write the verdicts as JUnit XML there.")] = None,
    seed: Seed = None,
    json_file: Json = None,
) -> None:
    """Run the claims of the course, and say of each what comes out: upheld, refuted, conditional, undecided, or
    unsupported here.

    Ctrl-C keeps the verdicts so far; the same command with --out FOLDER goes on. Exit status: 0 fine; 1 a claim whose
    verdict is known came out otherwise; 2 bad input; 3 nothing could be measured; 130 interrupted.
    """
    from bench import claimview
    from bench.output import answer, check_json

    check_json(json_file)
    check_json(junit)
    chosen = claimview.choose_claims(names or ())
    mode = claimview.choose_mode(quick, thorough)
    if simulate:
        from analysis.simulation import simulated

        found = simulated(mode)
        answer(json_file, lambda: claimview.simulated_json(found), lambda: claimview.show_simulated(found))
        return
    if show_list:
        answer(json_file, lambda: claimview.list_json(chosen), lambda: claimview.show_list(chosen))
        return
    status = claimview.run(
        chosen,
        mode,
        seed,
        out,
        report,
        junit,
        json_file,
        ["wirebench", *sys.argv[1:]],
    )
    raise typer.Exit(status)
