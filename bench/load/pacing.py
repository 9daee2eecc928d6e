"""Waking an event loop at given nanoseconds: a timerfd where there is one, and a short spin up to the time itself.

Timers of asyncio (and of libuv) have a grain of a millisecond; a timerfd has the kernel's high-resolution one
(timerfd_create(2)).
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_TFD_FLAGS = 0o4000 | 0o2000000  # TFD_NONBLOCK | TFD_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class TimerFd:
    """An absolute one-shot timer on CLOCK_MONOTONIC that calls back on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _Itimerspec()
        self._value = self._spec.value
        self._address = ctypes.addressof(self._spec)
        self._loop = loop
        loop.add_reader(self._fd, callback)

    def arm(self, due_ns: int) -> None:
        """Call back at `due_ns`. Setting a timer also clears its expiry, so the descriptor is never read."""
        self._value[0], self._value[1] = divmod(max(due_ns, 1), 1_000_000_000)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, self._address, None)

    def close(self) -> None:
        """Stop, for good."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class LoopTimer:
    """The same from the loop's own timers, where the system has no timerfd: a grain of a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, due_ns: int) -> None:
        """Call back at `due_ns` or up to a millisecond later."""
        self.close()
        self._handle = self._loop.call_later(max(0.0, (due_ns - time.monotonic_ns()) / 1e9), self._callback)

    def close(self) -> None:
        """Stop."""
        if self._handle is not None:
            self._handle.cancel()


def make_timer(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> TimerFd | LoopTimer:
    """The finest timer that the system has."""
    return TimerFd(loop, callback) if sys.platform == "linux" else LoopTimer(loop, callback)
