"""A server as a process of its own: started with a JSON spec, watched, asked for its counters, and stopped.

The other end of the line is `servers.control`, which documents what goes over it.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from bench import registry
from bench.certificates import certificates
from bench.childprocess import ROOT, ChildEndedError, ChildProcess
from bench.contract import DISCONNECT
from bench.errors import ServerFailedError, UnsupportedError, UsageError
from bench.protocols import CERTIFIED, PROTOCOLS

START_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 10.0
STOP_MARGIN_S = 3.0
"""What a server may take to stop, beyond the grace it gives to requests in flight."""


@dataclass(frozen=True)
class WorkerCounts:
    """What one worker has done since the server started. `pid` is 0 if it does not run now; `cpu_ns` is None where the
    system does not tell. What slow subscribers have come to (see `servers.topics`) is that of a whole process."""

    worker: int
    pid: int
    accepts: int
    requests: int
    cpu_ns: int | None
    dropped: int = 0
    disconnected: int = 0
    held: int = 0


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
        stack: str = "lean",
        tls: str | None = None,
        early_data: bool = False,
        fast_open: bool = False,
        state: str = "",
        policy: str = DISCONNECT,
        redis: str = "",
        within: Sequence[str] = (),
        root: Path = ROOT,
    ) -> None:
        """`early_data`, `fast_open`, `state`, `policy` and `redis` as for `servers.control.ServerSpec`, `within` and
        `root` as for `ChildProcess`."""
        self.protocol = registry.choose(protocol, PROTOCOLS, "protocol")
        self.execution = registry.choose(execution, registry.EXECUTIONS, "execution")
        self.stack = registry.choose(stack, registry.STACKS, "stack")
        self.tls = PROTOCOLS[protocol].tls[0] if tls is None else tls
        self.workers = workers
        self.host = host
        self.port = port
        self.pid = 0
        self._grace_s = grace_s
        self._within = within
        self._root = root
        self._spec = {
            "protocol": protocol,
            "connection": registry.server(protocol, stack),
            "execution": registry.EXECUTIONS[execution],
            "workers": workers,
            "host": host,
            "port": port,
            "backlog": backlog,
            "cpus": list(cpus),
            "grace_s": grace_s,
            "tls": self.tls if self.tls in CERTIFIED else "off",
            "early_data": early_data,
            "fast_open": fast_open,
            "state": state,
            "policy": policy,
            "redis": redis,
        }
        if self.tls in CERTIFIED:
            made = certificates()
            self._spec |= {"certificate": str(made.certificate), "private_key": str(made.private_key)}
        self._deaths: list[Death] = []
        self._standby: ChildProcess | None = None

    def __enter__(self) -> Self:
        why = registry.unsupported(self.protocol, self.execution, self.stack)
        if why is None and self._spec["early_data"]:
            why = registry.no_early_data(self.protocol, self.execution, self.stack)
        if why is not None:
            raise UnsupportedError(f"{self.protocol} under {self.execution} is not supported: {why}")
        self._start(ChildProcess("servers", self._within, self._root))
        return self

    def _start(self, child: ChildProcess) -> None:
        self._child = child
        try:
            self._child.send(self._spec)
            event = self._await("ready", START_TIMEOUT_S)
        except BaseException:
            self._child.kill()
            raise
        self.host, self.port, self.pid = event["host"], event["port"], event["pid"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._standby is not None:
            self._standby.kill()
        try:
            self.stop()
        except ServerFailedError:
            # That the server failed explains an error of whoever talked to it; an interrupt stays an interrupt.
            if error is None or isinstance(error, Exception):
                raise

    broker = ""
    """It is none (see `bench.brokerserver`)."""

    @property
    def address(self) -> str:
        """ "host:port", with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def stderr(self) -> str:
        """What the server has written to standard error so far: the last 64 KiB of it."""
        return self._child.stderr

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
        if self._child.closed:
            return
        try:
            self._send({"ask": "stop"})
            self._await("stopped", self._grace_s + STOP_MARGIN_S)
            status = self._child.wait(STOP_MARGIN_S)
        finally:
            self._child.kill()
        if status is None:
            raise ServerFailedError(f"{self._name} said that it had stopped, and went on")
        if status:
            raise ServerFailedError(f"{self._name} failed while it stopped: {self._child.last_words()}")

    def stand_by(self) -> None:
        """Have a process ready for `restart`, so that it takes no longer than it must."""
        self._standby = ChildProcess("servers", self._within, self._root)

    def restart(self) -> None:
        """Kill the server (SIGKILL), and start another at the same address."""
        processes = [psutil.Process(pid) for pid in self.pids()]
        self._child.kill()
        for process in processes[1:]:  # what the main one had forked ends by itself, but the port must be free now
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, STOP_MARGIN_S)
        self._spec["port"] = self.port
        standby, self._standby = self._standby, None
        self._start(standby or ChildProcess("servers", self._within, self._root))

    @property
    def _name(self) -> str:
        stack = "" if self.stack == "lean" else f"{self.stack}, "
        return f"the {self.protocol} server ({stack}{self.execution})"

    def _send(self, message: dict[str, Any]) -> None:
        if self._child.closed:
            raise ServerFailedError(f"{self._name} does not run")
        self._child.send(message)

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
                self._child.kill()
                if event["exit_code"] == UsageError.exit_code:
                    raise UsageError(event["message"])
                raise ServerFailedError(f"{self._name} gave up: {event['message']}")

    def _next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event, or None if none comes in time. Raises ServerFailedError if the server has ended."""
        try:
            return self._child.next_event(timeout_s)
        except ChildEndedError as error:
            how = str(error)
        raise ServerFailedError(f"{self._name} {how}")
