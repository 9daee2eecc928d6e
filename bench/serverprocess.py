"""A server as a process of its own: started with a JSON spec, watched, asked for its counters, and stopped.

The other end of the line is `servers.control`, which documents what goes over it.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from bench import registry
from bench.errors import ServerFailedError, UnsupportedError, UsageError

_ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 10.0
STOP_MARGIN_S = 3.0
"""What a server may take to stop, beyond the grace it gives to requests in flight."""


@dataclass(frozen=True)
class WorkerCounts:
    """What one worker has done since the server started. `pid` is 0 if it does not run now; `cpu_ns` is None where the
    system does not tell."""

    worker: int
    pid: int
    accepts: int
    requests: int
    cpu_ns: int | None


@dataclass(frozen=True)
class Death:
    """A worker that ended by itself."""

    worker: int
    reason: str
    restarted: bool


class ServerProcess:
    """A server that runs while the context lasts. Not to be shared between threads.

    `host`, `port` and `pid` are those of the running server. Entering raises UnsupportedError for a protocol and a
    model that make no sense together, UsageError for an address that cannot be had, ServerFailedError otherwise. Every
    method raises ServerFailedError when it finds that the server has ended by itself, and so does leaving the context.
    """

    def __init__(
        self,
        protocol: str,
        execution: str = "single",
        workers: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        cpus: Sequence[int] = (),
        backlog: int = 4096,
        grace_s: float = 5.0,
    ) -> None:
        self.protocol = registry.choose(protocol, registry.SERVERS, "protocol")
        self.execution = registry.choose(execution, registry.EXECUTIONS, "execution")
        self.workers = workers
        self.host = host
        self.port = port
        self.pid = 0
        self._grace_s = grace_s
        self._spec = {
            "protocol": protocol,
            "connection": registry.SERVERS[protocol],
            "execution": registry.EXECUTIONS[execution],
            "workers": workers,
            "host": host,
            "port": port,
            "backlog": backlog,
            "cpus": list(cpus),
            "grace_s": grace_s,
        }
        self._deaths: list[Death] = []
        self._lines: deque[bytes] = deque()
        self._partial = b""
        self._stderr = ""
        self._running = False

    def __enter__(self) -> Self:
        why = registry.unsupported(self.protocol, self.execution)
        if why is not None:
            raise UnsupportedError(f"{self.protocol} under {self.execution} is not supported: {why}")
        self._errors = tempfile.TemporaryFile()
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # A process group of its own: a terminal's Ctrl-C is for the harness, which then stops the server in order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "servers"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,
        )
        self._running = True
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input_fd = self._process.stdin.fileno()
        self._output_fd = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output_fd, selectors.EVENT_READ)
        try:
            self._send(self._spec)
            event = self._await("ready", START_TIMEOUT_S)
        except BaseException:
            self._kill()
            raise
        self.host, self.port, self.pid = event["host"], event["port"], event["pid"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except ServerFailedError:
            # That the server failed explains an error of whoever talked to it; an interrupt stays an interrupt.
            if error is None or isinstance(error, Exception):
                raise

    @property
    def address(self) -> str:
        """ "host:port", with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def stderr(self) -> str:
        """What the server has written to standard error so far: the last 64 KiB of it."""
        if self._running:
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - 65536))
            self._stderr = self._errors.read().decode(errors="replace")
        return self._stderr

    @property
    def events(self) -> list[Death]:
        """The deaths of workers that the server has reported so far."""
        while (event := self._next_event(0)) is not None:
            self._note(event)
        return list(self._deaths)

    def pids(self) -> list[int]:
        """The processes of the server that run now: the main one first, then its workers."""
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            raise ServerFailedError(f"{self._name} does not run") from None
        return [self.pid, *(child.pid for child in children)]

    def stats(self) -> tuple[list[WorkerCounts], list[Death]]:
        """What each worker that ever ran has done so far, and which workers died."""
        self._send({"ask": "stats"})
        event = self._await("stats", ANSWER_TIMEOUT_S)
        self._deaths = [Death(**death) for death in event["deaths"]]
        return [WorkerCounts(**counts) for counts in event["workers"]], list(self._deaths)

    def stop(self) -> None:
        """Let requests in flight finish, and see that nothing of the server is left. Once stopped, it does nothing."""
        if not self._running:
            return
        try:
            self._send({"ask": "stop"})
            self._await("stopped", self._grace_s + STOP_MARGIN_S)
            self._process.wait(STOP_MARGIN_S)
        except subprocess.TimeoutExpired:
            raise ServerFailedError(f"{self._name} said that it had stopped, and went on") from None
        finally:
            self._kill()
        if self._process.returncode:
            raise ServerFailedError(f"{self._name} failed while it stopped: {self._last_words()}")

    @property
    def _name(self) -> str:
        return f"the {self.protocol} server ({self.execution})"

    def _send(self, message: dict[str, Any]) -> None:
        if not self._running:
            raise ServerFailedError(f"{self._name} does not run")
        with contextlib.suppress(BrokenPipeError):  # it has ended; what it said before is about to be read
            os.write(self._input_fd, json.dumps(message).encode() + b"\n")

    def _await(self, name: str, timeout_s: float) -> dict[str, Any]:
        """The next event of that name; what else comes before it is noted."""
        until = time.monotonic() + timeout_s
        while (event := self._next_event(until - time.monotonic())) is not None:
            if event["event"] == name:
                return event
            self._note(event)
        raise ServerFailedError(f"{self._name} gave no answer for {timeout_s:g} s (waited for: {name})")

    def _note(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "death":
                self._deaths.append(Death(**event))
            case "error":
                self._kill()
                if event["exit_code"] == UsageError.exit_code:
                    raise UsageError(event["message"])
                raise ServerFailedError(f"{self._name} gave up: {event['message']}")

    def _next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event, or None if none comes in time. Raises ServerFailedError if the server has ended."""
        until = time.monotonic() + timeout_s
        while not self._lines:
            if not (self._running and self._selector.select(max(0.0, until - time.monotonic()))):
                return None
            data = os.read(self._output_fd, 1 << 20)
            if not data:
                raise self._failed()
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._lines.extend(lines)
        event: dict[str, Any] = json.loads(self._lines.popleft())
        return event

    def _failed(self) -> ServerFailedError:
        self._kill()
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit status {code}"
        return ServerFailedError(f"{self._name} {how}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "it wrote nothing to standard error"

    def _kill(self) -> None:
        """End what is left of the server's process group, and close the line. The group's id cannot have passed to
        another: the main process has not been waited for."""
        if not self._running:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a zombie may not be signalled
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stderr = self.stderr
        self._running = False
        self._selector.close()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
