"""What a command prints: answers on standard output, messages on standard error, JSON where it was asked for."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from bench.errors import OutputError

STDOUT = "-"
"""The FILE of `--json FILE` that means standard output."""


def say(message: str) -> None:
    """A line for people on standard error."""
    print(f"wirebench: {message}", file=sys.stderr, flush=True)


def write_json(destination: str, text: str) -> None:
    """The JSON answer of a command, to a file or standard output. Raises OutputError."""
    if destination == STDOUT:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
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
