"""`wirebench init`"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import OWN_FILE


def init(
    file: Annotated[str, typer.Option(metavar="FILE", help="Where to write.")] = OWN_FILE,
    command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="What starts the service, with {port} for its port; '' if it runs already."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Its address, like http://127.0.0.1:{port}; the scheme says the protocol."),
    ] = None,
    ready: Annotated[
        str | None, typer.Option(metavar="PATH", help="A path that it answers once it is ready; '' for none.")
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REQUEST",
            help="Like 'GET /users'; over ws:// a message, over grpc:// 'package.Service/Method FILE'. Repeatable.",
        ),
    ] = None,
    load: Annotated[str | None, typer.Option(metavar="LOAD", help="Load: see wirebench list loads.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="How long to measure.")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="THRESHOLD", help="Like 'p99 < 20ms'. May be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults for the rest.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a wirebench.toml for a service of your own, by asking. What options say is not asked for.

    Exit status: 0 fine; 2 an answer that makes no sense, or the file is there already; 130 interrupted.
    """
    from rich.console import Console
    from rich.prompt import Prompt

    from bench import ownfile
    from bench.errors import UsageError
    from bench.output import show
    from bench.quantities import parse_duration_ns
    from bench.schedule import parse_load
    from bench.servicefile import protocol_of

    path, console = Path(file), Console(stderr=True, markup=False, highlight=False)
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; --force replaces it")

    def ask(
        given: str | None, question: str, default: str, check: Callable[[str], object] = lambda answer: answer
    ) -> str:
        if given is not None:
            return given
        if yes:
            return default
        while True:
            try:
                answer = Prompt.ask(question, default=default, console=console, show_default=bool(default)).strip()
                check(answer)
            except EOFError:
                raise UsageError("there are no more answers; --yes takes the defaults for what is not given") from None
            except UsageError as error:
                if not sys.stdin.isatty():
                    raise
                console.print(str(error))  # and somebody is there, who can be asked again
            else:
                return answer

    command = ask(command, "What starts the service? {port} is a free port; leave it empty if it runs already", "")
    usual = "http://127.0.0.1:{port}" if "{port}" in command else "http://127.0.0.1:8000"
    url = ask(url, "Its address; the scheme says the protocol", usual, lambda said: protocol_of(said, "the address"))
    ready = ask(ready, "A path that it answers once it is ready; empty: as soon as the port takes connections", "")
    requests = list(request or [])
    protocol = protocol_of(url, "--url")

    def check_request(said: str) -> None:
        if said:
            ownfile.check_request(said, protocol, path)

    if not requests:
        requests.append(ask(None, *ownfile.QUESTIONS[protocol], check_request))
        while not yes and (further := ask(None, "Another request; empty: no more", "", check_request)):
            requests.append(further)
    load = ask(
        load,
        "The load: open:100/s at that rate, closed:16 as fast as 16 connections go",
        ownfile.LOAD,
        lambda said: parse_load(said, "the load"),
    )
    duration = ask(
        duration, "How long to measure", ownfile.DURATION, lambda said: parse_duration_ns(said, "the duration")
    )
    if threshold is None:
        threshold = ownfile.split_thresholds(
            ask(
                None,
                "Thresholds, with commas between them; - for none",
                ", ".join(ownfile.THRESHOLDS),
                ownfile.split_thresholds,
            )
        )
    ownfile.write(path, ownfile.Answers(command, url, ready, requests, load, duration, threshold), force)
    show(f"wrote {path}; next: wirebench load" + ("" if file == OWN_FILE else f" --file {path}"))
