"""A load that several workers offer together, seen from the master: gather them, give each its part, start all at one
instant, follow them, and put together what they give.

A worker can be lost at any time: it is no longer heard of, leaves, fails, or falls behind. What it has reported until
then counts; what its part was asks the policy: the others take it up among them, or the run stops.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from bench.distributed.clocks import drifted, read_clock
from bench.distributed.crew import Crew, check_crew
from bench.distributed.live import LiveFigures
from bench.distributed.master import LocustMaster
from bench.distributed.member import Member, conclude_all, due_between
from bench.distributed.worker import hello
from bench.errors import LoadFailedError, TargetError, TrialInterruptedError
from bench.load.histogram import decode
from bench.load.spec import LoadSpec
from bench.patterns import pattern_of
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.run import Watcher
from bench.scenario import Scenario
from bench.schedule import parse_concurrency
from bench.target import Target, no_figures, resolve, target_specs

_READY_TIMEOUT_S = 60.0
_STOPPING_TIMEOUT_S = 3.0
_CLOCK_TIMEOUT_S = 2.0
_RESULT_MARGIN_NS = 10_000_000_000
_LEAD_NS = 500_000_000
"""From when the workers are told the start to the start itself."""
_TAKEOVER_NS = 1_000_000_000
"""From when a worker is lost to when others have taken up its part: they have to connect first."""
_BEHIND_S = 10.0
"""A worker that has reported nothing for so much longer than the load lasts is lost. Reports come every 3 s."""


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
    with LocustMaster(crew, target.address.url) as master:
        say(f"workers join with: wirebench worker --master HOST:{master.port}   web UI: {master.web_url}")
        run = _Run(master, scenario, crew, LiveFigures(master, watcher.progress, target), say)
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


class _Run:
    """One run, from the first worker's arrival to what all of them gave."""

    def __init__(
        self, master: LocustMaster, scenario: Scenario, crew: Crew, live: LiveFigures, say: Callable[[str], None]
    ) -> None:
        self._master = master
        self._scenario = scenario
        self._crew = crew
        self._live = live
        self._say = say
        self.members: dict[str, Member] = {}
        self._strangers: set[str] = set()
        self._welcomed = 0
        self._start_ns = 0  # 0 until it is known
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

    def _those(self, *states: str) -> list[Member]:
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
        self._live.began_s = time.time() + (self._measure_ns - now_ns) / 1e9
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
        self._live.show()
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
        self._live.show()
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
        return conclude_all(trial, scenario or self._scenario, list(self.members.values()), self._crew.workers)

    # What happens meanwhile

    def _here(self) -> list[Member]:
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
        self.members[name] = Member(name, said["host"], f"{self._welcomed} ({said['host']})")
        self._master.tell(ask_clock=name)

    def _hear(self, member: Member, message: dict[str, Any]) -> None:
        self._add(member, message["seconds"])
        match message["say"]:
            case "ready":
                member.ready += 1
            case "result":
                member.finish_part(message)
            case "failed":
                if message["is_target"] and not self.has_begun:
                    raise TargetError(f"worker {member.label}: {message['message']}")
                self._lose(member, message["message"])
            case "stopped":
                member.stopped = True

    def _add(self, member: Member, seconds: Sequence[dict[str, Any]]) -> None:
        if member.state == "lost":
            return  # what is due since then counts as dropped, or is another's
        for second in seconds:
            latency = decode(second["hdr"])
            member.reported.add(second, latency)
            self._live.add(second, latency)
        self._show_seconds()

    def _show_seconds(self) -> None:
        """Show the seconds that every worker has reported."""
        running = [member.reported.until for member in self._those("running")]
        # One less: a load process that took over a part may be a little later than the worker's first.
        self._live.show(before=min(running, default=0) - 1)

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

    def _lose(self, member: Member, why: str) -> None:
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

    def _share(self, lost: Member) -> None:
        """Have the others take up the parts of one that is lost, from a moment on: once they can have connected."""
        others = self._those("running")
        since_ns = max(0, time.monotonic_ns() + _TAKEOVER_NS - self._start_ns)
        late = self._start_ns + since_ns >= self._end_ns
        for part in lost.parts[len(lost.given) :]:
            until_ns = self._scenario.warmup_ns + self._scenario.duration_ns if late or not others else since_ns
            lost.dropped += due_between(part, lost.reported.until, until_ns)
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

    def _give(self, member: Member, spec: LoadSpec, start_ns: int | None) -> None:
        assert member.clock is not None
        spec = replace(spec, clock_offset_ns=-member.clock.offset_ns)
        member.parts.append(spec)
        self._master.send(member.name, "part", spec=asdict(spec), start_ns=start_ns)

    def _start_by(self, member: Member) -> int:
        """The start by a worker's own clock."""
        assert member.clock is not None
        return self._start_ns + member.clock.offset_ns

    def _read_clocks_again(self) -> None:
        """They drift, and what they drifted is a part of how well they are known."""
        finished = self._those("finished")
        for member in finished:
            self._master.tell(ask_clock=member.name)
        self._until(lambda: all(member.stopped for member in finished), time.monotonic() + _CLOCK_TIMEOUT_S)
