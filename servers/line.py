"""The line between a process with one event loop and whoever started it: JSON lines, a spec and commands on standard
input, events on standard output. End of input means that the starter has gone: so such a process never outlives it.
(A server of `servers.execution` may have several processes and threads; its line is `servers.control`.)"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

_INPUT_FD, _OUTPUT_FD = 0, 1


def emit(event: str, **fields: Any) -> None:
    """Write one event. A starter that no longer listens is not an error."""
    line = memoryview(json.dumps({"event": event, **fields}).encode() + b"\n")
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(_OUTPUT_FD, line) :]


def read_spec() -> dict[str, Any]:
    """The first line of the input. Ends the process where there is none."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_INPUT_FD, 1)  # not one byte more: what follows are commands
        if not byte:
            sys.exit(0)
        line += byte
    spec: dict[str, Any] = json.loads(line)
    return spec


async def obey_until_stopped(answers: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
    """Call what each command of the starter is for, with the command, until `{"ask": "stop"}`, the end of the input,
    SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    pending = b""

    def read() -> None:
        nonlocal pending
        data = os.read(_INPUT_FD, 65536)
        if not data:
            stopped.set()
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if command["ask"] == "stop":
                stopped.set()
            else:
                answers[command["ask"]](command)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_reader(_INPUT_FD, read)
    await stopped.wait()
    loop.remove_reader(_INPUT_FD)
