"""What a command prints: answers on standard output, messages on standard error, JSON where it was asked for."""

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from bench.errors import OutputError, WirebenchError

STDOUT = "-"
"""The FILE of `--json FILE` that means standard output."""


class ReaderGoneError(WirebenchError):
    """Nobody reads standard output any more, as after `| head`. No message: it is not an error."""

    exit_code = 141  # as the shell reports a program that SIGPIPE ended


def say(message: str) -> None:
    """A line for people on standard error."""
    print(f"wirebench: {message}", file=sys.stderr, flush=True)


def answer(destination: str | None, as_json: Callable[[], str], as_text: Callable[[], str]) -> None:
    """A command's answer: as JSON where `--json` says, if it was given, and for people on standard output, unless the
    JSON went there. Raises OutputError, ReaderGoneError."""
    if destination is not None:
        write_json(destination, as_json())
    if destination != STDOUT:
        show(as_text())


def show(text: str) -> None:
    """Text for people on standard output. Raises OutputError, ReaderGoneError."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _let_go_of_stdout()
        raise ReaderGoneError from None
    except OSError as error:
        _let_go_of_stdout()
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def _let_go_of_stdout() -> None:
    """So that Python, when it ends, does not try to flush what cannot be written."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_json(destination: str, text: str) -> None:
    """The JSON answer of a command, to a file or standard output. Raises OutputError, ReaderGoneError."""
    if destination == STDOUT:
        show(text.removesuffix("\n"))
        return
    from bench.resultfile import write_atomically

    write_atomically(Path(destination), text if text.endswith("\n") else text + "\n")


def check_json(destination: str | None) -> None:
    """Raise OutputError now if `write_json` will not be able to write there later, when all the work is done."""
    if destination is None or destination == STDOUT:
        return
    path = Path(destination)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.is_file():
            path.open("a").close()
        elif not path.exists():
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = (), indent: int = 0) -> str:
    """Rows as lines with aligned columns. `right` are the columns whose cells stand at their right edge."""
    table = [list(row) for row in rows]
    widths = [max(map(len, cells)) for cells in zip_longest(*table, fillvalue="")]
    flush = set(right)
    lines = []
    for row in table:
        cells = [cell.rjust(w) if n in flush else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths))]  # noqa: B905  # a row may be short
        lines.append(" " * indent + "  ".join(cells).rstrip())
    return "\n".join(lines)
