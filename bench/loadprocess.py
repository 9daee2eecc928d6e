"""The load processes of a trial: started together, released at one instant, and merged into one result.

The other end of the line is `bench.load.__main__`, which documents what goes over it.
"""

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Self

from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import LoadFailedError, TargetError
from bench.load.histogram import add, decode, new_hdr
from bench.load.spec import LoadSpec

_CONNECT_TIMEOUT_S = 60.0
_LEAVING_TIMEOUT_S = 1.0
_RELEASE_NS = 30_000_000
"""From when the processes are told the start to the start itself."""
_MARGIN_S = 10.0


@dataclass(frozen=True)
class Window:
    """When a run sends and what it measures, in nanoseconds of CLOCK_MONOTONIC."""

    start_ns: int
    measure_ns: int
    end_ns: int


@dataclass(frozen=True)
class Progress:
    """What one or more load processes did in a period. `hdr` is an HdrHistogram of latencies in nanoseconds."""

    period_s: float
    completed: int
    errors: int
    hdr: Any

    def plus(self, later: Self) -> Self:
        """Both periods as one. The histogram of this one takes up the other's."""
        add(self.hdr, later.hdr)
        period_s, completed = self.period_s + later.period_s, self.completed + later.completed
        return replace(self, period_s=period_s, completed=completed, errors=self.errors + later.errors)


def start_load(within: Sequence[str] = ()) -> ChildProcess:
    """A load process (see `bench.load.__main__`). `within` as for `ChildProcess`."""
    # As numpy is imported its OpenBLAS starts a thread for each CPU: it takes longer than the rest, and is for nothing
    # that a load does.
    return ChildProcess("bench.load", within, environment={"OPENBLAS_NUM_THREADS": "1"})


