"""`wirebench load`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import Json, LoadProcesses, Seed, complete_operation


def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://, h2c://, tcp:// or udp:// address of a server.")],
    load_model: Annotated[
        str, typer.Option("--load", metavar="LOAD", help="Load: see wirebench list loads.")
    ] = "closed:64",
    connections: Annotated[str, typer.Option(metavar="N", help="Connections of an open load, like 64 or 8x16.")] = "64",
    operation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Operation of a wirebench server; its answers are checked.",
            autocompletion=complete_operation,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="HTTP method. [default: GET, with a body POST]")
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", "--body", metavar="SIZE", help="Size of the body.")
    ] = None,
    warmup: Annotated[str, typer.Option(metavar="TIME", help="How long to send before measuring; 0s for none.")] = "1s",
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long to measure.")] = "10s",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long an answer may take.")] = "5s",
    load_processes: LoadProcesses = 1,
    seed: Seed = None,
    json_file: Json = None,
) -> None:
    """Point the load engine at a server that runs already.

    Over http and h2c any server will do: statuses are checked, and with --operation the content too. tcp and udp speak
    wirebench's own frames, and are always checked. The answer of --json is a result file, which wirebench report reads.

    Exit status: 0 fine; 2 bad input, or the server cannot be reached or answers wrongly; 3 the trial has a fatal doubt
    or gave no figures; 130 interrupted.
    """
    from bench import display, preflight
    from bench.loadview import load_view
    from bench.output import answer, check_json
    from bench.placement import choose_placement
    from bench.run import choose_seed, exit_code
    from bench.target import parse_target, run_load, target_results, target_scenario

    target = parse_target(url, operation, method, payload)
    options = {
        "load": load_model,
        "connections": connections,
        "warmup": warmup,
        "duration": duration,
        "timeout": timeout,
    }
    scenario = target_scenario(target, options)
    preflight.check([scenario])
    check_json(json_file)
    seed, placement = choose_seed(seed), choose_placement(load_processes).load_only()
    with display.watch(f"{url}   {scenario.load}", [scenario], rounds=1) as watcher:
        trial = run_load(target, scenario, seed, load_processes, placement, watcher)
    results = target_results(trial, placement, ["wirebench", *sys.argv[1:]])
    answer(json_file, results.text, lambda: load_view(trial))
    raise typer.Exit(exit_code([trial]))
