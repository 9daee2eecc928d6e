"""wrk: HTTP/1.1, closed, one thread."""

import re
from pathlib import Path

from bench.peers.process import VoidError
from bench.peers.programs import WRK
from bench.peers.target import Target


class Wrk:
    program = WRK

    def __init__(self, connections: int) -> None:
        self._connections = connections

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        exchange = target.request.exchange()
        script: list[str] = []
        if exchange.method != "GET":
            # Set once, before the run: wrk then sends the same bytes each time, as it does for a GET.
            body = "".join(f"\\{byte:03d}" for byte in exchange.body)
            (folder / "request.lua").write_text(
                f'wrk.method = "{exchange.method}"\nwrk.body = "{body}"\n', encoding="ascii"
            )
            script = ["-s", "request.lua"]
        return ["-t1", f"-c{self._connections}", f"-d{duration_s}s", *script, target.url]

    def rate_per_s(self, output: str) -> float:
        if trouble := re.search(r"^\s*((?:Socket errors|Non-2xx or 3xx responses): .*)$", output, re.MULTILINE):
            raise VoidError(f"wrk reports {trouble[1]}")
        count = re.search(r"^\s*(\d+) requests in \d", output, re.MULTILINE)
        rate = re.search(r"^Requests/sec:\s+(\d+\.\d+)$", output, re.MULTILINE)
        if count is None or rate is None or int(count[1]) == 0:
            raise VoidError("wrk printed no figures, or made no request")
        return float(rate[1])
