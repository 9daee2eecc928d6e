"""`wirebench run`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import (
    Connections,
    Executions,
    Json,
    Kernels,
    LinkBackends,
    Links,
    LoadProcesses,
    Operations,
    Payloads,
    Protocols,
    Seed,
    Timeouts,
    TlsVersions,
    Vias,
    Workers,
    complete_suite,
)

_Several = list[str] | None


def run(
    suite: Annotated[
        str | None,
        typer.Argument(metavar="SUITE", help="A suite's name, or a TOML file.", autocompletion=complete_suite),
    ] = None,
    protocol: Protocols = None,
    execution: Executions = None,
    workers: Workers = None,
    load: Annotated[_Several, typer.Option(metavar="LOAD,…", help="Loads, like closed:64 or poisson:5000/s.")] = None,
    connections: Connections = None,
    payload: Payloads = None,
    operation: Operations = None,
    stack: Annotated[_Several, typer.Option(metavar="NAME,…", help="Stacks of the servers.")] = None,
    client: Annotated[_Several, typer.Option(metavar="NAME,…", help="Stacks of the clients.")] = None,
    tls: TlsVersions = None,
    handshake: Annotated[
        _Several, typer.Option(metavar="WAY,…", help="How TLS connections begin: full, resumed or early-data.")
    ] = None,
    fast_open: Annotated[_Several, typer.Option(metavar="on,off", help="TCP Fast Open: data with the SYN.")] = None,
    pattern: Annotated[_Several, typer.Option(metavar="NAME,…", help="Patterns.")] = None,
    beside: Annotated[
        _Several, typer.Option(metavar="OPERATION@RATE", help="Requests beside those measured: block:for=200ms@2/s.")
    ] = None,
    restart: Annotated[
        _Several,
        typer.Option(metavar="SHARE,…", help="Kill the server and start it again, so far into the measured time: 50%."),
    ] = None,
    broker_address: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A broker that runs already, like amqp://user:password@127.0.0.1:5672/."),
    ] = None,
    link: Links = None,
    link_backend: LinkBackends = None,
    kernel: Kernels = None,
    via: Vias = None,
    warmup: Annotated[
        _Several, typer.Option(metavar="TIME,…", help="How long to send before measuring, like 500ms; 0s for none.")
    ] = None,
    duration: Annotated[_Several, typer.Option(metavar="TIME,…", help="How long to measure, like 2s.")] = None,
    timeout: Timeouts = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="How often every scenario is run.")
    ] = None,
    seed: Seed = None,
    load_processes: LoadProcesses = 1,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE.json|FOLDER", help="Where the results go. [default: results/runs/TIME-SUITE.json]"),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write the HTML report too, and name it in the end.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Run scenarios and compare them.

    These are a suite's, or those that options spell. With a suite, --protocol, --execution, --stack, --client, --tls,
    --handshake, --fast-open and --pattern choose among its scenarios; the other options take the place of what the
    suite says. Without one, the options spell the scenarios: http1, single and closed:64 where they say nothing. An
    option may be given several times, or once with commas: every combination is run. Without suite and options, the
    suite quick is run.

    Ctrl-C ends the run and keeps the trials that are done. Exit status: 0 fine; 2 bad input; 3 a trial failed outright,
    or no trial is free of fatal doubts; 130 interrupted.
    """
    from bench import brokers, display, preflight
    from bench.output import STDOUT, answer, check_json, say, show
    from bench.placement import choose_placement
    from bench.reporting import report_folder, run_summary
    from bench.run import choose_seed, exit_code, open_results, reserve_path, run_suite
    from bench.selection import choose_suite
    from bench.wire.brokers import without_login

    for address in broker_address or ():
        brokers.use(address, "--broker-address")
    chosen = choose_suite(
        suite,
        {
            "protocol": protocol,
            "execution": execution,
            "workers": workers,
            "load": load,
            "connections": connections,
            "payload": payload,
            "operation": operation,
            "stack": stack,
            "client": client,
            "tls": tls,
            "handshake": handshake,
            "fast_open": fast_open,
            "pattern": pattern,
            "beside": beside,
            "restart": restart,
            "link": link,
            "link_backend": link_backend,
            "kernel": kernel,
            "via": via,
            "warmup": warmup,
            "duration": duration,
            "timeout": timeout,
        },
    )
    preflight.check(chosen.scenarios)
    check_json(json_file)
    rounds, seed = rounds or chosen.rounds, choose_seed(seed)
    placement = choose_placement(load_processes)
    path = reserve_path(out, chosen.name)
    results = open_results(path, chosen, rounds, seed, placement, ["wirebench", *map(without_login, sys.argv[1:])])
    say("counting the bytes of an exchange over each protocol")
    try:
        with display.watch(chosen.name, chosen.scenarios, rounds) as watcher:
            run_suite(chosen, rounds, seed, load_processes, placement, results, watcher)
    except BaseException:
        if results.trials:
            say(f"{len(results.trials)} of {len(chosen.scenarios) * rounds} trials are kept in {path}")
        raise
    answer(json_file, results.text, lambda: run_summary(path))
    last = path
    if report:
        from analysis.report import write_report

        last = write_report([path], report_folder(path))
    if json_file != STDOUT:
        show(f"\n{last}")
    raise typer.Exit(exit_code(results.trials))
