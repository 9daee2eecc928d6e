"""Memory of a server that holds many idle keep-alive connections, each of which has made one request."""

import contextlib
from collections.abc import Iterator, Sequence

from bench.childprocess import ChildEndedError, ChildProcess
from bench.contract import HEALTH_BODY, Opcode
from bench.errors import ServerFailedError
from bench.lab import probes
from bench.load.spec import Request
from bench.peers.process import VoidError
from bench.peers.target import Target, verify
from bench.preflight import SPARE_FILES, raise_open_files
from bench.serverprocess import ServerProcess

CONNECTIONS = 10_000
_TIMEOUT_S = 60.0


def connections_allowed() -> int:
    """How many of the connections the limit of open files leaves room for, on each side. It is raised as far as it
    goes; the server and the clients inherit that."""
    return min(CONNECTIONS, raise_open_files() - SPARE_FILES)


def bytes_per_idle_connection(count: int, cpus: Sequence[int], protocol: str) -> float:
    """By how much the resident memory (RSS) of the lean http1 or websocket server grows for each connection. Raises
    VoidError.

    Not PSS: that of a server shrinks when other processes begin to share its libraries, and the clients do.
    """
    try:
        with ServerProcess(protocol, cpus=cpus) as server:
            # What the first request brings into memory is not a connection's.
            verify(Target("http1", server.host, server.port, Request(Opcode.HEALTH), HEALTH_BODY))
            before = probes.memory(server.pids())
            with _clients(server, count):
                after = probes.memory(server.pids())
                (worker,), _ = server.stats()
    except ServerFailedError as error:
        raise VoidError(str(error)) from None
    if worker.accepts != count + 1 or worker.requests != count + 1:
        raise VoidError(f"the server counts {worker.accepts} connections and {worker.requests} requests")
    return (after.rss_bytes - before.rss_bytes) / count


@contextlib.contextmanager
def _clients(server: ServerProcess, count: int) -> Iterator[None]:
    """So many clients that have made their request and stay while the context lasts. Raises VoidError."""
    process = ChildProcess("bench.peers.idle_clients")
    try:
        process.send({"host": server.host, "port": server.port, "count": count, "protocol": server.protocol})
        event = process.next_event(_TIMEOUT_S)
        if event is None:
            raise VoidError(f"{count} connections could not be made within {_TIMEOUT_S:.0f} s")
        if event["event"] == "error":
            raise VoidError(event["message"])
        yield
    except ChildEndedError as error:
        raise VoidError(f"the clients' process {error}") from None
    finally:
        process.kill()
