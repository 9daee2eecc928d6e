"""`wirebench doctor`"""

import json

import typer

from bench.commands.options import Json


def doctor(json_file: Json = None) -> None:
    """Show what this machine can do, and how to fix the rest.

    Exit status: 0, or 3 if something makes measuring impossible.
    """
    from bench.doctor import examine, exit_code, show
    from bench.output import STDOUT, write_json

    checks = examine()
    if json_file != STDOUT:
        print(show(checks))
    if json_file is not None:
        write_json(json_file, json.dumps([check.record() for check in checks], indent=1))
    raise typer.Exit(exit_code(checks))
