"""The line between a server process and whoever started it: JSON lines, commands in, events out.

Commands on standard input: the spec (first line), then `{"ask": "stats"}` and `{"ask": "stop"}`. End of input means
that the starter has gone, and counts as stop: so a server never outlives its starter, however that one ended. So do
SIGTERM and SIGINT.

Events on standard output: `ready` (address, pid), `stats` (one entry for each worker), `death` (a worker ended by
itself), `error` (one line for the user, and the exit status that follows), `stopped`.
"""

import contextlib
import json
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.contract import DISCONNECT
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
    tls: str = "off"
    """The one version of TLS that the server speaks, like "1.3"."""
    certificate: str = ""
    private_key: str = ""
    """Files (PEM) with the server's certificate and its key."""
    early_data: bool = False
    """Take requests that come with a client's first flight (0-RTT, RFC 8446, section 2.3): safe ones (RFC 8470)."""
    state: str = ""
    """The folder for what the server keeps. It is the server's own, and goes with it, if none is named."""
    fast_open: bool = False
    """Take what comes with the SYN of a client that has a cookie (TCP Fast Open, RFC 7413)."""
    policy: str = DISCONNECT
    """What becomes of subscribers that are too slow (see `servers.topics`)."""
    redis: str = ""
    """The address of a Redis for sessions, like redis://127.0.0.1:6379/0; empty for none."""


class Control:
    """The server's end of the line. It belongs to the main thread, which calls `on_readable` when `fileno()` is
    readable, from whatever loop the model runs there; `post` and `stop` may be called from anywhere."""

    def __init__(self, spec: ServerSpec, counters: Counters, input_fd: int, output_fd: int) -> None:
        self.spec = spec
        self.counters = counters
        self.stopping = False
        """The server is to stop gracefully, or does so already."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called once, on the main thread, when the server is to stop gracefully."""
        self._input_fd = input_fd
        self._output_fd = output_fd
        self._pending = b""
        self._deaths: list[dict[str, Any]] = []
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read_fd, self._wake_write_fd = os.pipe()
        os.set_blocking(self._wake_read_fd, False)
        os.set_blocking(self._wake_write_fd, False)
        # A selector is itself readable when one of its descriptors is: the models' loops have one descriptor to watch.
        self._selector = selectors.DefaultSelector()
        self._selector.register(input_fd, selectors.EVENT_READ, self._read_commands)
        self._selector.register(self._wake_read_fd, selectors.EVENT_READ, self._run_posted)
        # Without it, a signal that comes just before the main thread waits would be seen only after that wait.
        signal.set_wakeup_fd(self._wake_write_fd, warn_on_full_buffer=False)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda _number, _frame: self.stop())

    def fileno(self) -> int:
        return self._selector.fileno()

    def on_readable(self) -> None:
        """Obey what has arrived. Never blocks."""
        self.wait(0)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for something to arrive, and obey it."""
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call back on the main thread when `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, on_readable)

    def wait_until_stopped(self) -> None:
        """What a main thread does that has nothing else to do."""
        while not self.stopping:
            self.wait()

    def post(self, callback: Callable[[], None]) -> None:
        """Have the main thread call back soon. Safe from any thread and from signal handlers."""
        self._posted.append(callback)
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_write_fd, b"\0")

    def stop(self) -> None:
        """Have the server stop gracefully. Safe from any thread and from signal handlers."""
        self.post(self._stop)

    def ready(self, host: str, port: int) -> None:
        """Every worker serves."""
        self.emit("ready", host=host, port=port, pid=os.getpid())

    def death(self, worker: int, reason: str, restarted: bool) -> None:
        """A worker ended by itself."""
        entry = {"worker": worker, "reason": reason, "restarted": restarted}
        self._deaths.append(entry)
        self.emit("death", **entry)

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event. A starter that no longer listens is not an error."""
        line = memoryview(json.dumps({"event": event, **fields}).encode() + b"\n")
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(self._output_fd, line) :]

    def close_in_child(self) -> None:
        """Let go of the line in a forked process: it is the parent's."""
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(OSError):  # where it is a kqueue, the child did not get it
            self._selector.close()
        for fd in (self._input_fd, self._output_fd, self._wake_read_fd, self._wake_write_fd):
            os.close(fd)

    def _stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self.on_stop()

    def _run_posted(self) -> None:
        os.read(self._wake_read_fd, 65536)  # before the calls, so that none posted meanwhile is left without a wake-up
        while self._posted:
            self._posted.popleft()()

    def _read_commands(self) -> None:
        data = os.read(self._input_fd, 65536)
        if not data:
            self._selector.unregister(self._input_fd)
            self._stop()
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            match json.loads(line)["ask"]:
                case "stats":
                    self.emit("stats", workers=[asdict(counts) for counts in self.counters], deaths=self._deaths)
                case "stop":
                    self._stop()
