"""hey: HTTP/1.1, closed, one CPU for the Go runtime."""

import re
from pathlib import Path

from bench.peers.process import VoidError
from bench.peers.programs import HEY
from bench.peers.target import Target


class Hey:
    program = HEY

    def __init__(self, connections: int) -> None:
        self._connections = connections

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        return ["-z", f"{duration_s}s", "-c", str(self._connections), "-cpus", "1", target.url]

    def rate_per_s(self, output: str) -> float:
        if trouble := re.search(r"^Error distribution:\s+(.*)$", output, re.MULTILINE):
            raise VoidError(f"hey reports errors: {trouble[1]}")
        statuses = dict(re.findall(r"^\s*\[(\d{3})\]\s+(\d+) responses$", output, re.MULTILINE))
        rate = re.search(r"^\s*Requests/sec:\s+(\d+\.\d+)$", output, re.MULTILINE)
        if other := statuses.keys() - {"200"}:
            raise VoidError(f"hey reports status {', '.join(sorted(other))}")
        if rate is None or int(statuses.get("200", "0")) == 0:
            raise VoidError("hey printed no figures, or made no request")
        return float(rate[1])
