"""The line between a server process and whoever started it: JSON lines, commands in, events out.

Commands on standard input: the spec (first line), then `{"ask": "stats"}` and `{"ask": "stop"}`. End of input means
that the starter has gone, and counts as stop: so a server never outlives its starter, however that one ended.

Events on standard output: `ready` (address, protocol), `stats` (one entry for each worker), `death` (a worker ended by
itself), `error` (one line for the user), `stopped`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from servers.counters import Counters


@dataclass(frozen=True)
class ServerSpec:
    """What a server is asked to be. `cpus` are the CPUs its workers are pinned to, in turn; empty for none."""

    protocol: str
    connection: str
    """"module:Class" of the protocol's connection (see `servers.worker.Connection`)."""
    execution: str
    """"module:Class" of the execution model (see `servers.execution`)."""
    workers: int
    host: str
    port: int
    """0 for any free port."""
    backlog: int
    cpus: tuple[int, ...]
    grace_s: float
    """How long requests in flight may take to finish when the server stops."""


class Control:
    """The server's end of the line. Its input is read when `fileno()` is readable, by whatever loop the model runs."""

    def __init__(self, spec: ServerSpec, counters: Counters, input_fd: int, output_fd: int) -> None:
        self.spec = spec
        self.counters = counters
        self.on_stop: Callable[[], None] = lambda: None
        """Called once, when the server is to stop gracefully."""
        self._input_fd = input_fd
        self._output_fd = output_fd
        self._pending = b""
        self._deaths: list[dict[str, Any]] = []

    def fileno(self) -> int:
        return self._input_fd

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event. A starter that no longer listens is not an error."""
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            os.write(self._output_fd, line.encode())
        except OSError:
            pass

    def ready(self, host: str, port: int) -> None:
        """The server accepts connections."""
        self.emit("ready", host=host, port=port, pid=os.getpid())

    def death(self, worker: int, reason: str, restarted: bool) -> None:
        """A worker ended by itself."""
        entry = {"worker": worker, "reason": reason, "restarted": restarted}
        self._deaths.append(entry)
        self.emit("death", **entry)

    def on_readable(self) -> None:
        """Read and obey what has arrived."""
        data = os.read(self._input_fd, 65536)
        if not data:
            self.on_stop()
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            match json.loads(line)["ask"]:
                case "stats":
                    self.emit("stats", workers=[asdict(counts) for counts in self.counters], deaths=self._deaths)
                case "stop":
                    self.on_stop()
