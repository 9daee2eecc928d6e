"""A service of the user's own, started for a load and ended with it (see `bench.servicehost`)."""

import contextlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.address import SCHEMES, Address
from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import ServerFailedError, UsageError
from bench.protocols import PROTOCOLS

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 20.0
_ASK_AGAIN_S = 0.05
_ASK_TIMEOUT_S = 2.0
PORT = "{port}"
"""What stands for the port in a command, its environment, and the address."""


@dataclass(frozen=True)
class Ready:
    """When a service is ready: once it takes connections on `port` and, if there is a `path`, answers a GET there with
    a status below 400. Without a port it is the service's own, where one over UDP is ready once it answers there."""

    path: str | None = None
    port: int | None = None
    timeout_ns: int = 30_000_000_000


@dataclass(frozen=True)
class Command:
    """What starts a service. `output` is the file that has what it writes."""

    words: tuple[str, ...]
    cwd: Path
    output: Path
    env: dict[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port that nobody uses now, of the kernel's choice."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class ServiceProcess:
    """A service that runs while the context lasts: entering starts it. Raises UsageError if the command cannot be
    started, ServerFailedError."""

    def __init__(self, command: Command, port: int, cpus: Sequence[int] = ()) -> None:
        self._command = command
        self._port = port
        self._cpus = cpus
        self._host: ChildProcess
        self._pid = 0
        self._death: str | None = None
        self.left_behind = 0
        """How many processes had to be killed, at the end, that the service had left behind."""

    def __enter__(self) -> Self:
        command = self._command
        self._host = ChildProcess("bench.servicehost")
        try:
            self._host.send(
                {
                    "command": [word.replace(PORT, str(self._port)) for word in command.words],
                    "cwd": str(command.cwd),
                    "env": {"PORT": str(self._port)}
                    | {name: value.replace(PORT, str(self._port)) for name, value in command.env.items()},
                    "python_path": os.environ.get("PYTHONPATH"),
                    "output": str(command.output),
                    "cpus": list(self._cpus),
                }
            )
            event = self._host.next_event(_START_TIMEOUT_S)
        except ChildEndedError as error:
            raise ServerFailedError(f"the service did not start: its host {error}") from None
        except BaseException:
            self._end()
            raise
        if event is None or event["event"] != "started":
            self._end()
            why = event["message"] if event is not None else "no answer"
            raise UsageError(f"the service's command {command.words[0]!r} cannot be started: {why}")
        self._pid = event["pid"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def death(self) -> str | None:
        """How the service has ended by itself, and what it wrote last, like "ended with exit status 1; it wrote last:
        no database"; None while it runs."""
        with contextlib.suppress(ChildEndedError):
            while self._death is None and (event := self._host.next_event(0)) is not None:
                if event["event"] == "ended":
                    status = event["status"]
                    how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
                    if not status:
                        how += " (if it goes on in the background: it has to stay in the foreground)"
                    self._death = f"{how}; {self.last_words()}"
        return self._death

    def pids(self) -> list[int]:
        """The service and all processes that it has started, as far as they run."""
        import psutil

        try:
            service = psutil.Process(self._pid)
            return [self._pid, *(child.pid for child in service.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def last_words(self) -> str:
        """The end of what the service wrote, in one line, and where the rest is."""
        try:
            text = self._command.output.read_bytes()[-65536:].decode(errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = " | ".join(lines[-3:])[-400:]
        return f"it wrote last: {said} (all of it: {self._command.output})" if said else "it wrote nothing"

    def _end(self) -> None:
        host = self._host
        if not host.closed:
            self.death()
            host.send({"ask": "stop"})
            with contextlib.suppress(ChildEndedError):
                until = time.monotonic() + _STOP_TIMEOUT_S
                while (event := host.next_event(until - time.monotonic())) is not None:
                    if event["event"] == "stopped":
                        self.left_behind = event["left"]
                        break
            host.wait(_STOP_TIMEOUT_S)
        host.kill()


def await_ready(address: Address, ready: Ready, service: ServiceProcess | None) -> None:
    """Wait until a service is ready. Raises ServerFailedError; if nobody has started it here, that is the error too."""
    until = time.monotonic() + ready.timeout_ns / 1e9
    while (why := _not_ready(address, ready)) is not None:
        if service is not None and (death := service.death()) is not None:
            raise ServerFailedError(f"the service was not ready yet and {death}")
        if time.monotonic() > until:
            said = f"; {service.last_words()}" if service is not None else ""
            raise ServerFailedError(f"the service was not ready within {ready.timeout_ns / 1e9:g} s: {why}{said}")
        time.sleep(_ASK_AGAIN_S)


def _not_ready(address: Address, ready: Ready) -> str | None:
    """Why a service is not ready; None if it is."""
    host, port = address.host, ready.port or address.port
    if ready.path is not None:
        return _gives_no_answer(host, port, SCHEMES[address.scheme].tls, ready.path)
    is_quic = ready.port is None and PROTOCOLS[address.protocol].transport_kind == "quic"
    try:
        if is_quic:
            _ask_for_versions(host, port)
        else:
            socket.create_connection((host, port), _ASK_TIMEOUT_S).close()
    except OSError as error:
        return f"{'UDP ' if is_quic else ''}port {port}: {error.strerror or error}"
    return None


def _gives_no_answer(host: str, port: int, secure: bool, path: str) -> str | None:
    kind = "https" if secure else "http"
    if secure:
        # Whose certificate it is does not matter here; the load looks at that.
        context = ssl._create_unverified_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_ASK_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {kind}://{host}:{port}{path}: {error or type(error).__name__}"
    finally:
        connection.close()
    return None if status < 400 else f"GET {kind}://{host}:{port}{path} is answered with status {status}"


def _ask_for_versions(host: str, port: int) -> None:
    """Have a server of QUIC say which versions it speaks, as it does for a version that nobody does (RFC 9000, section
    6.1). Raises OSError if there is no answer."""
    packet = (b"\xc0\x1a\x2a\x3a\x4a\x08wirebnch\x08wirebnch").ljust(1200, b"\x00")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_ASK_TIMEOUT_S / 4)
        sock.connect((host, port))
        sock.send(packet)
        sock.recv(65536)


def check_port_is_free(host: str, port: int) -> None:
    """Raise UsageError if somebody takes connections there already, who would be measured in the place of the
    service."""
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), _ASK_TIMEOUT_S).close()
        raise UsageError(
            f"port {port} of {host} is taken: something answers there before the service was started; "
            f"write {PORT} for a port that is free"
        )
