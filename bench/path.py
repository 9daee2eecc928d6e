"""The path from clients to the server of a trial: through hops, or straight; and what each hop costs."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

from bench import registry
from bench.certificates import certificates
from bench.contract import Opcode, Security
from bench.errors import LoadFailedError, TargetError
from bench.lab import probes
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.protocols import CERTIFIED, PROTOCOLS
from bench.proxies import Leg, ends_of, hops_of, legs_of
from bench.proxyprocess import Place, RunningHop, running_hops
from bench.scenario import Scenario

_PROBE_WARMUP_NS = 100_000_000
_PROBE_NS = 250_000_000
"""How long one path is asked, one request after the other: some hundreds of requests at the least, as a rule."""


class Path:
    """Hops that run, in front of a server that does."""

    def __init__(self, scenario: Scenario, hops: Sequence[RunningHop], server: tuple[str, int]) -> None:
        self._scenario = scenario
        self._hops = hops
        self._entrances = [*((hop.host, hop.port) for hop in hops), server]
        """Of the whole path, then of what is left of it behind each hop; the last is the server."""
        self._legs = legs_of(hops_of(scenario.via), ends_of(scenario))
        """What is spoken at each of them."""
        self._added_latency_ns: list[float | None] = [None] * len(hops)

    @property
    def host(self) -> str:
        """Where clients connect to, with `port`."""
        return self._entrances[0][0]

    @property
    def port(self) -> int:
        return self._entrances[0][1]

    def measure_added_latency(self, spec: LoadSpec, within: Sequence[str]) -> None:
        """Find out what each hop adds to the latency of a request, before there is any load.

        One connection asks for an echo of the scenario's payload, one request after the other: first of the server,
        then through the last hop, and so on. What a hop adds is the median through it less the median from behind it.
        The requests come from the load's own CPU and from a client of what is spoken there; in a lab, from the server's
        node, so that the link is no part of it. `spec` is that of a load process; `within` is where the hops are.
        """
        if not self._hops or "request-response" not in PROTOCOLS[self._scenario.protocol].patterns:
            return
        places = reversed([*zip(self._entrances, self._legs, strict=True)])
        medians = [self._median_ns(spec, *entrance, leg, within) for entrance, leg in places][::-1]
        self._added_latency_ns = [
            None if through is None or behind is None else through - behind for through, behind in pairwise(medians)
        ]

    def _median_ns(self, spec: LoadSpec, host: str, port: int, leg: Leg, within: Sequence[str]) -> float | None:
        scenario, protocol, client = self._scenario, self._scenario.protocol, self._scenario.client
        if leg != self._legs[0]:
            if protocol != self._legs[0].protocol:
                return None  # what is said in that HTTP there is no plain HTTP, like gRPC
            protocol, client = leg.protocol, "lean"
        security = None
        if leg.tls in CERTIFIED:
            security = Security(leg.tls, str(certificates().authority), host, insecure=False)
        probe = replace(
            spec,
            protocol=protocol,
            client=registry.client(protocol, client),
            host=host,
            port=port,
            request=Request(Opcode.ECHO, scenario.payload_bytes),
            load="closed:1",
            connections="1",
            warmup_ns=_PROBE_WARMUP_NS,
            duration_ns=_PROBE_NS,
            intervals=1,
            process=0,
            processes=1,
            pattern="request-response",
            fast_open=False,
            security=security,
        )
        try:
            with LoadProcesses(1, lambda _progress: None, within) as load:
                load.connect([probe])
                load.watch(load.release().end_ns)
                merged = merge(load.results())
        except (TargetError, LoadFailedError):
            return None
        return float(merged["latency"].get_value_at_percentile(50)) if merged["completed"] else None

    def usage(self) -> list[probes.Usage]:
        """What each hop has used so far."""
        return [probes.usage(hop.pids) for hop in self._hops]

    def records(self, before: Sequence[probes.Usage], after: Sequence[probes.Usage]) -> list[dict[str, Any]]:
        """The hops as result files hold them, with what they used between two observations."""
        return [
            {
                "kind": hop.hop,
                **asdict(probes.spent(used_before, used_after)),
                **asdict(probes.memory(hop.pids)),
                "added_latency_ns": added_ns,
            }
            for hop, used_before, used_after, added_ns in zip(
                self._hops, before, after, self._added_latency_ns, strict=True
            )
        ]

    def begin_to_lose(self) -> None:
        """Have the hops that lose answers begin to: none is lost before clients are connected."""
        for hop in self._hops:
            hop.begin_to_lose()


@contextlib.contextmanager
def path_to(
    scenario: Scenario, host: str, port: int, cpus: Sequence[int], within: Sequence[str], seed: int
) -> Iterator[Path]:
    """A scenario's path while the context lasts. `host` and `port` are the server's, `cpus` and `within` where the hops
    are. Raises ServerFailedError, UnsupportedError."""
    place = Place(host, port, ends_of(scenario), cpus=tuple(cpus), within=tuple(within), seed=seed)
    with running_hops(hops_of(scenario.via), place) as hops:
        yield Path(scenario, hops, (host, port))
