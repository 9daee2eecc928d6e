"""The embedded broker as a process: `python -m servers.broker`, with a JSON spec as the first line of its input.

The spec has `path` (the file of the log), `host` and `port` (0 for any free port). It says `ready` with host, port
and pid, or `error` with a message, as lines of JSON; when its input ends, it writes what waits, says `stopped` and
ends.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from servers.broker.connection import BrokerConnection
from servers.broker.log import Log
from servers.broker.store import StoreError


def _emit(event: str, **fields: Any) -> None:
    with contextlib.suppress(OSError):  # a starter that no longer listens is not an error
        os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")


def _read_spec() -> dict[str, Any]:
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)
    spec: dict[str, Any] = json.loads(line)
    return spec


async def _serve(spec: dict[str, Any]) -> int:
    loop = asyncio.get_running_loop()
    try:
        log = Log(Path(spec["path"]), loop)
    except StoreError as error:
        _emit("error", message=f"the embedded broker {error}", exit_code=2)
        return 2
    connections: set[BrokerConnection] = set()

    def resume_all() -> None:
        for connection in connections:
            connection.resume()

    log.on_room = resume_all
    try:
        server = await loop.create_server(lambda: BrokerConnection(log, connections), spec["host"], spec["port"])
    except OSError as error:
        where = f"{spec['host']} port {spec['port']}"
        _emit("error", message=f"the embedded broker cannot listen on {where}: {error.strerror}", exit_code=2)
        return 2
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_reader(0, lambda: None if os.read(0, 4096) else stopped.set())
    _emit("ready", host=spec["host"], port=server.sockets[0].getsockname()[1], pid=os.getpid())
    await stopped.wait()
    loop.remove_reader(0)
    server.close()
    for connection in connections:
        connection.pause()
    await log.close()
    _emit("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve(_read_spec())))
