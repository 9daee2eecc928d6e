"""A server process: `python -m servers`, with a JSON spec as the first line of its input (see `servers.control`)."""

import contextlib
import importlib
import json
import os
import resource
import sys
import tempfile
from dataclasses import replace
from typing import Any

from bench.errors import UnsupportedError
from servers.control import Control, ServerSpec
from servers.counters import Counters
from servers.execution.model import GaveUpError, StartError, pin_all
from servers.tls import prepare


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


def _take_line() -> tuple[int, int]:
    """Move the line to the starter off the standard descriptors. What is printed by accident goes to standard error,
    and forked processes can close the line: libuv takes no descriptor below 3 for its own."""
    line = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, sys.stdin.fileno())
    os.close(null_fd)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return line


def _allow_many_descriptors() -> None:
    """As many as may be had without privileges: each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "no limit", and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    input_fd, output_fd = _take_line()
    spec = _read_spec(input_fd)
    connection = load(spec.connection)
    model = load(spec.execution)()
    with contextlib.ExitStack() as stack:
        if not spec.state:
            spec = replace(spec, state=stack.enter_context(tempfile.TemporaryDirectory(prefix="wirebench-state-")))
        return _serve(Control(spec, Counters(model.slots(spec.workers)), input_fd, output_fd), model, connection)


def _serve(control: Control, model: Any, connection: type[Any]) -> int:
    try:
        _allow_many_descriptors()
        pin_all(control.spec)
        prepare(control.spec, connection)
        model.serve(connection, control)
    except (StartError, UnsupportedError) as error:
        control.emit("error", message=str(error), exit_code=2)
        return 2
    except GaveUpError as error:
        control.emit("error", message=str(error), exit_code=3)
        return 3
    control.emit("stopped")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # a worker thread that is still computing after the grace can't be ended in another way
