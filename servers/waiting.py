"""What is to happen later in a process, whichever thread it concerns: one thread that sleeps until the next is due."""

import heapq
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count


class Alarms:
    """Callbacks at times of time.monotonic, in the order of those. The thread is made with the first of them; callbacks
    run on it, so they are short and do not block."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def at(self, due_s: float, callback: Callable[[], None]) -> None:
        """Call back then. Called from any thread."""
        with self._changed:
            heapq.heappush(self._heap, (due_s, next(self._numbers), callback))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is callback:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                _, _, callback = heapq.heappop(self._heap)
            try:
                callback()
            except Exception:  # noqa: BLE001  one that fails must not keep the others from being called
                traceback.print_exc()
