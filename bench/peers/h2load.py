"""h2load: HTTP/2, closed, one thread."""

import re
from pathlib import Path

from bench.peers.process import VoidError
from bench.peers.programs import H2LOAD
from bench.peers.target import Target


class H2load:
    program = H2LOAD

    def __init__(self, connections: int, streams: int) -> None:
        self._connections = connections
        self._streams = streams

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        return [f"-c{self._connections}", f"-m{self._streams}", "-t1", "-D", str(duration_s), target.url]

    def rate_per_s(self, output: str) -> float:
        rate = re.search(r"^finished in \d+\.\d+\w+, (\d+\.\d+) req/s", output, re.MULTILINE)
        counts = re.search(
            r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$", output, re.MULTILINE
        )
        if rate is None or counts is None:
            raise VoidError("h2load printed no figures")
        succeeded, failed, errored, timeout = map(int, counts.groups())
        if failed or errored or timeout:
            raise VoidError(f"h2load reports {failed} failed, {errored} errored, {timeout} timeout")
        if not succeeded or re.search(r"^Application protocol: h2c?$", output, re.MULTILINE) is None:
            raise VoidError("h2load did not speak HTTP/2, or made no request")
        return float(rate[1])
