"""`wirebench doctor`"""

import json

import typer

from bench.commands.options import Json


def doctor(json_file: Json = None) -> None:
    """Show what this machine can do, and how to fix the rest.

    Exit status: 0, or 3 if something makes measuring impossible.
    """
    from bench.doctor import examine, exit_code, show
    from bench.output import answer

    checks = examine()
    answer(json_file, lambda: json.dumps([check.record() for check in checks], indent=1), lambda: show(checks))
    raise typer.Exit(exit_code(checks))
