"""`wirebench worker`: takes its part of a load from a master, and drives an engine for it in a process of its own."""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench import __version__
from bench.address import parse_place
from bench.childprocess import ChildEndedError, ChildProcess
from bench.distributed.crew import MASTER_PORT
from bench.distributed.seconds import Clerk
from bench.errors import LoadFailedError, TargetError, UnsupportedError, UsageError
from bench.lab import probes
from bench.load.spec import PROGRESS_S
from bench.loadprocess import start_load

_LEAVING_TIMEOUT_S = 5.0
_LOOK_UP_EVERY_S = 1.0
_HALF_PERIOD_NS = int(PROGRESS_S * 1e9) // 2
"""A load process reports a period once it is over: the middle of it is in the second that it belongs to."""


def hello() -> dict[str, Any]:
    """What a worker says of itself. Only equal versions understand each other's plans and results."""
    return {"say": "hello", "wirebench": __version__, "locust": _locust_version(), "host": socket.gethostname()}


def _locust_version() -> str:
    try:
        return version("locust")
    except PackageNotFoundError:
        raise UnsupportedError("Locust is not installed: pip install 'wirebench[distributed]'") from None


def work(place: str, wait_s: float, say: Callable[[str], None]) -> None:
    """Serve one run of the master at that place: "HOST" or "HOST:PORT".

    Raises UsageError if the place makes no sense or the master turns us away, TargetError if no master answers there
    within `wait_s` or the load's server cannot be reached, LoadFailedError if the run ends before our part of it.
    """
    host, port = parse_place(place, "--master", MASTER_PORT)
    place, greeting = f"{host}:{port}", hello()
    deadline = time.monotonic() + wait_s
    _look_up(host, deadline, say)
    with _locust(host, port) as locust:
        try:
            if locust.next_event(deadline - time.monotonic()) is None:
                raise TargetError(
                    f"no master answers at {place} after {wait_s:g} s; start one there with wirebench load "
                    "--distributed, or wait longer with --wait"
                )
            say(f"a worker of the master at {place}")
            locust.send({"send": greeting})
            _Worker(locust, say).serve()
        except ChildEndedError:
            raise LoadFailedError(f"the master at {place} has gone, or no longer answers") from None


def _look_up(host: str, deadline: float, say: Callable[[str], None]) -> None:
    """Wait until the name resolves: where a cluster starts all at once, the master's may not be there yet."""
    told = False
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TargetError(f"--master: the host {host} cannot be found: {reason}") from None
            if not told:
                say(f"the host {host} cannot be found yet; looking for it for another {left_s:.0f} s")
                told = True
            time.sleep(min(left_s, _LOOK_UP_EVERY_S))


@contextlib.contextmanager
def _locust(host: str, port: int) -> Iterator[ChildProcess]:
    locust = ChildProcess("bench.distributed")
    try:
        arguments = ["--worker", "--master-host", host, "--master-port", str(port), "--loglevel", "WARNING"]
        locust.send({"locustfile": "worker_locustfile", "arguments": arguments})
        yield locust
    finally:
        if not locust.closed:  # it takes leave of the master
            locust.release()
            locust.wait(_LEAVING_TIMEOUT_S)
        locust.kill()


@dataclass
class _Part:
    """A load process and what it has been asked for."""

    spec: dict[str, Any]
    start_ns: int | None
    margin_ns: int = 0
    """How long before the start it was told of it."""


class _Worker:
    def __init__(self, locust: ChildProcess, say: Callable[[str], None]) -> None:
        self._locust = locust
        self._say = say
        self._parts: dict[ChildProcess, _Part] = {}
        self._clerk = Clerk()
        self._measure_ns = self._duration_ns = 0
        self._before = probes.host_load()
        self._over = False

    def serve(self) -> None:
        """Do what the master says, until the run is over."""
        try:
            while not self._over:
                for child in select.select([self._locust, *self._parts], [], [])[0]:
                    if child is self._locust:
                        while not self._over and (event := child.next_event(0)) is not None:
                            self._obey(event["data"])
                    elif child in self._parts:  # and was not ended by what the master has said
                        self._hear(child)
        finally:
            self._end_loads()

    def _obey(self, message: dict[str, Any]) -> None:
        match message["say"]:
            case "part":
                child = start_load()
                child.send(message["spec"])
                self._parts[child] = _Part(message["spec"], message["start_ns"])
            case "start":
                for child, part in self._parts.items():
                    part.start_ns = message["start_ns"]
                    self._release(child, part)
            case "stop":
                self._end_loads()
                self._report()
                self._tell("stopped")
            case "refused":
                raise UsageError(f"the master turned this worker away: {message['message']}")
            case "done":
                self._over = True

    def _hear(self, child: ChildProcess) -> None:
        """Whatever a load process has said."""
        part = self._parts[child]
        try:
            while child in self._parts and (event := child.next_event(0)) is not None:
                match event["event"]:
                    case "connected":
                        self._tell("ready")
                        if part.start_ns is not None:
                            self._release(child, part)
                    case "progress":
                        self._progress(event)
                    case "result":
                        self._finish(child, part, event)
                    case "error":
                        self._fail(child, event["message"], is_target=True)
        except ChildEndedError as error:
            self._fail(child, f"its load process {error}", is_target=False)

    def _release(self, child: ChildProcess, part: _Part) -> None:
        assert part.start_ns is not None
        self._measure_ns, self._duration_ns = part.start_ns + part.spec["warmup_ns"], part.spec["duration_ns"]
        self._before = probes.host_load()
        part.margin_ns = part.start_ns + part.spec["since_ns"] - time.monotonic_ns()
        child.send({"start_ns": part.start_ns})
        where = f"{part.spec['host']} port {part.spec['port']}"
        share = f"part {part.spec['process'] + 1} of {part.spec['processes']}"
        self._say(f"loads {where}: {part.spec['load']}, {share}")

    def _progress(self, progress: dict[str, Any]) -> None:
        gone_ns = min(time.monotonic_ns() - self._measure_ns, self._duration_ns)  # no second after the last
        second = max(0, gone_ns - _HALF_PERIOD_NS) // 1_000_000_000
        self._clerk.add(second, progress)
        self._report(second)

    def _report(self, before: int | None = None) -> None:
        for second in self._clerk.take(before):
            self._locust.send({"second": second})

    def _finish(self, child: ChildProcess, part: _Part, result: dict[str, Any]) -> None:
        self._report()
        after = probes.host_load()
        self._tell(
            "result",
            result={key: value for key, value in result.items() if key != "event"},
            memory=asdict(probes.memory([child.pid])),
            host_load=[asdict(self._before), asdict(after)],
            margin_ns=part.margin_ns,
        )
        self._end(child)

    def _fail(self, child: ChildProcess, message: str, is_target: bool) -> None:
        self._end(child)
        self._tell("failed", message=message, is_target=is_target)

    def _tell(self, say: str, **fields: Any) -> None:
        self._locust.send({"send": {"say": say, **fields}})

    def _end(self, child: ChildProcess) -> None:
        del self._parts[child]
        if not child.closed:
            child.release()
            child.wait(_LEAVING_TIMEOUT_S)
        child.kill()

    def _end_loads(self) -> None:
        for child in list(self._parts):
            del self._parts[child]
            child.kill()
