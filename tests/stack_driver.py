"""Loads in the test's own process, for what is too short to start load processes for."""

import asyncio
import time
from typing import Any

from bench import registry
from bench.certificates import certificates
from bench.contract import Security
from bench.load.__main__ import _make_engine
from bench.load.spec import LoadSpec, Request
from bench.registry import STACKS
from bench.serverprocess import ServerProcess

S, MS = 1_000_000_000, 1_000_000


def security(tls: str) -> Security | None:
    """What a client of this process's servers is told."""
    if tls == "off":
        return None
    return Security(tls, str(certificates().authority), "localhost", insecure=False)


def spec(server: ServerProcess, stack: str, request: Request, load: str = "closed:1", **changes: Any) -> LoadSpec:
    """What a load is made of; `stack` is that of the client."""
    values: dict[str, Any] = {
        "protocol": server.protocol,
        "client": STACKS[stack].clients.get(server.protocol, ""),
        "host": server.host,
        "port": server.port,
        "request": request,
        "load": load,
        "connections": load.partition(":")[2] if load.startswith("closed") else "2",
        "warmup_ns": 0,
        "duration_ns": 0,
        "timeout_ns": 10 * S,
        "queue_limit": 1000,
        "intervals": 1,
        "seed": 1,
        "security": security(server.tls),
        **changes,
    }
    return LoadSpec(**values)


def push_spec(server: ServerProcess, load: str, subscribers: int, duration_ns: int) -> LoadSpec:
    """A load of events, with the lean clients."""
    return spec(
        server,
        "lean",
        Request(opcode=1, payload_bytes=100),
        load,
        connections=str(subscribers),
        duration_ns=duration_ns,
        client=registry.client(server.protocol, pattern="push"),
        pattern="push",
        topic="prices",
    )


def drive(wanted: LoadSpec) -> dict[str, Any]:
    """Connect, which sends one exchange and checks its answer, and run for as long as the spec says. Gives the result
    of the recorder, and of a push load the `delivery`. Every connection is closed. Raises TargetError."""

    async def run() -> dict[str, Any]:
        engine = _make_engine(wanted)
        try:
            await engine.connect()
            if wanted.duration_ns:
                start_ns = time.monotonic_ns() + 20 * MS
                await engine.run(start_ns, start_ns, start_ns + wanted.duration_ns, wanted.intervals)
            result = engine.recorder.result() if wanted.duration_ns else {}
            return {**result, "delivery": engine.delivery()} if engine.delivery() is not None else result
        finally:
            for link in list(engine._links):
                link.close()
            until = time.monotonic() + 5
            while len(asyncio.all_tasks()) > 1 and time.monotonic() < until:
                await asyncio.sleep(0.002)
            assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()
            await asyncio.sleep(0.01)  # transports close in the loop's next turns, and tell nobody here

    return asyncio.run(run())
