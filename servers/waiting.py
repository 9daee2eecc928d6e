"""What is to happen later in a process, whichever thread it concerns: one thread that sleeps until the next is due."""

import heapq
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count


class Alarm:
    """One callback that is due."""

    __slots__ = ("_alarms", "callback", "due_s", "number")

    def __init__(self, alarms: "Alarms", due_s: float, number: int, callback: Callable[[], None]) -> None:
        self._alarms = alarms
        self.due_s = due_s
        self.number = number
        self.callback: Callable[[], None] | None = callback
        """None if it is not wanted any more, or called."""

    def __lt__(self, other: "Alarm") -> bool:
        return (self.due_s, self.number) < (other.due_s, other.number)

    def cancel(self) -> None:
        """Let it not be called, if it has not been. Called from any thread."""
        self._alarms.forget(self)


class Alarms:
    """Callbacks at times of time.monotonic, in the order of those. The thread is made with the first of them; callbacks
    run on it, so they are short and do not block."""

    def __init__(self) -> None:
        self._heap: list[Alarm] = []
        self._forgotten = 0
        """Of those in the heap."""
        self._changed = threading.Condition()
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._hurries = False

    def __len__(self) -> int:
        """How many are due yet."""
        return len(self._heap) - self._forgotten

    def at(self, due_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back then. Called from any thread."""
        with self._changed:
            alarm = Alarm(self, due_s, next(self._numbers), callback)
            if not self._hurries:
                heapq.heappush(self._heap, alarm)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                    self._thread.start()
                elif self._heap[0] is alarm:
                    self._changed.notify()
                return alarm
            alarm.callback = None
        callback()
        return alarm

    def forget(self, alarm: Alarm) -> None:
        """Do not call back. What is in the way in the heap goes once it is half of it."""
        with self._changed:
            if alarm.callback is not None:
                alarm.callback = None
                self._forgotten += 1
                if self._forgotten > len(self._heap) // 2:
                    self._heap = [other for other in self._heap if other.callback is not None]
                    heapq.heapify(self._heap)
                    self._forgotten = 0

    def hasten(self) -> None:
        """Call back now, and from now on at once."""
        with self._changed:
            self._hurries = True
            callbacks = [callback for alarm in sorted(self._heap) if (callback := self._take(alarm))]
            self._heap = []
        for callback in callbacks:
            callback()

    def _take(self, alarm: Alarm) -> Callable[[], None] | None:
        """The callback of one that leaves the heap, if it is wanted. Called with the lock."""
        callback, alarm.callback = alarm.callback, None
        self._forgotten -= callback is None
        return callback

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0].due_s > time.monotonic():
                    self._changed.wait(self._heap[0].due_s - time.monotonic() if self._heap else None)
                callback = self._take(heapq.heappop(self._heap))
            if callback is None:
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