class LoadProcesses:
    """Load that runs while the context lasts. Entering starts the processes and waits for nothing, so they can come up
    beside the server that they will be pointed at."""

    def __init__(self, count: int, on_progress: Callable[[Progress], None], within: Sequence[str] = ()) -> None:
        """`within` as for `ChildProcess`."""
        self._count = count
        self._on_progress = on_progress
        self._within = within
        self._specs: Sequence[LoadSpec] = ()
        self._children: list[ChildProcess] = []
        self._running: list[ChildProcess] = []
        self._results: list[dict[str, Any]] = []
        self._reports: dict[ChildProcess, deque[dict[str, Any]]] = {}
        """What each process has reported of periods that another has not reported yet."""

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._children.append(start_load(self._within))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._running = self._children[:]
        self._reports = {child: deque() for child in self._children}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()

    def leave(self) -> None:
        """Have the processes close the connections that a load has left open, and end. A UDP server would not hear
        of it otherwise, and wait for them."""
        for child in self._children:
            child.release()
        for child in self._children:
            child.wait(_LEAVING_TIMEOUT_S)

    def pids(self) -> list[int]:
        """The processes."""
        return [child.pid for child in self._children]

    def connect(self, specs: Sequence[LoadSpec]) -> None:
        """Tell each process its part, and wait until every connection stands and a first answer was right.

        Raises TargetError, LoadFailedError.
        """
        self._specs = specs
        for child, spec in zip(self._children, specs, strict=True):
            child.send(asdict(spec))
        for child in self._children:
            self._await(child, "connected", _CONNECT_TIMEOUT_S)

    def release(self) -> Window:
        """Let all processes start at one instant, a moment from now."""
        spec = self._specs[0]
        start_ns = time.monotonic_ns() + _RELEASE_NS
        for child in self._children:
            child.send({"start_ns": start_ns})
        measure_ns = start_ns + spec.warmup_ns
        return Window(start_ns, measure_ns, measure_ns + spec.duration_ns)

    def stop(self) -> None:
        """Have all processes end now, with what they have measured."""
        for child in self._children:
            child.send({"ask": "stop"})

    def watch(self, until_ns: int) -> None:
        """Wait until then, and pass on what the processes report meanwhile."""
        while (left_ns := until_ns - time.monotonic_ns()) > 0:
            self._listen(left_ns / 1e9)

    def results(self) -> list[dict[str, Any]]:
        """Wait for the results of all processes. Raises LoadFailedError."""
        spec = self._specs[0]
        give_up = time.monotonic() + spec.timeout_ns / 1e9 + _MARGIN_S
        while self._running:
            if time.monotonic() > give_up:
                raise LoadFailedError(f"the load did not end in time ({spec.protocol}, {spec.load})")
            self._listen(1.0)
        return self._results

    def _listen(self, timeout_s: float) -> None:
        for child in select.select(self._running, [], [], timeout_s)[0]:
            while (event := self._next(child, 0)) is not None:
                if event["event"] == "result":
                    self._results.append(event)
                    self._running.remove(child)
                    break
                self._reports[child].append(event)
        while self._children and all(self._reports.values()):
            reports = [waiting.popleft() for waiting in self._reports.values()]
            latency = decode(reports[0]["hdr"])
            for report in reports[1:]:
                add(latency, decode(report["hdr"]))
            completed, errors = (sum(report[key] for report in reports) for key in ("completed", "errors"))
            period_s = max(report["period_ns"] for report in reports) / 1e9
            self._on_progress(Progress(period_s, completed, errors, latency))

    def _await(self, child: ChildProcess, name: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while (event := self._next(child, until - time.monotonic())) is not None:
            if event["event"] == name:
                return
        raise LoadFailedError(f"a load process gave no answer for {timeout_s:g} s (waited for: {name})")

    def _next(self, child: ChildProcess, timeout_s: float) -> dict[str, Any] | None:
        try:
            event = child.next_event(timeout_s)
        except ChildEndedError as error:
            raise LoadFailedError(f"a load process {error}") from None
        if event is not None and event["event"] == "error":
            raise TargetError(event["message"])
        return event


def merge(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result from those of all processes. Histograms are added, which loses nothing; `latency`, `service`,
    `lateness` and the intervals' `hdr` become HdrHistograms (lateness None for a closed load)."""
    errors: Counter[str] = Counter()
    for result in results:
        errors.update(result["errors"])
    intervals = [
        {
            "completed": sum(part["completed"] for part in parts),
            "errors": sum(part["errors"] for part in parts),
            "hdr": _add(part["hdr"] for part in parts),
        }
        for parts in zip(*(result["intervals"] for result in results), strict=True)
    ]
    totals = ("completed", "done_in_window", "dropped", "cpu_user_s", "cpu_system_s")
    switches = ("context_switches_voluntary", "context_switches_involuntary")
    return {
        **{key: sum(result[key] for result in results) for key in totals + switches},
        "measured_ns": max(result["measured_ns"] for result in results),
        "cpu_s": [result["cpu_user_s"] + result["cpu_system_s"] for result in results],
        "errors": dict(errors),
        "latency": _add(result["latency"] for result in results),
        "service": _add(result["service"] for result in results),
        "lateness": None if results[0]["lateness"] is None else _add(result["lateness"] for result in results),
        "intervals": intervals,
        "tally": dict(sum((Counter(result["tally"]) for result in results), Counter())),
        "delivery": _merge_delivery([result["delivery"] for result in results]),
        "requests": _merge_requests([result["requests"] for result in results if "requests" in result]),
    }


def _merge_requests(parts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What the pattern mix records by the name of the request; None for other patterns."""
    if not parts:
        return None
    merged = {}
    for name in parts[0]:
        of_name = [part[name] for part in parts]
        merged[name] = {
            "completed": sum(part["completed"] for part in of_name),
            "errors": dict(sum((Counter(part["errors"]) for part in of_name), Counter())),
            "complaint": next((part["complaint"] for part in of_name if part["complaint"] is not None), None),
            "latency": _add(part["latency"] for part in of_name),
        }
    return merged


def _merge_delivery(parts: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """What the pattern push counts, of all processes; None for other patterns."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return {
        "subscribers": sum(part["subscribers"] for part in found),
        "published": sum(part["published"] or 0 for part in found),
        "duplicates": sum(part["duplicates"] for part in found),
        "confirm": _add(blobs) if (blobs := [part["confirm"] for part in found if "confirm" in part]) else None,
    }


def _add(blobs: Iterable[str]) -> Any:
    hdr = new_hdr()
    for blob in blobs:
        add(hdr, decode(blob))
    return hdr
