"""Starts somebody else's service for the harness, and ends it with all it has started: `python -m bench.servicehost`.

It is told in a line of JSON what to start, says `started` with the pid or `error` with a message, and `ended` if the
service ends by itself. Told to stop, or when its starter has gone, it ends the service's process group in order
(SIGTERM, and SIGKILL after a while) and whatever the service left behind outside of that: on Linux orphans come to this
process (PR_SET_CHILD_SUBREAPER, prctl(2)). Then it says `stopped` with how many those were.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

_GRACE_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36


def _say(event: str, **fields: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": event, **fields}), flush=True)


def _start(spec: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Start the service. Raises OSError."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if spec["cpus"]:
        os.sched_setaffinity(0, spec["cpus"])
    with Path(spec["output"]).open("wb") as output:
        return subprocess.Popen(
            spec["command"],
            cwd=spec["cwd"],
            env=_environment(spec["python_path"]) | spec["env"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


def _environment(python_path: str | None) -> dict[str, str]:
    """Ours, with the user's own PYTHONPATH: this project's modules are none of the service's."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited if python_path is None else inherited | {"PYTHONPATH": python_path}


def _stop(service: "subprocess.Popen[bytes]") -> int:
    """End the service and whatever it started. Gives how many processes it left behind."""
    family = psutil.Process().children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(service.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        service.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(service.pid, signal.SIGKILL)
    service.wait()
    left = {*family, *psutil.Process().children(recursive=True)}
    _, alive = psutil.wait_procs(left, 0.5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, _GRACE_S)
    return len(alive)


def main() -> None:
    told = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # a buffer could hold back from select
    spec = json.loads(told.readline() or "null")
    if spec is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        service = _start(spec)
    except OSError as error:
        _say("error", message=error.strerror or str(error))
        return
    _say("started", pid=service.pid)
    death = os.pidfd_open(service.pid) if hasattr(os, "pidfd_open") else -1
    waited = [told.fileno()] if death < 0 else [told.fileno(), death]
    if told.fileno() not in select.select(waited, [], [])[0]:
        _say("ended", status=service.wait())
        select.select([told.fileno()], [], [])
    _say("stopped", left=_stop(service))


if __name__ == "__main__":
    main()
