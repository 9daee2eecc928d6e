"""The command line: `wirebench`, and `python -m bench` likewise.

Every way to end has its exit status: 0 fine, 1 a threshold failed, 2 bad input, 3 measurement not valid, 70 a fault of
wirebench itself, 130 interrupted, 141 nobody reads the output any more. Whatever goes wrong is one line on standard
error; a traceback is for those who set WIREBENCH_DEBUG=1.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench import __version__
from bench.commands.aa import aa
from bench.commands.ab import ab
from bench.commands.capacity import capacity
from bench.commands.claims import claims
from bench.commands.compare import compare
from bench.commands.doctor import doctor
from bench.commands.export import export
from bench.commands.history import history
from bench.commands.init import init
from bench.commands.lab import lab
from bench.commands.list import list_command
from bench.commands.load import load
from bench.commands.micro import micro
from bench.commands.peers import peers
from bench.commands.report import report
from bench.commands.run import run
from bench.commands.serve import serve
from bench.commands.worker import worker
from bench.errors import INTERRUPTED, WirebenchError
from bench.output import ReaderGoneError

_BAD_INPUT, _INTERNAL = 2, 70

# Plain help: drawing it with rich would take half of the 0.2 s that it may take.
app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command("list")(list_command)
app.command()(serve)
app.command()(load)
app.command()(init)
app.command()(capacity)
app.command()(worker)
app.command(context_settings={"allow_interspersed_args": False})(lab)
app.command()(report)
app.command()(doctor)
app.command()(peers)
app.command()(claims)
app.command()(compare)
app.command()(ab)
app.command()(aa)
app.command()(micro)
app.add_typer(history, name="history")
app.command()(export)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"wirebench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def wirebench(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compare how backends talk and how they run: matched servers, one load engine, answers with their uncertainty.

    Begin with: wirebench run quick --report
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):  # both end a command as Ctrl-C does: in order
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
    try:
        status = app(args=arguments, prog_name="wirebench", standalone_mode=False)
    except ReaderGoneError as error:
        return error.exit_code
    except WirebenchError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "wirebench"
        return _fail(f"{error.format_message().rstrip('.')}; see {command} --help", _BAD_INPUT)
    except Exception as error:  # noqa: BLE001  # no traceback reaches a user
        return _fail_internally(error)
    if status == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    """The only line about it; what is in its way (a terminal's control codes in a file name, say) is spelled out."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split("\n")))
    with contextlib.suppress(OSError):
        print(f"wirebench: {'' if status == INTERRUPTED else 'error: '}{line}", file=sys.stderr, flush=True)
    return status


def _fail_internally(error: Exception) -> int:
    if os.environ.get("WIREBENCH_DEBUG") == "1":
        raise error
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else "?"
    return _fail(
        f"a fault of wirebench itself: {type(error).__name__} at {place}: {error}; "
        "please report it with what the same command prints under WIREBENCH_DEBUG=1",
        _INTERNAL,
    )
