"""A server process: `python -m servers`, with a JSON spec as the first line of standard input (see `servers.control`)."""

import importlib
import json
import os
import sys
from typing import Any

from servers.control import Control, ServerSpec
from servers.counters import Counters
from servers.execution.model import StartError


def load(reference: str) -> Any:
    """The object that "module:Name" refers to."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _read_spec(input_fd: int) -> ServerSpec:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(input_fd, 1)  # not one byte more: what follows is the control's
        if not byte:
            sys.exit(0)
        line += byte
    fields = json.loads(line)
    return ServerSpec(**{**fields, "cpus": tuple(fields["cpus"])})


def main() -> int:
    spec = _read_spec(sys.stdin.fileno())
    connection = load(spec.connection)
    model = load(spec.execution)()
    control = Control(spec, Counters(model.slots(spec.workers)), sys.stdin.fileno(), sys.stdout.fileno())
    try:
        model.serve(connection, control)
    except StartError as error:
        control.emit("error", message=str(error))
        return 2
    control.emit("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
