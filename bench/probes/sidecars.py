"""A page over a long link: straight, or by two sidecars that speak another HTTP between them than the program does."""

import contextlib

from bench.contract import Opcode
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import CLIENT, SERVER, two_ends
from bench.loadprocess import LoadProcesses, merge
from bench.placement import Placement
from bench.proxies import NO_HOPS, Leg, hops_of, legs_of
from bench.proxyprocess import EmbeddedProxy, Place
from bench.scenario import Operation, Scenario
from bench.schedule import Concurrency, parse_load
from bench.serverprocess import ServerProcess
from bench.trial import load_specs

_MS = 1_000_000


def measure(between: str, loss: str) -> dict[str, float]:
    """The median time of a page of 24 objects of 2 kB, which a client of HTTP/1.1 asks for over six connections.
    `between` is what crosses the link of 80 ms, as `PROBES` says; `loss` its share of lost packets. Raises
    UnsupportedError, UsageError."""
    hops = hops_of(NO_HOPS if between == "http1" else f"sidecar:{between},sidecar", "between")
    scenario = Scenario(
        "http1",
        parse_load("closed:1", "load"),
        pattern="page:objects=24,pool=6",
        operation=Operation(Opcode.BYTES),
        connections=Concurrency(1),
        payload_bytes=2000,
        warmup_ns=500 * _MS,
        duration_ns=2500 * _MS,
    )
    with Lab(two_ends(parse_link(f"rtt=80ms,loss={loss}", "link"))) as lab, contextlib.ExitStack() as stack:
        address = lab.topology.address(SERVER)
        server = stack.enter_context(ServerProcess("http1", within=lab.within(SERVER), host=address))
        host, port = address, server.port
        if hops:
            program, crossing, service = legs_of(hops, Leg("1.1"))
            inner = EmbeddedProxy(hops[1], Place(host, port, crossing, service, within=tuple(lab.within(SERVER))))
            port = stack.enter_context(inner).running.port
            near = Place("127.0.0.1", 0, program, crossing, within=tuple(lab.within(CLIENT)))
            outer = EmbeddedProxy(hops[0], near, upstreams=[[host, port]])
            host, port = near.host, stack.enter_context(outer).running.port
        load = stack.enter_context(LoadProcesses(1, lambda _progress: None, lab.within(CLIENT)))
        load.connect(load_specs(scenario, host, port, 0, 1, Placement((), ())))
        load.release()
        result = merge(load.results())
    return {"page_ns": float(result["latency"].get_value_at_percentile(50))}
