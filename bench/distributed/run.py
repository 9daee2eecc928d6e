"""A load that several workers offer together, seen from the master: gather them, give each its part, start all at one
instant, follow them, and put together what they give.

A worker can be lost at any time: it is no longer heard of, leaves, fails, or falls behind. What it has reported until
then counts; what its part was asks the policy: the others take it up among them, or the run stops.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from bench.childprocess import ChildEndedError, ChildProcess
from bench.distributed.clocks import Clock, drifted, read_clock
from bench.distributed.crew import Crew, check_crew
from bench.distributed.seconds import Reported, Together, times_ms
from bench.distributed.worker import hello
from bench.doubts import Host
from bench.errors import LoadFailedError, TargetError, TrialInterruptedError
from bench.lab import probes
from bench.load.histogram import new_hdr, summarise
from bench.load.spec import LoadSpec
from bench.loadprocess import Progress
from bench.patterns import pattern_of
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.run import Watcher
from bench.scenario import Scenario
from bench.schedule import Closed, due_times, parse_concurrency, parse_load
from bench.target import Target, no_figures, resolve, target_specs
from bench.trial import conclude, host_between

_STARTUP_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 60.0
_LEAVING_TIMEOUT_S = 5.0
_STOPPING_TIMEOUT_S = 3.0
_CLOCK_TIMEOUT_S = 2.0
_RESULT_MARGIN_NS = 10_000_000_000
_LEAD_NS = 500_000_000
"""From when the workers are told the start to the start itself."""
_TAKEOVER_NS = 1_000_000_000
"""From when a worker is lost to when others have taken up its part: they have to connect first."""
_BEHIND_S = 10.0
"""A worker that has reported nothing for so much longer than the load lasts is lost. Reports come every 3 s."""


@dataclass
class _Member:
    """A worker that takes part."""

    name: str
    """As Locust knows it."""
    host: str
    label: str
    """As people are told of it."""
    clock: Clock | None = None
    state: Literal["joined", "running", "finished", "lost"] = "joined"
    why: str = ""
    """Why it is lost."""
    parts: list[LoadSpec] = field(default_factory=list)
    ready: int = 0
    """How many parts have their connections."""
    results: list[dict[str, Any]] = field(default_factory=list)
    reported: Reported = field(default_factory=Reported)
    memory: list[probes.Memory] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    margin_ns: int | None = None
    reports: int = 0
    report_bytes: int = 0
    dropped: int = 0
    """Of a lost one: what was due of its part, and nobody is known to have sent."""
    stopped: bool = False


class _StopError(Exception):
    """The run ends before its time. The message says why."""


def run_distributed(
    target: Target, scenario: Scenario, seed: int, crew: Crew, watcher: Watcher, say: Callable[[str], None]
) -> dict[str, Any]:
    """One trial against a server that runs already, from several workers, as result files hold it. `say` takes lines
    for people.

    Raises TargetError if the server cannot be reached from a worker, or does not give a right answer,
    TrialInterruptedError for an interrupt.
    """
    check_crew(crew, scenario)
    hello()  # which sees whether Locust is there
    trial = no_figures(target, scenario, seed)
    host = resolve(target)
    interrupted = False
    with _LocustMaster(crew, target.address.url) as master:
        say(f"workers join with: wirebench worker --master HOST:{master.port}   web UI: {master.web_url}")
        run = _Run(master, scenario, crew, watcher.progress, say, target)
        try:
            run.gather()
            watcher.trial_begins(PlannedTrial(scenario, 0, seed))
            run.prepare(target_specs(target, scenario, host, seed, len(run.members), Placement((), ())))
            run.load()
            trial = run.conclude(trial)
        except _StopError as error:
            trial = run.stop(trial, str(error))
        except KeyboardInterrupt:
            interrupted = True
            trial = run.stop(trial, "it was interrupted")
        except LoadFailedError as error:
            trial = run.stop(trial, str(error)) if run.has_begun else {**trial, "error": str(error)}
        finally:
            run.dismiss()
    watcher.trial_ended(trial)
    if interrupted:
        raise TrialInterruptedError(trial)
    return trial


class _LocustMaster:
    """Locust's master, in a process of its own while the context lasts."""

    def __init__(self, crew: Crew, url: str) -> None:
        self._crew = crew
        self._url = url
        self._early: deque[dict[str, Any]] = deque()
        self.port = 0
        self.web_url = ""

    def __enter__(self) -> Self:
        (host, port), (web_host, web_port) = self._crew.bind, self._crew.web
        self._process = ChildProcess("bench.distributed")
        try:
            arguments = [
                *("--master", "--master-bind-host", host, "--master-bind-port", str(port)),
                *("--web-host", web_host, "--web-port", str(web_port)),
                *("--host", self._url, "--loglevel", "WARNING"),
            ]
            self._process.send({"locustfile": "master_locustfile", "arguments": arguments})
            deadline = time.monotonic() + _STARTUP_TIMEOUT_S
            while (event := self._hear(deadline - time.monotonic())) is not None and event["event"] != "listening":
                self._early.append(event)  # workers may be quicker than the web UI
            if event is None:
                raise LoadFailedError("Locust's master did not start in time")
        except BaseException:
            self._process.kill()
            raise
        self.port = event["port"]
        self.web_url = f"http://{web_host}:{event['web_port']}/"
        return self

    def __exit__(self, *_: object) -> None:
        if not self._process.closed:
            self._process.release()
            self._process.wait(_LEAVING_TIMEOUT_S)
        self._process.kill()

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """What it says next, or None if nothing in that time. Raises LoadFailedError."""
        return self._early.popleft() if self._early else self._hear(timeout_s)

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            return self._process.next_event(max(0.0, timeout_s))
        except ChildEndedError as error:
            raise LoadFailedError(f"Locust's master {error}") from None

    @property
    def has_ended(self) -> bool:
        """Whether the process is no more; nobody hears then what it is told."""
        return self._process.closed

    def send(self, worker: str, say: str, **fields: Any) -> None:
        """A message to a worker."""
        self.tell(to=worker, send={"say": say, **fields})

    def tell(self, **told: Any) -> None:
        """Something that the process itself is to do."""
        if not self.has_ended:
            self._process.send(told)


