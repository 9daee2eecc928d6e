"""`wirebench history`"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import Json, Metrics

history = typer.Typer(
    rich_markup_mode=None,
    help="Keep runs, and see when their figures changed.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[str | None, typer.Option(metavar="FOLDER", help="The history's folder. [default: results/history]")]
Branch = Annotated[
    str | None, typer.Option(metavar="NAME", help="The history is on this branch of the repository, and in no folder.")
]
Machine = Annotated[str | None, typer.Option(metavar="ID", help="Only runs of this machine; its beginning will do.")]
AllMachines = Annotated[bool, typer.Option("--all-machines", help="Runs of several machines, each by itself.")]
Scenario = Annotated[str, typer.Option(metavar="TEXT", help="Only scenarios with this in their name, or this hash.")]
Floor = Annotated[str, typer.Option(metavar="SHARE", help="A change of level of less than this is none.")]


@history.command()
def add(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Result files.")],
    folder: Folder = None,
    branch: Branch = None,
) -> None:
    """Keep runs: one file each, never changed, by machine and time. What is kept already is left as it is."""
    from analysis.history import entry
    from analysis.load_results import load_run
    from bench import historyview
    from bench.output import say, show

    place = historyview.open_history(folder, branch)
    entries = [entry(load_run(run)) for run in runs]
    for one in entries:
        name, is_new = place.add(one)
        if not is_new:
            say("is kept already:")
        show(f"{name}: {historyview.contents(one)}")


@history.command("show")
def show_command(
    folder: Folder = None,
    branch: Branch = None,
    machine: Machine = None,
    all_machines: AllMachines = False,
    scenario: Scenario = "",
    metric: Metrics = None,
    floor: Floor = "5%",
    json_file: Json = None,
) -> None:
    """Show each figure's last level, and when it changed.

    Exit status: 0 fine; 2 bad input, or runs of several machines and none chosen.
    """
    from bench import historyview
    from bench.output import answer, check_json

    check_json(json_file)
    place = historyview.open_history(folder, branch)
    found = historyview.look(place, machine, all_machines, scenario, metric or (), floor)
    answer(json_file, lambda: historyview.as_json(found), lambda: historyview.show(found))


@history.command()
def plot(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.svg|FILE.png", help="Where it goes.")],
    folder: Folder = None,
    branch: Branch = None,
    machine: Machine = None,
    all_machines: AllMachines = False,
    scenario: Scenario = "",
    metric: Metrics = None,
    floor: Floor = "5%",
) -> None:
    """Draw each figure run after run, with its levels and changes."""
    from bench import historyview
    from bench.output import show

    place = historyview.open_history(folder, branch)
    historyview.check_picture(out)
    historyview.draw(historyview.look(place, machine, all_machines, scenario, metric or (), floor), out)
    show(str(out))
