"""What proxies of layer 4 and 7 do with the connections and requests that pass through them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bench.errors import ServerFailedError
from bench.proxies import HOPS, Hop, Leg
from bench.proxyprocess import EmbeddedProxy, Place
from bench.serverprocess import ServerProcess

_BACKENDS = 3
_CONNECTIONS = 4
_REQUESTS = 32
"""On each connection."""
_CALLERS = 8
_IDLE_TIMEOUT_S = 0.5
_PING_S = 0.2


def _proxy(layer: int, servers: Sequence[ServerProcess], http: str = "1.1", **changes: Any) -> EmbeddedProxy:
    upstreams = [[server.host, server.port] for server in servers]
    return EmbeddedProxy(Hop(HOPS[f"l{layer}"]), Place("127.0.0.1", 0, Leg(http)), upstreams=upstreams, **changes)


def spread(layer: int) -> dict[str, float]:
    """Four long-lived connections of HTTP/2 through a proxy in front of three backends, 32 requests on each."""
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(ServerProcess("http2")) for _ in range(_BACKENDS)]
        port = stack.enter_context(_proxy(layer, backends, "2")).running.port
        for _ in range(_CONNECTIONS):
            client = stack.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{port}", http1=False, http2=True, trust_env=False)
            )
            for _ in range(_REQUESTS):
                client.get("/health").raise_for_status()
        requests = [backend.stats()[0][0].requests for backend in backends]
    return {"busiest_share": max(requests) / sum(requests), "idle_backends": requests.count(0)}


def backend_killed(layer: int) -> dict[str, float]:
    """Eight callers, each with a connection, ask for what takes 20 ms; one of two backends is killed meanwhile."""
    half_way = Event()

    def call(port: int) -> int:
        failed = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            for number in range(_REQUESTS):
                if number == _REQUESTS // 2:
                    half_way.set()
                try:
                    failed += not client.get("/work?wait_ms=20").is_success
                except httpx.TransportError:
                    failed += 1
        return failed

    with ServerProcess("http1") as kept, ServerProcess("http1") as killed, ThreadPoolExecutor(_CALLERS) as pool:
        with _proxy(layer, [kept, killed]) as proxy:
            calls = [pool.submit(call, proxy.running.port) for _ in range(_CALLERS)]
            half_way.wait(30)
            os.kill(killed.pid, signal.SIGKILL)
            failed = sum(each.result() for each in calls)
        with contextlib.suppress(ServerFailedError):
            killed.stop()  # it is gone, and was to be
    return {"failed_calls": failed}


def idle_websockets(pings: str) -> dict[str, float]:
    """Four websockets through a proxy that closes what is silent for half a second, left alone for three times that."""

    async def leave_alone(port: int) -> bool:
        ping_s = _PING_S if pings == "yes" else None
        async with connect(f"ws://127.0.0.1:{port}/echo", ping_interval=ping_s, compression=None, proxy=None) as client:
            try:
                async with asyncio.timeout(3 * _IDLE_TIMEOUT_S):
                    await client.wait_closed()
            except TimeoutError:
                pass
            try:
                await client.send(b"still there")
                return await client.recv() != b"still there"
            except ConnectionClosed:
                return True

    async def all_of_them(port: int) -> int:
        return sum(await asyncio.gather(*(leave_alone(port) for _ in range(_CONNECTIONS))))

    with ServerProcess("websocket") as server, _proxy(7, [server], idle_timeout_s=_IDLE_TIMEOUT_S) as proxy:
        return {"lost_connections": asyncio.run(all_of_them(proxy.running.port))}
