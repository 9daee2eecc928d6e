"""What wirebench claims of loads from several workers: what their coordination through Locust costs.

Four workers of one master are put beside the same four load processes without them. All that is not the server shares
one core, so what coordination uses the engines do not have: that is its price in requests. Its share of that core is
measured by itself too, under an open load that leaves room: it does not hang on what else the machine does.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from bench.contract import Opcode
from bench.distributed.crew import Crew
from bench.distributed.run import run_distributed
from bench.errors import WirebenchError
from bench.loadprocess import Progress
from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.own import lean_server
from bench.peers.process import PeerProcess, VoidError, free_port, pinned
from bench.peers.programs import LOCUST
from bench.placement import Placement
from bench.run import Silent, Watcher
from bench.scenario import Scenario
from bench.target import Target, Wanted, parse_target, run_load, target_scenario

_WORKERS = 4
_CLOSED = "closed:64"
_OPEN = "open:2000/s"
_LEAST_S = 10
"""Workers report every three seconds; less than a few reports say nothing of what they cost."""
_AT_ONCE_S = 0.5
"""Seconds that are shown closer to each other than this came with one report."""
_UNPLACED = Placement((), ())

Drive = Callable[[Target, Scenario, Watcher], dict[str, Any]]


def coordination_questions() -> list[Question]:
    """The questions, in the order of the table."""
    return [
        Question(
            "distributed-rate",
            f"{_WORKERS} engines on one core, {_CLOSED}, lean http1: under Locust's master against without",
            ("distributed", "load processes"),
            "requests/s",
            "higher",
            0.98,
            (LOCUST,),
            _open_rates,
        ),
        Question(
            "distributed-cpu",
            f"master and {_WORKERS} workers, {_OPEN}, lean http1: how much of a core they take from engines",
            ("distributed",),
            "%",
            "lower",
            2.0,
            (LOCUST,),
            _open_cpu,
        ),
    ]


@contextmanager
def _open_rates(setting: Setting) -> Iterator[Sequence[Measure]]:
    with lean_server("http1", Opcode.HEALTH, 0, setting.placement.server) as target:
        url = f"http://{target.host}:{target.port}/"

        def rate(drive: Drive) -> Sample:
            trial = _trial(drive, url, _CLOSED, setting, Silent())
            return Sample(trial["throughput_per_s"])

        yield lambda: rate(_distributed), lambda: rate(_together)


@contextmanager
def _open_cpu(setting: Setting) -> Iterator[Sequence[Measure]]:
    with lean_server("http1", Opcode.HEALTH, 0, setting.placement.server) as target:
        url = f"http://{target.host}:{target.port}/"

        def share() -> Sample:
            meter = _Meter()
            _trial(_distributed, url, _OPEN, setting, meter)
            return Sample(100 * meter.share())

        yield (share,)


def _trial(drive: Drive, url: str, load: str, setting: Setting, watcher: Watcher) -> dict[str, Any]:
    """One trial on the load's core. Raises VoidError."""
    target = parse_target(url, Wanted(operation="health"), insecure=False, cacert=None, tls=None)
    scenario = target_scenario(target, {"load": load, "duration": f"{max(setting.duration_s, _LEAST_S)}s"})
    try:
        with pinned(setting.placement.load):
            trial = drive(target, scenario, watcher)
    except WirebenchError as error:
        raise VoidError(str(error)) from None
    if trial["error"] or trial["counts"]["errors"] or trial["counts"]["dropped"]:
        raise VoidError(f"{load}: {trial['error'] or trial['counts']}")
    return trial


def _together(target: Target, scenario: Scenario, watcher: Watcher) -> dict[str, Any]:
    """From load processes alone."""
    return run_load(target, scenario, 0, _WORKERS, _UNPLACED, watcher)


def _distributed(target: Target, scenario: Scenario, watcher: Watcher) -> dict[str, Any]:
    """From workers, which are started for it."""
    port = free_port("127.0.0.1")
    crew = Crew(_WORKERS, "stop", 60.0, ("127.0.0.1", port), ("127.0.0.1", 0))
    command = [sys.executable, "-P", "-m", "bench", "worker", "--master", f"127.0.0.1:{port}"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wirebench-")))
        for _ in range(_WORKERS):
            stack.enter_context(PeerProcess("wirebench worker", command, (), folder))
        trial = run_distributed(target, scenario, 0, crew, watcher, lambda _line: None)
    if trial["error"] is None and trial.get("stopped"):
        raise VoidError(f"the run stopped: {trial['stopped']}")
    return trial


class _Meter(Silent):
    """What master and workers use while seconds of the load are reported: this process, `wirebench worker` and Locust,
    which are its descendants, but no engine and no server. What it uses to look does not count."""

    def __init__(self) -> None:
        self._others: list[psutil.Process] = []
        self._looks: list[tuple[float, float]] = []
        self._looking_s = 0.0

    def progress(self, _progress: Progress) -> None:
        began_s = time.process_time()
        if not self._others:
            said = {child: child.cmdline() for child in psutil.Process().children(recursive=True)}
            self._others = [child for child, line in said.items() if "bench.distributed" in line or "worker" in line]
        # Not with their ended children, as probes.usage() has it: those are the engines.
        times = [other.cpu_times() for other in self._others]
        spent = began_s - self._looking_s + sum(of.user + of.system for of in times)
        self._looks.append((time.monotonic(), spent))
        self._looking_s += time.process_time() - began_s

    def share(self) -> float:
        """Seconds of CPU in a second, over whole times between reports, while engines run. Seconds come as workers
        report them, several at once; the last come with their results, when no engine runs any more."""
        reports = [look for earlier, look in pairwise([(0.0, 0.0), *self._looks]) if look[0] - earlier[0] > _AT_ONCE_S]
        (began, before), (ended, after) = reports[0], reports[-2]
        return (after - before) / (ended - began)
