"""wirebench's own sides: the engine as it runs in every trial, and the lean servers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench import registry
from bench.certificates import certificates
from bench.contract import Opcode, Security, pattern
from bench.errors import LoadFailedError, ServerFailedError, TargetError, UnsupportedError
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.peers.process import VoidError
from bench.peers.target import Target
from bench.serverprocess import ServerProcess

_WARMUP_NS = 500_000_000
_TIMEOUT_NS = 5_000_000_000
_QUEUE_LIMIT = 10_000
_CONNECTIONS = "64"


@dataclass(frozen=True)
class EngineFigures:
    """What one run of the engine gave. `lateness_p99_ns` is None for closed loads."""

    rate_per_s: float
    cpu_ns_per_request: float
    lateness_p99_ns: int | None


def run_engine(target: Target, load: str, duration_s: int, cpus: Sequence[int]) -> EngineFigures:
    """One load process, after a warm-up that does not count. Raises VoidError, also for a single error or drop."""
    spec = LoadSpec(
        client=registry.client(target.protocol),
        protocol=target.protocol,
        host=target.host,
        port=target.port,
        request=target.request,
        load=load,
        connections=load.removeprefix("closed:") if load.startswith("closed:") else _CONNECTIONS,
        warmup_ns=_WARMUP_NS,
        duration_ns=duration_s * 1_000_000_000,
        timeout_ns=_TIMEOUT_NS,
        queue_limit=_QUEUE_LIMIT,
        intervals=1,
        seed=0,
        cpus=tuple(cpus),
        security=target.security,
    )
    try:
        with LoadProcesses(1, lambda _progress: None) as processes:
            processes.connect([spec])
            processes.watch(processes.release().end_ns)
            figures = merge(processes.results())
    except (LoadFailedError, TargetError) as error:
        raise VoidError(f"wirebench: {error}") from None
    if figures["errors"] or figures["dropped"] or not figures["done_in_window"]:
        raise VoidError(f"wirebench reports errors {figures['errors']} and {figures['dropped']} dropped")
    lateness = figures["lateness"]
    return EngineFigures(
        figures["done_in_window"] / duration_s,
        (figures["cpu_user_s"] + figures["cpu_system_s"]) * 1e9 / figures["done_in_window"],
        None if lateness is None else int(lateness.get_value_at_percentile(99.0)),
    )


def security(tls: str) -> Security | None:
    """How to speak TLS of that version, or "off", with a server that has this process's certificate."""
    if tls == "off":
        return None
    return Security(tls, str(certificates().authority), server_name="127.0.0.1", insecure=False)


@contextmanager
def lean_server(
    protocol: str, opcode: Opcode, size_bytes: int, cpus: Sequence[int], tls: str = "off"
) -> Iterator[Target]:
    """A lean server with one worker, and an operation whose answer has that size. Raises VoidError."""
    try:
        with ServerProcess(protocol, cpus=cpus, tls=tls) as server:
            request = Request(opcode, size_bytes)
            yield Target(protocol, server.host, server.port, request, pattern(size_bytes), security(tls))
    except (ServerFailedError, UnsupportedError) as error:
        raise VoidError(str(error)) from None
