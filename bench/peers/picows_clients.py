"""picows as a load generator: WebSocket clients in Cython, one process."""

from pathlib import Path

from bench.peers.process import VoidError
from bench.peers.programs import PICOWS
from bench.peers.target import Target


class PicowsClients:
    program = PICOWS

    def __init__(self, connections: int) -> None:
        self._connections = connections

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        exchange = target.request.exchange()
        url = f"ws://{target.host}:{target.port}{exchange.path}"
        return [url, str(self._connections), str(len(exchange.body)), str(duration_s)]

    def rate_per_s(self, output: str) -> float:
        try:
            rate = float(output)
        except ValueError:
            raise VoidError("the picows clients printed no figure") from None
        if rate <= 0:
            raise VoidError("the picows clients got no answer")
        return rate
