"""What the kernel lets a user do: timers, sockets, figures about processes."""

import ctypes
import os
import socket
import sys
from collections.abc import Iterator

from bench.doctor.check import Check
from bench.doctor.machine import read


def kernel() -> Iterator[Check]:
    """All of it."""
    yield _timerfd()
    yield _reuseport()
    yield _readable("schedstat", "/proc/self/schedstat", "time spent waiting for a CPU")
    yield _readable("smaps_rollup", "/proc/self/smaps_rollup", "memory with shared pages counted once (PSS)")


def _timerfd() -> Check:
    create = getattr(ctypes.CDLL(None, use_errno=True), "timerfd_create", None) if sys.platform == "linux" else None
    fd = create(1, 0) if create is not None else -1
    if fd < 0:
        found = "missing: the timers of open loads have a grain of a millisecond"
        return Check("kernel", "timerfd", "warn", found, "use Linux for open loads")
    os.close(fd)
    return Check("kernel", "timerfd", "ok", "high-resolution timers for open loads")


def _reuseport() -> Check:
    try:
        with socket.socket() as first, socket.socket() as second:
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            first.bind(("127.0.0.1", 0))
            second.bind(first.getsockname())
    except (AttributeError, OSError) as error:
        found = f"missing ({error}): no execution models reuseport and reuseport-threads"
        return Check("kernel", "SO_REUSEPORT", "warn", found, "use Linux 3.9 or newer")
    return Check("kernel", "SO_REUSEPORT", "ok", "several sockets may share a port")


def _readable(name: str, path: str, what: str) -> Check:
    if read(path) is None:
        return Check(
            "kernel", name, "warn", f"{path} cannot be read: {what} will be missing", "use Linux 4.14 or newer"
        )
    return Check("kernel", name, "ok", what)
