"""A page over a long link: straight, or by two sidecars that speak another HTTP between them than the program does."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.childprocess import ChildProcess
from bench.contract import Opcode
from bench.errors import ServerFailedError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import CLIENT, SERVER, two_ends
from bench.loadprocess import LoadProcesses, merge
from bench.placement import Placement
from bench.scenario import Operation, Scenario
from bench.schedule import Concurrency, parse_load
from bench.serverprocess import ServerProcess
from bench.trial import load_specs

_START_TIMEOUT_S = 15.0
_MS = 1_000_000


def measure(between: str, loss: str) -> dict[str, float]:
    """The median time of a page of 24 objects of 2 kB, which a client of HTTP/1.1 asks for over six connections.
    `between` is what crosses the link of 80 ms, as `PROBES` says; `loss` its share of lost packets. Raises
    UnsupportedError."""
    scenario = Scenario(
        "http1",
        parse_load("closed:1", "load"),
        pattern="page:objects=24,pool=6",
        operation=Operation(Opcode.BYTES),
        connections=Concurrency(1),
        payload_bytes=2000,
        warmup_ns=1000 * _MS,
        duration_ns=3000 * _MS,
    )
    with Lab(two_ends(parse_link(f"rtt=80ms,loss={loss}", "link"))) as lab, contextlib.ExitStack() as stack:
        address = lab.topology.address(SERVER)
        server = stack.enter_context(ServerProcess("http1", within=lab.within(SERVER), host=address))
        host, port = address, server.port
        if between == "http2":
            inner: dict[str, Any] = {"http": "2", "upstream_http": "1.1", "upstreams": [[host, port]], "host": address}
            port = stack.enter_context(_sidecar(lab.within(SERVER), inner))
            outer: dict[str, Any] = {
                "http": "1.1",
                "upstream_http": "2",
                "upstreams": [[host, port]],
                "host": "127.0.0.1",
            }
            host, port = "127.0.0.1", stack.enter_context(_sidecar(lab.within(CLIENT), outer))
        load = stack.enter_context(LoadProcesses(1, lambda _progress: None, lab.within(CLIENT)))
        load.connect(load_specs(scenario, host, port, 0, 1, Placement((), ())))
        load.release()
        result = merge(load.results())
    return {"page_ns": float(result["latency"].get_value_at_percentile(50))}


@contextlib.contextmanager
def _sidecar(within: Sequence[str], spec: Mapping[str, Any]) -> Iterator[int]:
    child = ChildProcess("servers.proxies", within)
    try:
        child.send({"layer": 7, **spec})
        ready = child.next_event(_START_TIMEOUT_S)
        if ready is None or ready["event"] != "ready":
            raise ServerFailedError("a sidecar does not become ready")
        yield ready["port"]
    finally:
        child.kill()
