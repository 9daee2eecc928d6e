"""`wirebench load`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import (
    OWN_FILE,
    File,
    Json,
    Kernel,
    Link,
    LinkBackend,
    LoadProcesses,
    Seed,
    complete_operation,
)


def load(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="Address of a server; the scheme says the protocol. [default: ./wirebench.toml's]"
        ),
    ] = None,
    file: File = None,
    load_model: Annotated[
        str | None,
        typer.Option(
            "--load", metavar="LOAD", help="Load: see wirebench list loads. [default: closed:64; of events open:100/s]"
        ),
    ] = None,
    connections: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Connections of an open load, like 64 or 8x16; of events, subscribers. [default: 64]"
        ),
    ] = None,
    operation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Operation of a wirebench server; its answers are checked.",
            autocompletion=complete_operation,
        ),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Topic of a wirebench server: events are published, deliveries measured."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="HTTP method [default: GET, with a body POST], or gRPC's package.Service/Method."
        ),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", "--body", metavar="SIZE", help="Size of the body, message or event.")
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="JSON", help="What a gRPC method is sent. [default: an empty message]")
    ] = None,
    proto: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=".proto file of a gRPC method. [default: the server's reflection]"),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    cacert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Authorities (PEM) that certificates must come from. [default: the system's]"
        ),
    ] = None,
    tls: Annotated[
        str | None, typer.Option(metavar="VERSION", help="TLS: 1.2 or 1.3. [default: the best that both ends speak]")
    ] = None,
    link: Link = None,
    link_backend: LinkBackend = None,
    kernel: Kernel = None,
    warmup: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long to send before measuring; 0s for none. [default: 1s]")
    ] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="How long to measure. [default: 10s]")] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long an answer may take. [default: 5s]")
    ] = None,
    load_processes: LoadProcesses = 1,
    seed: Seed = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Have workers offer the load: see wirebench worker.")
    ] = False,
    expect_workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="Workers that share the load. [default: 1]")
    ] = None,
    lost_workers: Annotated[
        str | None,
        typer.Option(
            metavar="share|stop", help="When a worker is late or lost, others take its part, or it all stops."
        ),
    ] = None,
    wait: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long workers are waited for. [default: 60s]")
    ] = None,
    bind: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where workers find this master. [default: *:5557]")
    ] = None,
    web: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Locust's web UI is. [default: 127.0.0.1:8089]")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve the figures so far there, at /metrics.")
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Send the figures so far to a collector of OpenTelemetry (HTTP).")
    ] = None,
    json_file: Json = None,
) -> None:
    """Point the load engine at a server that runs already, or at a service of your own that a wirebench.toml describes.

    Schemes: http, https, h2c, h2 (HTTP/2 over TLS), h3, ws, wss, grpc, grpcs, sse+http, sse+https, webrtc+http, tcp,
    tcps, udp. Over HTTP, WebSocket and gRPC any server will do: statuses are checked, and with --operation the content
    too. tcp, udp and webrtc+http are for wirebench servers, and so is --topic, which sse+http needs: as many
    subscribers as --connections says, one publisher at the rate of --load, and latency from when an event was due to
    its delivery. The answer of --json is a result file, which wirebench report reads.

    With --distributed the load is shared by workers (wirebench worker) on this machine or others, through Locust.

    Without a URL, wirebench.toml says what to start, what to ask for, the load and the thresholds; options go before
    what it says. wirebench init writes one.

    Exit status: 0 fine; 1 a threshold failed; 2 bad input, or the server cannot be reached or answers wrongly; 3 the
    trial has a fatal doubt or gave no figures, or the service did not start; 130 interrupted, and what was measured
    until then is shown.
    """
    from bench import display, preflight
    from bench.distributed.crew import parse_crew
    from bench.errors import INTERRUPTED, TrialInterruptedError, UsageError
    from bench.loadview import load_view
    from bench.output import answer, check_json, say
    from bench.ownload import load_own_service
    from bench.placement import Placement, choose_placement
    from bench.resultfile import Status
    from bench.run import choose_seed, exit_code
    from bench.target import Wanted, parse_target, run_load, target_results, target_scenario
    from bench.telemetry import telling

    command = ["wirebench", *sys.argv[1:]]
    given = {
        "load": load_model,
        "connections": connections,
        "warmup": warmup,
        "duration": duration,
        "timeout": timeout,
        "link": link,
        "link_backend": link_backend,
        "kernel": kernel,
    }
    options = {key: value for key, value in given.items() if value is not None}
    check_json(json_file)
    if url is None:
        named = {"operation": operation, "topic": topic, "method": method, "payload": payload, "message": message}
        for option, value in (named | {"proto": proto, "insecure": insecure, "cacert": cacert, "tls": tls}).items():
            if value:
                raise UsageError(f"--{option}: goes with a URL; without one, {file or OWN_FILE} says what is asked for")
        raise typer.Exit(load_own_service(file or OWN_FILE, options, load_processes, seed, json_file, command))
    if file is not None:
        raise UsageError("--file: says where the service is, and so does a URL; leave out one of the two")
    target = parse_target(url, Wanted(operation, method, payload, message, proto, topic), insecure, cacert, tls)
    scenario = target_scenario(target, options)
    crew = parse_crew(distributed, expect_workers, lost_workers, wait, bind, web, load_processes)
    preflight.check([scenario])
    status: Status
    seed, placement = choose_seed(seed), choose_placement(load_processes).load_only()
    with (
        display.watch(f"{url}   {scenario.load}", [scenario], rounds=1) as shown,
        telling(shown, prometheus, otlp) as watcher,
    ):
        try:
            if crew is None:
                trial = run_load(target, scenario, seed, load_processes, placement, watcher)
            else:
                from bench.distributed.run import run_distributed

                placement = Placement((), ())
                trial = run_distributed(target, scenario, seed, crew, watcher, say)
            status, code = "complete", exit_code([trial])
        except TrialInterruptedError as interrupt:
            trial, status, code = interrupt.trial, "interrupted", INTERRUPTED
    results = target_results(trial, placement, command, status)
    answer(json_file, results.text, lambda: load_view(trial))
    raise typer.Exit(code)
