"""Silent connections, found by one timer for all of them."""

import asyncio
from typing import Protocol

_LOOKS = 8
"""Looks in the time that a connection may be silent: it is found late by at most that part of the time."""


class Watched(Protocol):
    """What is watched. Whoever has something of it sets `quiet` to 0."""

    quiet: int
    """Looks since something came."""

    def looked_at(self, looks: int) -> None:
        """Called at each look; `quiet` has been raised, and `looks` is what the time allowed amounts to."""


class Watch:
    """Looks at its members now and then. They are added and removed by themselves."""

    def __init__(self, timeout_s: float) -> None:
        self.members: set[Watched] = set()
        self._period_s = timeout_s / _LOOKS
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        for member in list(self.members):
            member.quiet += 1
            member.looked_at(_LOOKS)
        self.start()
