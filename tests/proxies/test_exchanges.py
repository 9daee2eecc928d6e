"""What is left of exchanges in the proxy of layer 7 when they are over."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable

import h2.connection
import h2.events
import pytest

from servers.proxies.exchange import Exchange
from tests.proxies.conftest import TIMEOUT_S, Upstream, read_head
from tests.proxies.http3_origin import DOWN, proxying
from tests.servers.http3_harness import asking

_REQUESTS = 8

StartUpstream = Callable[[Callable[[socket.socket], object]], Upstream]


def at_once(sock: socket.socket) -> None:
    """Gives each answer in one piece."""
    while read_head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def kept() -> int:
    gc.collect()
    return sum(type(found) is Exchange for found in gc.get_objects())


async def ask_over_http2(port: int, count: int) -> int:
    """Exchanges that are kept behind so many, while the connection lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = h2.connection.H2Connection()
    client.initiate_connection()
    for _ in range(count):
        client.send_headers(
            client.get_next_available_stream_id(),
            [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
            end_stream=True,
        )
        writer.write(client.data_to_send())
        async with asyncio.timeout(TIMEOUT_S):
            while not any(
                isinstance(event, h2.events.StreamEnded) for event in client.receive_data(await reader.read(1 << 16))
            ):
                pass
    found = kept()
    writer.close()
    await writer.wait_closed()
    return found


async def ask_over_http3(port: int, count: int) -> int:
    """The same."""
    async with asking(port) as client:
        for _ in range(count):
            assert (await client.ask("GET", "/")).body == b"ok"
        return kept()


@pytest.mark.parametrize(("ask", "spec"), [(ask_over_http2, {"http": "2"}), (ask_over_http3, DOWN)])
def test_nothing_is_kept_of_what_is_over(
    start_upstream: StartUpstream, ask: Callable[[int, int], Awaitable[int]], spec: dict[str, str]
) -> None:
    async def run() -> None:
        before = kept()
        async with proxying(start_upstream(at_once).port, **spec) as (port, _):
            assert await ask(port, _REQUESTS) <= before + 1  # the last one may be on its way out

    asyncio.run(run())
