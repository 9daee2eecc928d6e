"""A child process with a line of JSON each way: how servers and load processes are started, heard and ended."""

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.errors import LabFailedError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout of this project that runs."""


class ChildEndedError(Exception):
    """The child has ended, or closed its output. The message says how, and what it wrote to standard error last."""


class ChildProcess:
    """`python -m MODULE` in a process group of its own, so that a terminal's Ctrl-C reaches the starter alone, which
    then ends its children in order. Not to be shared between threads."""

    def __init__(
        self,
        module: str,
        within: Sequence[str] = (),
        root: Path = ROOT,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`within` is a command that starts the command behind it somewhere else, and becomes it (see `bench.lab`);
        `root` is the checkout of this project that the module is of; `environment` is what the child has of it where we
        have nothing."""
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        self._stderr = ""
        self.closed = False
        """Whether `kill` was called."""
        self._process = subprocess.Popen(
            [*within, sys.executable, "-P", "-m", module],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, **os.environ, "PYTHONPATH": path},
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self._input_fd = self._process.stdin.fileno()
        self._output_fd = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output_fd, selectors.EVENT_READ)
        self._lines: deque[bytes] = deque()
        self._partial = b""

    def fileno(self) -> int:
        """Readable when the child has said something, or ended."""
        return self._output_fd

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line to the child. One that has ended is not an error here: `next_event` tells."""
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(json.dumps(message).encode() + b"\n")
            while view:
                view = view[os.write(self._input_fd, view) :]

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """The next line from the child, or None if none comes in time. Raises ChildEndedError."""
        until = time.monotonic() + timeout_s
        while not self._lines:
            if self.closed or not self._selector.select(max(0.0, until - time.monotonic())):
                return None
            data = os.read(self._output_fd, 1 << 20)
            if not data:
                self.kill()
                raise ChildEndedError(f"{self._how()}: {self.last_words()}")
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._lines.extend(lines)
        event: dict[str, Any] = json.loads(self._lines.popleft())
        return event

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, or None if the child still runs after that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    @property
    def returncode(self) -> int | None:
        """The exit status once the child was waited for; negative for the signal that killed it."""
        return self._process.returncode

    @property
    def stderr(self) -> str:
        """What the child has written to standard error so far: the last 64 KiB of it."""
        if not self.closed:
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - 65536))
            self._stderr = self._errors.read().decode(errors="replace")
        return self._stderr

    def last_words(self) -> str:
        """The end of what the child wrote to standard error, as one line."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "it wrote nothing to standard error"

    def release(self) -> None:
        """Say nothing more to the child, which a load process takes as leave to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """End what is left of the child's process group, and close the line. The group's id cannot have passed to
        another: the child has not been waited for."""
        if self.closed:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a zombie may not be signalled
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stderr = self.stderr
        self.closed = True
        self._selector.close()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _how(self) -> str:
        code = self._process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit status {code}"


def heard(child: ChildProcess, event: str, who: str, timeout_s: float) -> dict[str, Any]:
    """What a child in the lab says next, which has to be that event. Raises LabFailedError, in which it is `who`."""
    try:
        said = child.next_event(timeout_s)
    except ChildEndedError as error:
        raise LabFailedError(f"{who} {error}") from None
    if said is None:
        raise LabFailedError(f"{who} said nothing for {timeout_s:g} s (waited for: {event})")
    if said["event"] != event:
        raise LabFailedError(f"{who} said {said}, and not {event}")
    return said
