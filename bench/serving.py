"""A server in the foreground: what `wirebench serve` runs."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bench.errors import UsageError
from bench.output import columns
from bench.scenario import parse_whole
from bench.serverprocess import ServerProcess

_POLL_S = 0.25


def make_server(protocol: str, execution: str, workers: int, host: str, port: int, cpus: str | None) -> ServerProcess:
    """A server that is ready to be started. Raises UsageError."""
    if execution == "single" and workers != 1:
        raise UsageError(f"--workers: the execution model single has one worker, not {workers}; add --execution")
    pinned = [parse_whole(number.strip(), 0, 4095, "--cpus") for number in cpus.split(",")] if cpus is not None else []
    return ServerProcess(protocol, execution, workers, host, port, pinned)


def serve_until_interrupted(server: ServerProcess, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait for Ctrl-C (KeyboardInterrupt), telling of workers that end meanwhile. Gives what each worker did.

    Raises ServerFailedError if the server ends by itself.
    """
    told = 0
    try:
        while True:
            time.sleep(_POLL_S)
            for death in server.events[told:]:
                told += 1
                then = "another took its place" if death.restarted else "it was not replaced"
                say(f"worker {death.worker} {death.reason}; {then}")
    except KeyboardInterrupt:
        workers, deaths = server.stats()
    return {
        "protocol": server.protocol,
        "execution": server.execution,
        "host": server.host,
        "port": server.port,
        "workers": [asdict(counts) for counts in workers],
        "deaths": [asdict(death) for death in deaths],
    }


def greeting(server: ServerProcess) -> str:
    """Where the server is, and what to try on it."""
    examples = columns(_examples(server.protocol, server.address), indent=2)
    return f"{server.protocol} ({server.execution}) on {server.address}; Ctrl-C stops it. Try:\n{examples}"


def _examples(protocol: str, address: str) -> list[list[str]]:
    scheme = {"http1": "http", "http2": "h2c"}.get(protocol, protocol)
    load = f"wirebench load {scheme}://{address}"
    loads = [
        ["as fast as 64 connections go", f"{load} --operation echo --payload 1KiB"],
        ["latency at a given rate", f"{load} --operation work:cpu=100us --load poisson:1000/s"],
    ]
    curl = {"http1": "curl", "http2": "curl --http2-prior-knowledge"}.get(protocol)
    if curl is None:
        return loads
    return [
        ["is it there?", f"{curl} http://{address}/health"],
        ["the same bytes back", f"{curl} -d hello http://{address}/echo"],
        ["100 µs of CPU, then 5 ms", f"{curl} 'http://{address}/work?cpu_us=100&wait_ms=5'"],
        *loads,
    ]


def summary(outcome: dict[str, Any]) -> str:
    """What each worker did, as a table."""
    rows = [["worker", "accepts", "requests", "CPU"]]
    for counts in outcome["workers"]:
        cpu = "–" if counts["cpu_ns"] is None else f"{counts['cpu_ns'] / 1e9:.2f} s"
        rows.append([str(counts["worker"]), f"{counts['accepts']:,}", f"{counts['requests']:,}", cpu])
    return columns(rows, right=range(1, 4))
