"""Programs of others as child processes: pinned, in a process group of their own, ended with all that they started."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 15.0
_PORT_ATTEMPTS = 3
_OWN_SETTINGS = ("CADDY_", "HAPROXY_", "GRANIAN_", "LOCUST_", "NGINX", "UVICORN_", "WEB_CONCURRENCY")
"""Environment variables that these programs take options from: what is compared is what the command line says."""


class VoidError(Exception):
    """A measurement gave no figure that can be used. The message is one line that says why."""


@contextlib.contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Keep the calling thread, and the processes that it starts meanwhile, on these CPUs; on any, if none are given."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class PeerProcess:
    """A program that runs while the context lasts. Leaving kills it and all that it started, finished or not: there is
    nothing of it to keep."""

    def __init__(self, name: str, command: Sequence[str], cpus: Sequence[int], folder: Path) -> None:
        """`folder` is the working directory."""
        self._name = name
        self._command = command
        self._cpus = cpus
        self._folder = folder

    def __enter__(self) -> Self:
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)}
        with contextlib.ExitStack() as undo:
            self._output = undo.enter_context(tempfile.TemporaryFile())
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            with pinned(self._cpus):
                self._process = self._start({**inherited, "PYTHONPATH": path})
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The group outlives its leader, and its id cannot pass to another before the leader is waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a zombie may not be signalled
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The program's first process."""
        return self._process.pid

    def output(self, timeout_s: float) -> str:
        """What it writes to standard output until it ends. Raises VoidError if it fails or does not end in time."""
        until = time.monotonic() + timeout_s
        while not self._has_ended():
            if time.monotonic() > until:
                raise VoidError(f"{self._name} did not end within {timeout_s:.0f} s")
            time.sleep(0.05)
        status = self._process.wait()
        if status:
            raise VoidError(f"{self._name} ended with exit status {status}: {self._last_words()}")
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def comes_to_listen(self, port: int) -> bool:
        """Wait until a process of the program listens on the port; False if it ends first. Raises VoidError."""
        until = time.monotonic() + _START_TIMEOUT_S
        while not self._listens(port):
            if self._has_ended():
                return False
            if time.monotonic() > until:
                raise VoidError(f"{self._name} does not listen on port {port}: {self._last_words()}")
            time.sleep(0.01)
        return True

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        # A process group of its own: a terminal's Ctrl-C is for the harness, which then ends the program.
        try:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._errors,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            raise VoidError(f"{self._name} cannot be started: {error.strerror}") from None

    def _has_ended(self) -> bool:
        # Without reaping it, so that the group's id stays its own until the end.
        return psutil.Process(self._process.pid).status() == psutil.STATUS_ZOMBIE

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self._process.pid)
            for process in (main, *main.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    for connection in process.net_connections("inet"):
                        takes = connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
                        if takes and connection.laddr and connection.laddr.port == port:
                            return True
        return False

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-2:]) or "it wrote nothing to standard error"


@contextlib.contextmanager
def serving(name: str, command: Callable[[int], Sequence[str]], cpus: Sequence[int], folder: Path) -> Iterator[int]:
    """A server that runs while the context lasts. Gives the port, on 127.0.0.1, that it was told to listen on. Raises
    VoidError."""
    with server_process(name, command, cpus, folder) as (port, _):
        yield port


@contextlib.contextmanager
def server_process(
    name: str, command: Callable[[int], Sequence[str]], cpus: Sequence[int], folder: Path, host: str = "127.0.0.1"
) -> Iterator[tuple[int, PeerProcess]]:
    """A server that runs while the context lasts. Gives the port of `host` that it was told to listen on.

    Not all servers can take any free port and say which. So the kernel names one, and should another program take it
    before the server does, the server ends and gets the next one. Raises VoidError.
    """
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port = free_port(host)
        with PeerProcess(name, command(port), cpus, folder) as process:
            if process.comes_to_listen(port):
                yield port, process
                return
            if attempt == _PORT_ATTEMPTS:
                process.output(0.0)
                raise VoidError(f"{name} ended instead of serving")


def free_port(host: str) -> int:
    """A TCP port of that address that nobody listens on now."""
    with socket.create_server((host, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