class _Run:
    """One run, from the first worker's arrival to what all of them gave."""

    def __init__(
        self,
        master: _LocustMaster,
        scenario: Scenario,
        crew: Crew,
        on_progress: Callable[[Progress], None],
        say: Callable[[str], None],
        target: Target,
    ) -> None:
        self._master = master
        self._scenario = scenario
        self._crew = crew
        self._on_progress = on_progress
        self._say = say
        self._shown = {"method": target.protocol, "name": target.operation, "error": "see the result for its kind"}
        self.members: dict[str, _Member] = {}
        self._strangers: set[str] = set()
        self._welcomed = 0
        self._together = Together()
        self._start_ns = 0  # 0 until it is known
        self._began_s = 0.0
        self._stopping = False

    @property
    def has_begun(self) -> bool:
        """Whether the start is known, to the workers too."""
        return self._start_ns > 0

    @property
    def _measure_ns(self) -> int:
        return self._start_ns + self._scenario.warmup_ns

    @property
    def _end_ns(self) -> int:
        return self._measure_ns + self._scenario.duration_ns

    def _those(self, *states: str) -> list[_Member]:
        return [member for member in self.members.values() if member.state in states]

    # The run, step by step

    def gather(self) -> None:
        """Wait for the workers. With too few in time, begin with those if the policy is to share."""
        wanted = self._crew.workers
        self._until(lambda: len(self._here()) >= wanted, time.monotonic() + self._crew.wait_s)
        here = self._here()
        if len(here) < wanted:
            missing = f"{len(here)} of {wanted} workers came within {self._crew.wait_s:g} s"
            if self._strangers:
                missing += f" (and {len(self._strangers)} of Locust that wirebench worker did not start)"
            if not here or self._crew.lost == "stop":
                raise LoadFailedError(missing)
            self._say(f"{missing}; it begins without the others")
        self.members = {member.name: member for member in here}

    def prepare(self, specs: Sequence[LoadSpec]) -> None:
        """Have each worker open the connections of its part. Raises TargetError."""
        for member, spec in zip(self.members.values(), specs, strict=True):
            self._give(member, spec, None)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        self._until(lambda: all(member.ready for member in self._those("joined")), deadline)
        for member in self._those("joined"):
            if not member.ready:
                self._lose(member, f"was not ready within {_READY_TIMEOUT_S:g} s")
        if not self._those("joined"):
            raise LoadFailedError("every worker was lost before the start")

    def load(self) -> None:
        """Let all begin at one instant, and follow them to their results."""
        furthest = max(member.clock.error_ns for member in self._those("joined") if member.clock)
        now_ns = time.monotonic_ns()
        self._start_ns = now_ns + _LEAD_NS + 4 * furthest
        self._began_s = time.time() + (self._measure_ns - now_ns) / 1e9
        for member in self._those("joined"):
            member.state = "running"
            self._master.send(member.name, "start", start_ns=self._start_by(member))
        for member in self._those("lost"):
            self._share(member)
        self._master.tell(begin=len(self._those("running")))
        give_up_s = (self._end_ns + self._scenario.timeout_ns + _RESULT_MARGIN_NS) / 1e9
        self._until(lambda: not self._those("running"), give_up_s)
        for member in self._those("running"):
            self._lose(member, "gave no result")
        self._show_seconds(all_of_them=True)
        self._read_clocks_again()

    def stop(self, trial: dict[str, Any], why: str) -> dict[str, Any]:
        """End the run now. Gives the trial with what there is of it."""
        self._say(f"the run stops: {why}")
        self._stopping = True
        now_ns = time.monotonic_ns()
        for member in self._those("running"):
            self._master.send(member.name, "stop")
        with contextlib.suppress(LoadFailedError, KeyboardInterrupt):
            waited_for = [] if self._master.has_ended else self._those("running")
            self._until(lambda: all(m.stopped for m in waited_for), time.monotonic() + _STOPPING_TIMEOUT_S)
        self._show_seconds(all_of_them=True)
        measured_ns = min(now_ns, self._end_ns) - self._measure_ns if self.has_begun else 0
        if measured_ns <= 0:
            return {**trial, "error": f"the run was stopped before measuring began: {why}"}
        scenario = replace(self._scenario, duration_ns=measured_ns)
        trial["scenario"]["duration_ns"] = measured_ns
        return self.conclude({**trial, "stopped": why}, scenario)

    def dismiss(self) -> None:
        """The run is over for the workers too."""
        for member in self.members.values():
            self._master.send(member.name, "done")

    def conclude(self, trial: dict[str, Any], scenario: Scenario | None = None) -> dict[str, Any]:
        """The trial with the figures of all workers."""
        scenario = scenario or self._scenario
        members = list(self.members.values())
        results = [result for member in members for result in self._results(member)]
        memory = [memory for member in members for memory in member.memory]
        pss = [each.pss_bytes for each in memory]
        together = probes.Memory(sum(m.rss_bytes for m in memory), None if None in pss else sum(p or 0 for p in pss))
        hosts = [host for member in members for host in member.hosts] or [Host(0.0, None)]
        busiest = Host(max(h.steal_share for h in hosts), max((h.runnable_per_cpu or 0.0) for h in hosts))
        trial["workers"] = {
            "expected": self._crew.workers,
            "each": [self._record(member, scenario) for member in members],
        }
        trial = conclude(trial, scenario, results, together, busiest)
        return trial if memory else {**trial, "client": None}  # what was stopped has not told

    # What happens meanwhile

    def _here(self) -> list[_Member]:
        return [member for member in self._those("joined") if member.clock is not None]

    def _until(self, done: Callable[[], bool], deadline_s: float) -> None:
        """Take what comes until it is done, or until the deadline on time.monotonic()."""
        while not done() and (left_s := deadline_s - time.monotonic()) > 0:
            event = self._master.next_event(min(left_s, 1.0))
            if event is not None:
                self._take(event)
            self._look_for_those_behind()

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "stop":
            if not self._stopping and self.has_begun:
                raise _StopError("somebody stopped it in the web UI")
            return
        name = event["worker"]
        if event["event"] == "connected":
            if name not in self.members:
                self._strangers.add(name)
            return
        member = self.members.get(name)
        if member is None:
            if event["event"] == "message" and event["data"]["say"] == "hello":
                self._welcome(name, event["data"])
            elif event["event"] == "gone":
                self._strangers.discard(name)
            return
        match event["event"]:
            case "message":
                self._hear(member, event["data"])
            case "report":
                member.reports += 1
                member.report_bytes += event["report_bytes"]
                self._add(member, event["seconds"])
            case "clock":
                clock = read_clock(event["samples"])
                if member.clock is None:
                    self._say(f"worker {member.label} is here ({len(self._here()) + 1} of {self._crew.workers})")
                    member.clock = clock
                else:
                    member.clock = drifted(member.clock, clock)
                    member.stopped = True
            case "gone":
                self._lose(member, event["why"])

    def _welcome(self, name: str, said: dict[str, Any]) -> None:
        self._strangers.discard(name)
        ours = hello()
        for program in ("wirebench", "locust"):
            if said[program] != ours[program]:
                message = f"it is {program} {said[program]}, the master is {ours[program]}"
                self._say(f"a worker on {said['host']} was turned away: {message}")
                self._master.send(name, "refused", message=message)
                return
        if self.has_begun or len(self.members) >= self._crew.workers:
            self._say(f"a worker on {said['host']} was turned away: it came too late, or is one too many")
            self._master.send(name, "refused", message="it came too late, or is one too many")
            return
        self._welcomed += 1
        self.members[name] = _Member(name, said["host"], f"{self._welcomed} ({said['host']})")
        self._master.tell(ask_clock=name)

    def _hear(self, member: _Member, message: dict[str, Any]) -> None:
        self._add(member, message["seconds"])
        match message["say"]:
            case "ready":
                member.ready += 1
            case "result":
                member.results.append(message["result"])
                member.memory.append(probes.Memory(**message["memory"]))
                before, after = (probes.HostLoad(**look) for look in message["host_load"])
                member.hosts.append(host_between(before, after))
                margin_ns = message["margin_ns"]
                member.margin_ns = margin_ns if member.margin_ns is None else min(margin_ns, member.margin_ns)
                if member.state == "running" and len(member.results) == len(member.parts):
                    member.state = "finished"
            case "failed":
                if message["is_target"] and not self.has_begun:
                    raise TargetError(f"worker {member.label}: {message['message']}")
                self._lose(member, message["message"])
            case "stopped":
                member.stopped = True

    def _add(self, member: _Member, seconds: Sequence[dict[str, Any]]) -> None:
        if member.state == "lost":
            return  # what is due since then counts as dropped, or is another's
        for second in seconds:
            member.reported.add(second)
            self._together.add(second)
        self._show_seconds()

    def _show_seconds(self, all_of_them: bool = False) -> None:
        """Show the seconds that every worker has reported."""
        running = [member.reported.until for member in self._those("running")]
        # One less: a load process that took over a part may be a little later than the worker's first.
        before = 1 << 40 if all_of_them else min(running, default=0) - 1
        for second, progress in self._together.take(before):
            self._on_progress(progress)
            self._master.tell(
                show={
                    **self._shown,
                    "began_s": self._began_s,
                    "at_s": self._began_s + second,
                    "completed": progress.completed,
                    "errors": progress.errors,
                    "times_ms": times_ms(progress.hdr),
                }
            )

    # Workers that are lost

    def _look_for_those_behind(self) -> None:
        if not self.has_begun or self._stopping:
            return
        now_ns = time.monotonic_ns()
        if now_ns > self._end_ns:
            return
        for member in self._those("running"):
            since_ns = max((part.since_ns for part in member.parts), default=0)
            behind_s = (now_ns - max(self._measure_ns, self._start_ns + since_ns)) / 1e9 - member.reported.until
            if behind_s > _BEHIND_S:
                self._lose(member, f"has reported nothing for {behind_s:.0f} s")

    def _lose(self, member: _Member, why: str) -> None:
        if member.state in ("lost", "finished") or self._stopping:
            return
        if member.clock is None or not member.parts:  # it had no part yet
            del self.members[member.name]
            return
        member.state, member.why = "lost", why
        self._say(f"worker {member.label} is lost: it {why}")
        self._master.send(member.name, "stop")
        if self._crew.lost == "stop":
            raise _StopError(f"worker {member.label} is lost")
        if pattern_of(self._scenario.pattern).in_one_load or self._scenario.pattern.startswith("push"):
            raise _StopError(f"worker {member.label} is lost, and nobody can take up its subscribers")
        if self.has_begun:
            self._share(member)

    def _share(self, lost: _Member) -> None:
        """Have the others take up the parts of one that is lost, from a moment on: once they can have connected."""
        others = self._those("running")
        since_ns = max(0, time.monotonic_ns() + _TAKEOVER_NS - self._start_ns)
        late = self._start_ns + since_ns >= self._end_ns
        for part in lost.parts[len(lost.results) :]:
            until_ns = self._scenario.warmup_ns + self._scenario.duration_ns if late or not others else since_ns
            lost.dropped += self._due(part, lost.reported.until, until_ns)
            if late or not others:
                continue
            connections = parse_concurrency(part.connections, "").share(part.process, part.processes).connections
            for other, share in zip(others, part.parts(min(len(others), connections), since_ns), strict=False):
                self._give(other, share, self._start_by(other))
        if late:
            return
        if not others:
            raise _StopError("every worker is lost")
        self._say(f"the others take up its part from {since_ns / 1e9:.1f} s after the start on")

    def _due(self, part: LoadSpec, from_second: int, until_ns: int) -> int:
        """How many requests of a part are due in the measured phase from that second until then, after the start."""
        load = parse_load(part.load, "")
        if isinstance(load, Closed):
            return 0
        begin_ns = max(part.since_ns, part.warmup_ns + from_second * 1_000_000_000)
        times = due_times(load, part.warmup_ns, part.duration_ns, part.seed, (part.process, part.processes))
        return sum(int(((chunk >= begin_ns) & (chunk < until_ns)).sum()) for chunk in times)

    def _give(self, member: _Member, spec: LoadSpec, start_ns: int | None) -> None:
        assert member.clock is not None
        spec = replace(spec, clock_offset_ns=-member.clock.offset_ns)
        member.parts.append(spec)
        self._master.send(member.name, "part", spec=asdict(spec), start_ns=start_ns)

    def _start_by(self, member: _Member) -> int:
        """The start by a worker's own clock."""
        assert member.clock is not None
        return self._start_ns + member.clock.offset_ns

    def _read_clocks_again(self) -> None:
        """They drift, and what they drifted is a part of how well they are known."""
        finished = self._those("finished")
        for member in finished:
            self._master.tell(ask_clock=member.name)
        self._until(lambda: all(member.stopped for member in finished), time.monotonic() + _CLOCK_TIMEOUT_S)

    # What comes out

    def _results(self, member: _Member) -> list[dict[str, Any]]:
        """What the worker gave, and what it only reported where it gave nothing."""
        if member.results and len(member.results) == len(member.parts):
            return member.results
        is_open = not isinstance(self._scenario.load, Closed)
        part = member.parts[0] if member.parts else None
        partial = member.reported.partial_result(is_open, part.intervals if part else 1)
        return [{**partial, "dropped": member.dropped}]

    def _record(self, member: _Member, scenario: Scenario) -> dict[str, Any]:
        results = self._results(member)
        latency = new_hdr()
        for result in results:
            latency.decode_and_add(result["latency"])
        duration_s = scenario.duration_ns / 1e9
        assert member.clock is not None
        return {
            "name": member.name,
            "host": member.host,
            "state": "finished" if member.state == "finished" else "lost" if member.why else "stopped",
            "why": member.why or None,
            "parts": len(member.parts),
            "completed": sum(result["completed"] for result in results),
            "errors": sum(sum(result["errors"].values()) for result in results),
            "dropped": sum(result["dropped"] for result in results),
            "throughput_per_s": sum(result["done_in_window"] for result in results) / duration_s,
            "cpu_share": max(result["cpu_user_s"] + result["cpu_system_s"] for result in results) / duration_s
            if member.results
            else None,
            "latency_ns": summarise(latency),
            "clock_offset_ns": member.clock.offset_ns,
            "clock_error_ns": member.clock.error_ns,
            "margin_ns": member.margin_ns,
            "reports": member.reports,
            "report_bytes": member.report_bytes,
        }
