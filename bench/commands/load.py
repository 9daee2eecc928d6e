"""`wirebench load`"""

import sys
from typing import Annotated, Literal

import typer

from bench.commands.options import Json, Kernel, Link, LinkBackend, LoadProcesses, Seed, complete_operation


def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of a server; the scheme says the protocol.")],
    load_model: Annotated[
        str | None,
        typer.Option(
            "--load", metavar="LOAD", help="Load: see wirebench list loads. [default: closed:64; of events open:100/s]"
        ),
    ] = None,
    connections: Annotated[
        str, typer.Option(metavar="N", help="Connections of an open load, like 64 or 8x16; of events, subscribers.")
    ] = "64",
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
    warmup: Annotated[str, typer.Option(metavar="TIME", help="How long to send before measuring; 0s for none.")] = "1s",
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long to measure.")] = "10s",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long an answer may take.")] = "5s",
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
    """Point the load engine at a server that runs already.

    Schemes: http, https, h2c, h2 (HTTP/2 over TLS), h3, ws, wss, grpc, grpcs, sse+http, sse+https, webrtc+http, tcp,
    tcps, udp. Over HTTP, WebSocket and gRPC any server will do: statuses are checked, and with --operation the content
    too. tcp, udp and webrtc+http are for wirebench servers, and so is --topic, which sse+http needs: as many
    subscribers as --connections says, one publisher at the rate of --load, and latency from when an event was due to
    its delivery. The answer of --json is a result file, which wirebench report reads.

    With --distributed the load is shared by workers (wirebench worker) on this machine or others, through Locust.

    Exit status: 0 fine; 2 bad input, or the server cannot be reached or answers wrongly; 3 the trial has a fatal doubt
    or gave no figures; 130 interrupted.
    """
    from bench import display, preflight
    from bench.distributed.crew import parse_crew
    from bench.loadview import load_view
    from bench.output import answer, check_json, say
    from bench.placement import Placement, choose_placement
    from bench.run import choose_seed, exit_code
    from bench.target import Wanted, parse_target, run_load, target_results, target_scenario
    from bench.telemetry import telling

    target = parse_target(url, Wanted(operation, method, payload, message, proto, topic), insecure, cacert, tls)
    options = {
        "connections": connections,
        "warmup": warmup,
        "duration": duration,
        "timeout": timeout,
    }
    given = {"load": load_model, "link": link, "link_backend": link_backend, "kernel": kernel}
    options |= {key: value for key, value in given.items() if value}
    scenario = target_scenario(target, options)
    crew = parse_crew(distributed, expect_workers, lost_workers, wait, bind, web, load_processes)
    preflight.check([scenario])
    check_json(json_file)
    seed, placement = choose_seed(seed), choose_placement(load_processes).load_only()
    interrupted = False
    with (
        display.watch(f"{url}   {scenario.load}", [scenario], rounds=1) as shown,
        telling(shown, prometheus, otlp) as watcher,
    ):
        if crew is None:
            trial = run_load(target, scenario, seed, load_processes, placement, watcher)
        else:
            from bench.distributed.run import run_distributed

            placement = Placement((), ())
            trial, interrupted = run_distributed(target, scenario, seed, crew, watcher, say)
    status: Literal["interrupted", "complete"] = "interrupted" if interrupted else "complete"
    results = target_results(trial, placement, ["wirebench", *sys.argv[1:]], status)
    answer(json_file, results.text, lambda: load_view(trial))
    raise typer.Exit(130 if interrupted else exit_code([trial]))
