"""`wirebench serve`"""

import json
from typing import Annotated

import typer

from bench.commands.options import Json, complete_execution, complete_protocol


def serve(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL", help="What the server speaks: see wirebench list.", autocompletion=complete_protocol
        ),
    ],
    execution: Annotated[
        str, typer.Option(metavar="NAME", help="Execution model.", autocompletion=complete_execution)
    ] = "single",
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="Workers of the models that have several.")
    ] = 1,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 8080,
    cpus: Annotated[
        str | None, typer.Option(metavar="0,1", help="CPUs that the workers are pinned to, in turn.")
    ] = None,
    stack: Annotated[str, typer.Option(metavar="NAME", help="Stack: what speaks the protocol.")] = "lean",
    tls: Annotated[
        str | None, typer.Option(metavar="VERSION", help="TLS: off, 1.2 or 1.3; the certificate is made on the spot.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Start a server, and run it until Ctrl-C."""
    from bench import preflight, serving
    from bench.output import answer, check_json, say

    preflight.raise_open_files()
    check_json(json_file)
    with serving.make_server(protocol, execution, workers, host, port, cpus, stack, tls) as server:
        say(serving.greeting(server))
        outcome = serving.serve_until_interrupted(server, say)
    answer(json_file, lambda: json.dumps(outcome, indent=1), lambda: serving.summary(outcome))
