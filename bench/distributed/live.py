"""The load second by second while it goes on: for the display, and for Locust's web UI."""

from collections.abc import Callable
from typing import Any

from bench.distributed.master import LocustMaster
from bench.distributed.seconds import Together, times_ms
from bench.loadprocess import Progress
from bench.target import Target


class LiveFigures:
    """What all workers did together, shown once nothing more of a second is to come."""

    def __init__(self, master: LocustMaster, on_progress: Callable[[Progress], None], target: Target) -> None:
        self._master = master
        self._on_progress = on_progress
        self._shown = {"method": target.protocol, "name": target.operation, "error": "see the result for its kind"}
        self._together = Together()
        self.began_s = 0.0
        """When measuring began, as time.time() has it."""

    def add(self, second: dict[str, Any], latency: Any) -> None:
        """What one worker did in a second, as for `Together`."""
        self._together.add(second, latency)

    def show(self, before: int = 1 << 40) -> None:
        """Show the seconds before that one, or all."""
        for second, progress in self._together.take(before):
            self._on_progress(progress)
            self._master.tell(
                show={
                    **self._shown,
                    "began_s": self.began_s,
                    "at_s": self.began_s + second,
                    "completed": progress.completed,
                    "errors": progress.errors,
                    "times_ms": times_ms(progress.hdr),
                }
            )
