"""A load of picows clients, run as a program: `python -m bench.peers.picows_echo URL CONNECTIONS BYTES SECONDS`.

Each connection sends a binary message, waits for its echo and sends the next. Prints how many echoes came in the time.
Answers are counted and not compared, so that picows is measured without more than it has to do.
"""

import asyncio
import sys
import time
from typing import Any

import uvloop
from picows import WSListener, WSMsgType, ws_connect

_WARMUP_S = 0.5


class _Echo(WSListener):
    def __init__(self, message: bytes) -> None:
        super().__init__()
        self.count = 0
        self.stopped = False
        self._message = message

    def on_ws_connected(self, transport: Any) -> None:
        transport.send(WSMsgType.BINARY, self._message)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        self.count += 1
        if not self.stopped:
            transport.send(WSMsgType.BINARY, self._message)


async def _run(url: str, connections: int, payload_bytes: int, duration_s: float) -> float:
    message = b"x" * payload_bytes
    listeners = [_Echo(message) for _ in range(connections)]
    unmade = iter(listeners)
    transports = [(await ws_connect(lambda: next(unmade), url))[0] for _ in range(connections)]
    await asyncio.sleep(_WARMUP_S)
    begin_s, before = time.monotonic(), sum(listener.count for listener in listeners)
    await asyncio.sleep(duration_s)
    rate = (sum(listener.count for listener in listeners) - before) / (time.monotonic() - begin_s)
    for listener in listeners:
        listener.stopped = True
    for transport in transports:
        transport.disconnect()
    return rate


def main() -> None:
    url, connections, payload_bytes, duration_s = sys.argv[1:]
    print(uvloop.run(_run(url, int(connections), int(payload_bytes), float(duration_s))))


if __name__ == "__main__":
    main()
