"""What is to happen later in a process, whichever thread it concerns: one thread that sleeps until the next is due."""

import heapq
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count

_FEW = 64
"""So many alarms that were cancelled are left where they are."""


class Alarm:
    """One callback that is to come; none, if it has come or is not to any more."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback


class Alarms:
    """Callbacks at times of time.monotonic, in the order of those. The thread is made with the first of them; callbacks
    run on it, so they are short and do not block."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._cancelled = 0
        """How many in the heap are."""
        self._changed = threading.Condition()
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._hurries = False

    def at(self, due_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back then. Called from any thread."""
        with self._changed:
            if not self._hurries:
                alarm = Alarm(callback)
                heapq.heappush(self._heap, (due_s, next(self._numbers), alarm))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                    self._thread.start()
                elif self._heap[0][2] is alarm:
                    self._changed.notify()
                return alarm
        callback()
        return Alarm(None)

    def cancel(self, alarm: Alarm) -> None:
        """Do not call back, if that has not begun. Called from any thread."""
        with self._changed:
            if alarm.callback is None:
                return
            alarm.callback = None
            self._cancelled += 1
            if self._cancelled > max(_FEW, len(self._heap) // 2):
                self._heap = [entry for entry in self._heap if entry[2].callback is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def hasten(self) -> None:
        """Call back now, and from now on at once."""
        with self._changed:
            self._hurries = True
            waiting = [alarm.callback for _, _, alarm in sorted(self._heap)]
            self._heap = []
        for callback in waiting:
            if callback is not None:
                callback()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                _, _, alarm = heapq.heappop(self._heap)
                callback, alarm.callback = alarm.callback, None
                if callback is None:
                    self._cancelled -= 1
                    continue
            try:
                callback()
            except Exception:  # noqa: BLE001  one that fails must not keep the others from being called
                traceback.print_exc()


def once(reply: Callable[[bytes], None]) -> Callable[[Callable[[], bytes]], bool]:
    """What answers a request that several may want to answer: the first of them does. It is given what makes the
    answer, and says whether it was the first."""
    taken = threading.Lock()

    def answer(make: Callable[[], bytes]) -> bool:
        if not taken.acquire(blocking=False):
            return False
        reply(make())
        return True

    return answer
