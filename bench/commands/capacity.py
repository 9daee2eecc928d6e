"""`wirebench capacity`"""

import sys
from typing import Annotated, Literal

import typer

from bench.commands.options import (
    Json,
    LoadProcesses,
    Seed,
    complete_execution,
    complete_operation,
    complete_protocol,
)
from bench.errors import UsageError


def capacity(
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="Address of a server that runs already; else options spell one."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(metavar="LIMIT,…", help="What must hold: p99<50ms, p99.9<100ms, errors<1%. [default: p99<100ms]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="Protocol of the server.", autocompletion=complete_protocol)
    ] = None,
    execution: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,…", help="Execution models, the first in full.", autocompletion=complete_execution),
    ] = None,
    workers: Annotated[
        list[str] | None, typer.Option(metavar="N,…", help="Numbers of workers, the first in full.")
    ] = None,
    operation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Operation.", autocompletion=complete_operation)
    ] = None,
    stack: Annotated[str | None, typer.Option(metavar="NAME", help="Stack of the server.")] = None,
    tls: Annotated[str | None, typer.Option(metavar="VERSION", help="TLS: off, 1.2 or 1.3.")] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="HTTP method, or gRPC's Service/Method.")] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", "--body", metavar="SIZE", help="Size of the body or message.")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="JSON", help="What a gRPC method is sent.")] = None,
    proto: Annotated[str | None, typer.Option(metavar="FILE", help=".proto file of a gRPC method.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    cacert: Annotated[str | None, typer.Option(metavar="FILE", help="Authorities of certificates (PEM).")] = None,
    connections: Annotated[str, typer.Option(metavar="N", help="Connections, like 64 or 8x16.")] = "64",
    arrivals: Annotated[
        Literal["constant", "poisson"], typer.Option(help="Evenly spaced, or as independent users send.")
    ] = "constant",
    start: Annotated[str, typer.Option("--from", metavar="RATE", help="The first rate.")] = "20/s",
    max_rate: Annotated[str, typer.Option(metavar="RATE", help="The highest rate to try.")] = "1000000/s",
    warmup: Annotated[str, typer.Option(metavar="TIME", help="How long to send before measuring.")] = "500ms",
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long a trial of the search measures.")] = "2s",
    confirm: Annotated[str, typer.Option(metavar="TIME", help="How long a trial that confirms measures.")] = "10s",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long an answer may take.")] = "5s",
    target_rate: Annotated[
        str | None, typer.Option("--target", metavar="RATE", help="Plan how many units this rate needs.")
    ] = None,
    headroom: Annotated[str, typer.Option(metavar="SHARE", help="Of the plan: what stays free of each unit.")] = "30%",
    growth: Annotated[str, typer.Option(metavar="SHARE", help="Of the plan: by how much the rate grows.")] = "0%",
    load_processes: LoadProcesses = 1,
    seed: Seed = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json|FOLDER", help="Where the results go. [default: results/runs/TIME-capacity.json]"
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write the HTML report too, and name it in the end.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Find the highest rate at which a service meets every objective, and plan with it.

    The rate doubles until an objective is missed, the gap is halved, and longer trials confirm what is found. Of
    several latency objectives each gets its own capacity too. Then follow the curve of latency against rate, closed
    loads of growing concurrency, and the same search for every other execution model and number of workers.

    Ctrl-C keeps what was measured. Exit status: 0 fine; 1 the objectives are met at no rate; 2 bad input, or the server
    cannot be reached; 3 nothing valid was measured, or the load generator was the limit; 130 interrupted.
    """
    from bench.capacity import CapacityFile, CapacityRun, settings_of
    from bench.capacityview import capacity_view, exit_code
    from bench.output import STDOUT, answer, check_json, say, show
    from bench.placement import choose_placement
    from bench.run import choose_seed, reserve_path
    from bench.subjects import server_subjects, target_subject
    from bench.target import Wanted

    settings = settings_of(
        objective or (),
        arrivals,
        start,
        max_rate,
        duration,
        confirm,
        timeout,
        connections,
        target_rate,
        headroom,
        growth,
    )
    placement = choose_placement(load_processes)
    sending = {"connections": connections, "warmup": warmup, "timeout": timeout}
    own = {"protocol": protocol, "stack": stack}
    swept = {"execution": execution, "workers": workers}
    if url is None:
        for option, value in (("--method", method), ("--message", message), ("--proto", proto), ("--cacert", cacert)):
            if value is not None:
                raise UsageError(f"{option}: only servers that run already are asked for that; name one: URL")
        given = {**own, "operation": operation, "payload": payload, "tls": tls, **sending}
        options = {key: [value] for key, value in given.items() if value is not None}
        subjects = server_subjects(
            options | {key: values for key, values in swept.items() if values}, load_processes, placement
        )
    else:
        for option, spelled in (*own.items(), *swept.items()):
            if spelled is not None:
                raise UsageError(f"--{option}: {url} runs already, and is what it is; leave out one of the two")
        wanted = Wanted(operation, method, payload, message, proto)
        subjects = (target_subject(url, wanted, (insecure, cacert, tls), sending, load_processes, placement),)
    check_json(json_file)
    seed, path = choose_seed(seed), reserve_path(out, "capacity")
    file = CapacityFile(path, settings, seed, placement, ["wirebench", *sys.argv[1:]])
    try:
        CapacityRun(settings, seed, file, say).run(subjects[0], subjects[1:])
    except BaseException:
        file.interrupt()
        if file.trials:
            say(f"what was measured is kept in {path}")
        raise
    record = file.record()
    answer(json_file, file.text, lambda: capacity_view(record))
    last = path
    if report:
        from analysis.report.capacity import write_capacity_page
        from bench.reporting import report_folder

        last = write_capacity_page(record, report_folder(path))
    if json_file != STDOUT:
        show(f"\n{last}")
    raise typer.Exit(exit_code(record))
