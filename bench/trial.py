"""One trial: one run of one scenario, from nothing to a record."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import registry, resultfile, stores
from bench.brokers import RunningBroker
from bench.brokerserver import BrokerServer
from bench.certificates import certificates
from bench.childprocess import ROOT
from bench.contract import Security
from bench.doubts import Host, find_doubts
from bench.errors import LabFailedError, LoadFailedError, ServerFailedError, TargetError
from bench.lab import probes
from bench.lab.network import Network, network
from bench.load.histogram import encode, summarise
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, Progress, merge
from bench.path import path_to
from bench.patterns import Pattern, parse_pattern, pattern_of
from bench.placement import Placement
from bench.protocols import CERTIFIED
from bench.quantities import spell_rate
from bench.scenario import Scenario
from bench.schedule import Closed
from bench.serverprocess import ServerProcess, WorkerCounts

_BESIDE_CONNECTIONS = "16"
INTERVALS = 10
"""How many equal parts of the measured window a result shows."""


def run_trial(
    scenario: Scenario,
    round_number: int,
    seed: int,
    load_processes: int,
    placement: Placement,
    on_progress: Callable[[Progress], None],
    root: Path = ROOT,
) -> dict[str, Any]:
    """The trial's record, as result files hold it. A trial that gave no figures says why under "error". `root` is the
    checkout of this project that the server is of; all else is that which runs."""
    trial = {**NO_FIGURES, "scenario": scenario.record(), "round": round_number, "seed": seed}
    trial["started"] = resultfile.now()
    pattern = pattern_of(scenario.pattern)
    processes = 1 if pattern.in_one_load else min(load_processes, scenario.concurrency.connections)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="wirebench-state-") as state,
            network(scenario, seed) as link,
            LoadProcesses(processes, on_progress, link.client) as load,
            LoadProcesses(int(scenario.beside is not None), lambda _progress: None, link.client) as beside,
            _store(scenario, placement.server) as store,
            _server(scenario, placement.server, link, state, store, root) as server,
            path_to(scenario, server.host, server.port, placement.server, link.server, seed) as path,
        ):
            if scenario.restart:
                assert isinstance(server, ServerProcess)  # others are not restarted (see `bench.plan`)
                server.stand_by()
            specs = load_specs(scenario, path.host, path.port, seed, processes, placement, server.broker)
            path.measure_added_latency(specs[0], link.server)
            memory_before = probes.memory([*server.pids(), *store.pids])
            load.connect(specs)
            beside.connect(_beside_specs(scenario, specs[0]))
            path.begin_to_lose()
            if scenario.beside is not None:
                beside.release()
            window = load.release()
            load.watch(window.measure_ns)
            before, sent_before, hops_before = _Observation.of(server, store), link.account(), path.usage()
            looks = [before]
            if scenario.restart:
                load.watch(window.measure_ns + int(scenario.restart * scenario.duration_ns))
                assert isinstance(server, ServerProcess)
                looks.append(_Observation.of(server, store))
                server.restart()
                looks.append(_Observation.of(server, store))
            load.watch(window.end_ns)
            after, sent_after, hops_after = _Observation.of(server, store), link.account(), path.usage()
            looks.append(after)
            trial["hops"] = path.records(hops_before, hops_after)
            client_memory, server_memory = probes.memory(load.pids()), probes.memory([*server.pids(), *store.pids])
            results = load.results()
            if server.pids():  # a broker that was there before is somebody else's
                trial["server"] = {
                    **_server_record(looks, server_memory, server),
                    "pss_bytes_before": memory_before.pss_bytes,
                }
            server_tally = _server_tally(pattern, looks)
            trial["wire"] = link.carried(sent_before, sent_after)
            load.leave()
    except (ServerFailedError, LoadFailedError, LabFailedError, TargetError) as error:
        return {**trial, **NO_FIGURES, "error": str(error)}
    trial = conclude(trial, scenario, results, client_memory, host_between(before.host, after.host))
    if server_tally:
        trial["tally"] |= server_tally
    return trial


def _store(scenario: Scenario, cpus: Sequence[int]) -> AbstractContextManager[RunningBroker]:
    pattern, words = parse_pattern(scenario.pattern, "pattern")
    return stores.running(words[pattern.store] if pattern.store else "", cpus)


def _server(
    scenario: Scenario, cpus: Sequence[int], link: Network, state: str, store: RunningBroker, root: Path
) -> ServerProcess | BrokerServer:
    pattern, words = parse_pattern(scenario.pattern, "pattern")
    if pattern.server:
        instead: BrokerServer = registry.load(pattern.server)(words, cpus)
        return instead
    return ServerProcess(
        scenario.protocol,
        scenario.execution,
        scenario.workers,
        host=link.server_host,
        cpus=cpus,
        stack=scenario.stack,
        tls=scenario.tls,
        early_data=scenario.handshake == "early-data",
        fast_open=scenario.fast_open == "on",
        state=state,
        within=link.server,
        redis=store.address,
        root=root,
        **{word: words[word] for word in pattern.server_words},
    )


def conclude(
    trial: dict[str, Any],
    scenario: Scenario,
    results: list[dict[str, Any]],
    client_memory: probes.Memory,
    host: Host,
) -> dict[str, Any]:
    """The trial with its figures, from the results of the load processes, and with what there is to doubt about them.
    `host` is the machine of the load during the measured window."""
    trial = {**trial, **_figures(scenario, results, client_memory)}
    doubts = find_doubts(scenario, trial, host)
    trial["doubts"] = [doubt.record() for doubt in doubts]
    trial["valid"] = not any(doubt.fatal for doubt in doubts)
    return trial


def load_specs(
    scenario: Scenario, host: str, port: int, seed: int, processes: int, placement: Placement, broker: str = ""
) -> list[LoadSpec]:
    """What each load process of a trial is asked to do."""
    operation = scenario.operation
    security = None
    if scenario.tls in CERTIFIED:
        authority = str(certificates().authority)
        security = Security(scenario.tls, authority, host, insecure=False, handshake=scenario.handshake)
    return [
        LoadSpec(
            protocol=scenario.protocol,
            client=registry.client(scenario.protocol, scenario.client, scenario.pattern),
            host=host,
            port=port,
            request=Request(operation.opcode, scenario.payload_bytes, operation.a, operation.b),
            load=str(scenario.load),
            connections=str(scenario.concurrency),
            warmup_ns=scenario.warmup_ns,
            duration_ns=scenario.duration_ns,
            timeout_ns=scenario.timeout_ns,
            queue_limit=scenario.queue_limit,
            intervals=INTERVALS,
            seed=seed,
            process=process,
            processes=processes,
            cpus=placement.load[process % len(placement.load) :][:1] if placement.load else (),
            security=security,
            pattern=scenario.pattern,
            topic=f"wirebench-{seed}",
            fast_open=scenario.fast_open == "on",
            broker=broker,
        )
        for process in range(processes)
    ]


def _beside_specs(scenario: Scenario, spec: LoadSpec) -> list[LoadSpec]:
    """The load that is not measured, as far as there is one; `spec` is that of one which is."""
    if scenario.beside is None:
        return []
    operation = scenario.beside.operation
    return [
        replace(
            spec,
            client=registry.client(scenario.protocol),
            request=Request(operation.opcode, scenario.payload_bytes, operation.a, operation.b),
            load=f"open:{spell_rate(scenario.beside.rate_per_s)}",
            connections=_BESIDE_CONNECTIONS,
            process=0,
            processes=1,
            pattern="request-response",
        )
    ]


def _delivery(merged: dict[str, Any]) -> dict[str, Any] | None:
    """What became of the published events. Throughput and latency are those of deliveries."""
    counted = merged["delivery"]
    if counted is None:
        return None
    expected = counted["published"] * counted["subscribers"]
    confirm = counted.pop("confirm")
    return {
        **counted,
        "confirm_ns": summarise(confirm) if confirm is not None else None,
        "expected": expected,
        "delivered": merged["completed"],
        "reach": merged["completed"] / expected if expected else None,
    }


def _requests(merged: dict[str, Any]) -> dict[str, Any] | None:
    """What became of the requests of a mix, by name."""
    if merged["requests"] is None:
        return None
    return {
        name: {
            "completed": found["completed"],
            "errors": found["errors"],
            "complaint": found["complaint"],
            "latency_ns": summarise(found["latency"]),
        }
        for name, found in merged["requests"].items()
    }


NO_FIGURES: dict[str, Any] = {
    "valid": False,
    "counts": None,
    "measured_ns": None,
    "offered_per_s": None,
    "throughput_per_s": None,
    "tally": None,
    "delivery": None,
    "requests": None,
    "latency_ns": None,
    "service_ns": None,
    "lateness_ns": None,
    "intervals": [],
    "client": None,
    "server": None,
    "wire": None,
    "hops": None,
    "doubts": [],
}
"""What the record of a trial says that was not measured."""


@dataclass(frozen=True)
class _Observation:
    """The server, with its store, and the machine at one instant."""

    at_s: float
    workers: list[WorkerCounts]
    usage: probes.Usage
    host: probes.HostLoad

    @classmethod
    def of(cls, server: ServerProcess | BrokerServer, store: RunningBroker) -> "_Observation":
        usage = probes.usage([*server.pids(), *store.pids])
        return cls(time.monotonic(), server.stats()[0], usage, probes.host_load())


def host_between(before: probes.HostLoad, after: probes.HostLoad) -> Host:
    """The machine between two looks at it."""
    total_s = after.total_s - before.total_s
    steal_s = after.steal_s - before.steal_s
    return Host(steal_s / total_s if total_s > 0 else 0.0, after.runnable_per_cpu)


def _server_record(
    looks: list[_Observation], memory: probes.Memory, server: ServerProcess | BrokerServer
) -> dict[str, Any]:
    """What the server used between observations: two of each process that was the server, one after the other."""
    spans = list(zip(looks[::2], looks[1::2], strict=True))
    spent: Counter[str] = Counter()
    workers: dict[int, dict[str, Any]] = {}
    for before, after in spans:
        spent.update(asdict(probes.spent(before.usage, after.usage)))
        for used in _worker_records(before, after):
            if (was := workers.get(used["worker"])) is not None:
                used["accepts"] += was["accepts"]
                used["requests"] += was["requests"]
                used["cpu_s"] = None if None in (used["cpu_s"], was["cpu_s"]) else used["cpu_s"] + was["cpu_s"]
            workers[used["worker"]] = used
    return {
        **spent,
        **asdict(memory),
        "workers": list(workers.values()),
        "deaths": [asdict(death) for death in server.events],
    }


def _server_tally(pattern: Pattern, looks: list[_Observation]) -> dict[str, int]:
    """What the server has counted for a pattern: all the processes that were the server."""

    def counted(name: str, looks: list[_Observation]) -> int:
        return sum(getattr(counts, name) for look in looks for counts in look.workers)

    before, after = looks[::2], looks[1::2]
    return {
        **{name: counted(name, after) - counted(name, before) for name in pattern.server_tallies},
        **{name: counted(name, after) for name in pattern.server_totals},
    }


def _worker_records(before: _Observation, after: _Observation) -> Iterator[dict[str, Any]]:
    earlier = {counts.worker: counts for counts in before.workers}
    for counts in after.workers:
        was = earlier.get(counts.worker, WorkerCounts(counts.worker, 0, 0, 0, 0))
        yield {
            "worker": counts.worker,
            "pid": counts.pid,
            "accepts": counts.accepts,  # connections are made before the window opens
            "requests": counts.requests - was.requests,
            "cpu_s": None if counts.cpu_ns is None or was.cpu_ns is None else (counts.cpu_ns - was.cpu_ns) / 1e9,
        }


def _figures(scenario: Scenario, results: list[dict[str, Any]], memory: probes.Memory) -> dict[str, Any]:
    """The figures of the load side, from the results of its processes."""
    merged = merge(results)
    duration_s = merged["measured_ns"] / 1e9
    errors, dropped = merged["errors"], merged["dropped"]
    sent = merged["completed"] + sum(errors.values())
    if merged["delivery"] is not None:
        sent = merged["delivery"]["published"] * merged["delivery"]["subscribers"]
        dropped *= merged["delivery"]["subscribers"]
    tallies = pattern_of(scenario.pattern).tallies
    interval_ns = scenario.duration_ns // INTERVALS
    return {
        "counts": {
            "offered": sent + dropped,
            "sent": sent,
            "completed": merged["completed"],
            "errors": errors,
            "dropped": dropped,
        },
        "measured_ns": merged["measured_ns"],
        "offered_per_s": None if isinstance(scenario.load, Closed) else (sent + dropped) / duration_s,
        "throughput_per_s": merged["done_in_window"] / duration_s,
        "tally": {name: merged["tally"].get(name, 0) for name in tallies} if tallies else None,
        "delivery": _delivery(merged),
        "requests": _requests(merged),
        "latency_ns": summarise(merged["latency"]),
        "service_ns": summarise(merged["service"]),
        "lateness_ns": summarise(merged["lateness"]) if merged["lateness"] else None,
        "intervals": [
            {
                "start_ns": number * interval_ns,
                "duration_ns": interval_ns,
                "completed": part["completed"],
                "errors": part["errors"],
                "hdr": encode(part["hdr"]) if part["completed"] else None,
            }
            for number, part in enumerate(merged["intervals"])
        ],
        "client": {
            "processes": len(results),
            "cpu_user_s": merged["cpu_user_s"],
            "cpu_system_s": merged["cpu_system_s"],
            "cpu_share_max": max(merged["cpu_s"]) / duration_s,
            **asdict(memory),
            "context_switches_voluntary": merged["context_switches_voluntary"],
            "context_switches_involuntary": merged["context_switches_involuntary"],
        },
        "error": None,
    }
