"""Hypercorn waits for timers that it cancels, and swallows a cancellation of its own that comes just then."""

import asyncio
import socket
from typing import Any

import pytest
from hypercorn.asyncio.udp_server import UDPServer

from servers.counters import Counters
from servers.stacks.hypercorn_server import HypercornHttp3Server
from servers.worker import Deferrals, run_on_loop
from tests.servers.make_worker import make_worker


def test_it_stops_although_a_cancellation_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed = 0

    async def run(_server: Any) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    async def serve_and_stop() -> None:
        loop = asyncio.get_running_loop()
        server = HypercornHttp3Server(make_worker(run_on_loop(loop, Deferrals()), loop.call_later, Counters(1)[0]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            await server.start(sock, 1)
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await server.stop(1.0)

    monkeypatch.setattr(UDPServer, "run", run)
    asyncio.run(serve_and_stop())
    assert swallowed == 3
