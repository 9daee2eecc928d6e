"""A worker that takes part in a run, seen from the master: what it was given, and what it has given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.distributed.clocks import Clock
from bench.distributed.seconds import Reported
from bench.doubts import Host
from bench.lab import probes
from bench.load.histogram import add, decode, new_hdr, summarise
from bench.load.spec import LoadSpec
from bench.scenario import Scenario
from bench.schedule import Closed, due_times, parse_load
from bench.trial import conclude, host_between


@dataclass
class Member:
    """One such worker."""

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
    given: list[dict[str, Any]] = field(default_factory=list)
    """What load processes gave for parts."""
    reported: Reported = field(default_factory=Reported)
    memory: list[probes.Memory] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    margin_ns: int | None = None
    reports: int = 0
    report_bytes: int = 0
    dropped: int = 0
    """Of a lost one: what was due of its part, and nobody is known to have sent."""
    stopped: bool = False

    def finish_part(self, message: dict[str, Any]) -> None:
        """Keep a message of a part's result."""
        self.given.append(message["result"])
        self.memory.append(probes.Memory(**message["memory"]))
        before, after = (probes.HostLoad(**look) for look in message["host_load"])
        self.hosts.append(host_between(before, after))
        margin_ns = message["margin_ns"]
        self.margin_ns = margin_ns if self.margin_ns is None else min(margin_ns, self.margin_ns)
        if self.state == "running" and len(self.given) == len(self.parts):
            self.state = "finished"

    def results(self, scenario: Scenario) -> list[dict[str, Any]]:
        """What the worker gave, and what it only reported where it did not give all."""
        if self.given and len(self.given) == len(self.parts):
            return self.given
        is_open = not isinstance(scenario.load, Closed)
        partial = self.reported.partial_result(is_open, self.parts[0].intervals if self.parts else 1)
        return [{**partial, "dropped": self.dropped}]

    def record(self, scenario: Scenario) -> dict[str, Any]:
        """The worker as result files hold it."""
        results = self.results(scenario)
        latency = new_hdr()
        for result in results:
            add(latency, decode(result["latency"]))
        duration_s = scenario.duration_ns / 1e9
        assert self.clock is not None
        return {
            "name": self.name,
            "host": self.host,
            "state": "finished" if self.state == "finished" else "lost" if self.why else "stopped",
            "why": self.why or None,
            "parts": len(self.parts),
            "completed": sum(result["completed"] for result in results),
            "errors": sum(sum(result["errors"].values()) for result in results),
            "dropped": sum(result["dropped"] for result in results),
            "throughput_per_s": sum(result["done_in_window"] for result in results) / duration_s,
            "cpu_share": max(result["cpu_user_s"] + result["cpu_system_s"] for result in results) / duration_s
            if self.given
            else None,
            "latency_ns": summarise(latency),
            "clock_offset_ns": self.clock.offset_ns,
            "clock_error_ns": self.clock.error_ns,
            "margin_ns": self.margin_ns,
            "reports": self.reports,
            "report_bytes": self.report_bytes,
        }


def due_between(part: LoadSpec, from_second: int, until_ns: int) -> int:
    """How many requests of a part are due in the measured phase from that second of it until so long after the start;
    0 of a closed load, of which nothing is due."""
    load = parse_load(part.load, "")
    if isinstance(load, Closed):
        return 0
    begin_ns = max(part.since_ns, part.warmup_ns + from_second * 1_000_000_000)
    times = due_times(load, part.warmup_ns, part.duration_ns, part.seed, (part.process, part.processes))
    return sum(int(((chunk >= begin_ns) & (chunk < until_ns)).sum()) for chunk in times)


def conclude_all(trial: dict[str, Any], scenario: Scenario, members: Sequence[Member], expected: int) -> dict[str, Any]:
    """The trial with the figures of all workers, of which so many were expected."""
    results = [result for member in members for result in member.results(scenario)]
    memory = [memory for member in members for memory in member.memory]
    pss = [each.pss_bytes for each in memory]
    together = probes.Memory(sum(m.rss_bytes for m in memory), None if None in pss else sum(p or 0 for p in pss))
    hosts = [host for member in members for host in member.hosts] or [Host(0.0, None)]
    busiest = Host(max(h.steal_share for h in hosts), max((h.runnable_per_cpu or 0.0) for h in hosts))
    trial["workers"] = {"expected": expected, "each": [member.record(scenario) for member in members]}
    trial = conclude(trial, scenario, results, together, busiest)
    return trial if memory else {**trial, "client": None}  # what was stopped has not told
