"""Deadlines of many requests, most of which are over in time, behind one timer."""

import heapq
import time
from collections.abc import Callable

_NEVER_NS = 1 << 63
_ROOM = 512
"""How many deadlines are kept before those of requests that are over are looked for."""


class Deadlines:
    """When requests are to be over at the latest. `later` is the worker's; `waits` tells whether a request, by its id,
    is still to be cared for, and `late` is called with each that is when its time is over."""

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        waits: Callable[[int], bool],
        late: Callable[[int], None],
    ) -> None:
        self._later = later
        self._waits = waits
        self._late = late
        self._heap: list[tuple[int, int]] = []
        self._room = _ROOM
        self._alarm_ns = _NEVER_NS

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request_id: int, due_ns: int) -> None:
        """A request is to be over at `due_ns`, of time.monotonic_ns."""
        heap = self._heap
        if len(heap) >= self._room:
            heap[:] = [deadline for deadline in heap if self._waits(deadline[1])]
            heapq.heapify(heap)
            self._room = max(_ROOM, 2 * len(heap))
        heapq.heappush(heap, (due_ns, request_id))
        self._set_alarm(due_ns)

    def _set_alarm(self, due_ns: int) -> None:
        if due_ns < self._alarm_ns:
            self._alarm_ns = due_ns
            self._later(max(0, due_ns - time.monotonic_ns()) / 1e9, self._on_alarm)

    def _on_alarm(self) -> None:
        now_ns, heap = time.monotonic_ns(), self._heap
        self._alarm_ns = _NEVER_NS
        while heap:
            due_ns, request_id = heap[0]
            waits = self._waits(request_id)
            if waits and due_ns > now_ns:
                self._set_alarm(due_ns)
                return
            heapq.heappop(heap)
            if waits:
                self._late(request_id)
