"""`wirebench capacity`"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.options import (
    OWN_FILE,
    File,
    Json,
    LoadProcesses,
    Seed,
    complete_execution,
    complete_operation,
    complete_protocol,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.subjects import Subject

_SENDING = {"connections": "64", "warmup": "500ms", "timeout": "5s"}
"""How it is sent, as far as nothing else is said."""


def capacity(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]", help="Address of a server that runs already. [default: ./wirebench.toml's service]"
        ),
    ] = None,
    file: File = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT,…",
            help="What must hold: p99<50ms, p99.9<100ms, errors<1%. [default: the file's thresholds, else p99<100ms]",
        ),
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
    connections: Annotated[
        str | None, typer.Option(metavar="N", help="Connections, like 64 or 8x16. [default: 64]")
    ] = None,
    arrivals: Annotated[
        Literal["constant", "poisson"], typer.Option(help="Evenly spaced, or as independent users send.")
    ] = "constant",
    start: Annotated[str, typer.Option("--from", metavar="RATE", help="The first rate.")] = "20/s",
    max_rate: Annotated[str, typer.Option(metavar="RATE", help="The highest rate to try.")] = "1000000/s",
    warmup: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long to send before measuring. [default: 500ms]")
    ] = None,
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long a trial of the search measures.")] = "2s",
    confirm: Annotated[str, typer.Option(metavar="TIME", help="How long a trial that confirms measures.")] = "10s",
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long an answer may take. [default: 5s]")
    ] = None,
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

    The service is one that runs already (URL); or the one that wirebench.toml describes, which is started for all of
    it and asked for its mix, its thresholds being the objectives; or, with --protocol or another option of servers, one
    of wirebench's own.

    The rate doubles until an objective is missed, the gap is closed, and longer trials confirm what is found. Of
    several latency objectives each gets its own capacity too. Then follow the curve of latency against rate, closed
    loads of growing concurrency, and the same search for every other execution model and number of workers.

    Ctrl-C keeps what was measured. Exit status: 0 fine; 1 the objectives are met at no rate; 2 bad input, or the server
    cannot be reached; 3 nothing valid was measured, or the load generator was the limit; 130 interrupted.
    """
    from bench import servicefile
    from bench.capacity import CapacityRun, settings_of
    from bench.capacityfile import CapacityFile
    from bench.capacityview import capacity_view, exit_code
    from bench.objectives import DEFAULT, from_thresholds, parse_objectives
    from bench.output import STDOUT, answer, check_json, say, show
    from bench.placement import choose_placement
    from bench.quantities import parse_duration_ns
    from bench.run import choose_seed, reserve_path
    from bench.subjects import own_subject, server_subjects, target_subject
    from bench.target import Wanted

    command = ["wirebench", *sys.argv[1:]]
    swept = {"execution": execution, "workers": workers}
    ours: dict[str, object] = {"protocol": protocol, "stack": stack, **swept}
    request: dict[str, object] = {"operation": operation, "payload": payload, "tls": tls}
    foreign = {"method": method, "message": message, "proto": proto, "cacert": cacert, "insecure": insecure}
    if url is not None:
        _refuse(ours, f"{url} runs already, and is what it is; leave out one of the two")
        _refuse({"file": file}, f"{url} says already where the service is; leave out one of the two")
    else:
        _refuse(foreign, "only servers that run already are asked for that; name one: URL")
    own = None
    if url is None and (file is not None or not any((ours | request).values())):
        _refuse(ours | request, f"the service is what {file} says; leave out one of the two")
        own = servicefile.read(Path(file or OWN_FILE))
        seed = own.seed if seed is None else seed
    given = {"connections": connections, "warmup": warmup, "timeout": timeout}
    said = {key: value for key, value in given.items() if value is not None}
    sending = {**_SENDING, **(own.repeated().load if own is not None else {}), **said}
    timeout_ns = parse_duration_ns(sending["timeout"], "--timeout")
    if own is None or objective:
        objectives = parse_objectives(objective or (DEFAULT,), timeout_ns)
    else:
        objectives, left_out = from_thresholds(own.thresholds, timeout_ns, str(own.path))
        if left_out:
            say(f"no objectives, for a search: {', '.join(threshold.text for threshold in left_out)}")
    settings = settings_of(
        objectives,
        arrivals,
        start,
        max_rate,
        duration,
        confirm,
        sending["connections"],
        target_rate,
        headroom,
        growth,
    )
    placement = choose_placement(load_processes)
    subjects: AbstractContextManager[Sequence[Subject]]
    if own is not None:
        subjects = own_subject(own, sending, load_processes, placement)
    elif url is not None:
        wanted = Wanted(operation, method, payload, message, proto)
        trust = (insecure, cacert, tls)
        subjects = nullcontext((target_subject(url, wanted, trust, sending, load_processes, placement),))
    else:
        single = {"protocol": protocol, "stack": stack, "operation": operation, "payload": payload, "tls": tls}
        options = {key: [value] for key, value in (single | sending).items() if value is not None}
        options |= {key: values for key, values in swept.items() if values}
        subjects = nullcontext(server_subjects(options, load_processes, placement))
    check_json(json_file)
    seed, path = choose_seed(seed), reserve_path(out, "capacity")
    results = CapacityFile(path, settings.record(), seed, placement, command)
    try:
        with subjects as (subject, *others):
            CapacityRun(settings, seed, results, say).run(subject, others)
    except BaseException:
        results.interrupt()
        if results.trials:
            say(f"what was measured is kept in {path}")
        raise
    record = results.record()
    answer(json_file, results.text, lambda: capacity_view(record))
    last = path
    if report:
        from analysis.report.capacity import write_capacity_page
        from bench.reporting import report_folder

        last = write_capacity_page(record, report_folder(path))
    if json_file != STDOUT:
        show(f"\n{last}")
    raise typer.Exit(exit_code(record))


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raises UsageError for an option that is given and means nothing."""
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name}: {why}")
