"""Loads whose exchanges are tasks: so many may be under way at once, and each takes a slot until it is over."""

import asyncio
import time
from abc import abstractmethod
from typing import Any

from bench.load.engine import ClosedEngine, Engine, OpenEngine

_clock = time.monotonic_ns


class SlotEngine(Engine):
    """What closed and open loads of such exchanges have in common."""

    makes_cycles = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._under_way: dict[asyncio.Task[None], int] = {}
        """Tasks, with when each of their exchanges was intended."""

    @abstractmethod
    async def _exchange(self, intended_ns: int, begun_ns: int) -> None:
        """One exchange, or its beginning: whoever ends it says `_slot_freed`."""

    @abstractmethod
    def _slot_freed(self, now_ns: int) -> None:
        """There is room for another exchange."""

    def _begin_exchange(self, intended_ns: int, now_ns: int) -> None:
        task = self._loop.create_task(self._exchange(intended_ns, now_ns))
        self._under_way[task] = intended_ns
        task.add_done_callback(self._under_way.pop)

    def _is_quiet(self) -> bool:
        return not self._under_way and super()._is_quiet()

    def _give_up(self) -> None:
        now = _clock()
        for task, intended_ns in self._under_way.items():
            task.cancel()
            self.recorder.error("timeout", intended_ns, now)


class ClosedSlots(SlotEngine, ClosedEngine):
    """Keeps every slot busy: the next exchange begins when one is over."""

    def _begin(self, start_ns: int, measure_ns: int) -> None:
        for _ in range(self._concurrency.connections):
            self._slot_freed(_clock())

    def _finish(self) -> None:
        self._give_up()

    def _slot_freed(self, now_ns: int) -> None:
        if now_ns < self.end_ns:
            self._begin_exchange(now_ns, now_ns)


class OpenSlots(SlotEngine, OpenEngine):
    """Begins exchanges when they are due; one that finds no slot waits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._slots = self._concurrency.connections

    def _begin(self, start_ns: int, measure_ns: int) -> None:
        self._start_ns, self._measure_ns = start_ns, measure_ns
        self._wake()

    def _finish(self) -> None:
        super()._finish()
        self._give_up()

    def _slot_freed(self, now_ns: int) -> None:
        if self._running and self._waiting:
            self._begin_exchange(self._waiting.popleft(), now_ns)
        else:
            self._slots += 1

    def _place(self, due: int, now: int) -> bool:
        if not self._slots:
            return False
        self._slots -= 1
        self._begin_exchange(due, now)
        return True
