"""`wirebench ab`"""

import sys
from typing import Annotated

import typer

from bench.commands.options import (
    AbUrl,
    Build,
    Command,
    CompareExports,
    Connections,
    Executions,
    Json,
    Margin,
    Metrics,
    Operations,
    PairedDurations,
    PairedLoads,
    PairedOut,
    Payloads,
    Protocols,
    Seed,
    Timeouts,
    TlsVersions,
    Workers,
    complete_suite,
)

_Several = list[str] | None


def ab(
    base: Annotated[str, typer.Option(metavar="REV", help="What there was: a revision of this repository.")],
    suite: Annotated[
        str | None,
        typer.Argument(metavar="SUITE", help="Scenarios of wirebench's own servers.", autocompletion=complete_suite),
    ] = None,
    head: Annotated[str, typer.Option(metavar="REV", help="What there is now.")] = "HEAD",
    command: Command = None,
    url: AbUrl = None,
    build: Build = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="HTTP method of the requests to a server of yours.")
    ] = None,
    protocol: Protocols = None,
    execution: Executions = None,
    workers: Workers = None,
    operation: Operations = None,
    tls: TlsVersions = None,
    load: PairedLoads = None,
    connections: Connections = None,
    payload: Payloads = None,
    warmup: Annotated[
        _Several, typer.Option(metavar="TIME", help="How long to send before measuring. [default: 300ms]")
    ] = None,
    duration: PairedDurations = None,
    timeout: Timeouts = None,
    pairs: Annotated[int, typer.Option(metavar="N", min=10, max=1000, help="The most pairs.")] = 200,
    metric: Metrics = None,
    margin: Margin = "2%",
    seed: Seed = None,
    out: PairedOut = None,
    export: CompareExports = None,
    json_file: Json = None,
) -> None:
    """Compare two revisions of a server in pairs, side by side on this machine, until it is known which is better.

    Both are checked out in worktrees that are gone afterwards. In wirebench's own repository its servers are compared,
    by the scenarios that a suite or options spell; in yours the service that the wirebench.toml of each checkout
    describes (in this folder of it), by its requests and its load, or the server that --command starts. Options go
    before the file's load. The engine that measures is the installed one. Where nobody says a load and closed:4 leaves
    it no room on base, both sides get a lighter one.

    Ctrl-C keeps the pairs so far. Exit status: 0 nothing is worse; 1 something is; 2 bad input, or a revision that does
    not build or start; 3 nothing valid was measured; 130 interrupted.
    """
    from analysis.export import OF_COMPARISON
    from bench import abview, compareview
    from bench.output import STDOUT, answer, check_json, show

    check_json(json_file)
    exports = compareview.parse_exports(export or (), OF_COMPARISON)
    options = {
        "protocol": protocol,
        "execution": execution,
        "workers": workers,
        "operation": operation,
        "tls": tls,
        "load": load,
        "connections": connections,
        "payload": payload,
        "warmup": warmup,
        "duration": duration,
        "timeout": timeout,
    }
    words = ["wirebench", *sys.argv[1:]]
    asked = abview.Asked(suite, options, command, url, build, method, metric or (), margin, pairs, seed, out, words)
    found, folder, _ = abview.run(asked, base, head)
    answer(json_file, lambda: compareview.comparison_json(found), lambda: compareview.show_comparison(found))
    compareview.write_exports(exports, OF_COMPARISON, found)
    if json_file != STDOUT:
        show(f"\n{folder}")
    raise typer.Exit(compareview.exit_code(found))
