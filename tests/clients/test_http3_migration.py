"""Downloads of the lean HTTP/3 client that go on when a NAT on the way gives them another port."""

import asyncio
from typing import Any

import pytest

from bench.contract import Opcode, exchange
from clients.http3 import Http3Client
from servers.http3 import Http3Endpoint
from servers.stacks.aioquic_server import AioquicServer
from tests.clients.test_http3_client import Driver
from tests.servers.http3_harness import DEADLINE_S, Network, between, serving, trusting

SIZE = 8 * 1024 * 1024


async def download(network: Network, moves: int) -> Driver:
    """A download on whose way the port changes that often."""
    client = Http3Client(exchange(Opcode.BYTES, SIZE), f"localhost:{network.port}", True)
    driver = Driver(client, 1, 1)
    async with asyncio.timeout(4 * DEADLINE_S):
        await client.connect("127.0.0.1", network.port, trusting(), driver)
        try:
            driver.start()
            for turn in range(moves):
                while network.carried_bytes < (turn + 1) * SIZE // (moves + 2):
                    await asyncio.sleep(0.001)
                assert not driver.over.is_set()
                await network.move()
            await driver.over.wait()
        finally:
            client.close()
    return driver


@pytest.mark.parametrize("listener", [Http3Endpoint, AioquicServer])
@pytest.mark.parametrize("moves", [1, 3])
def test_another_port(listener: Any, moves: int) -> None:
    async def run() -> None:
        async with serving(listener) as (port, _, _), between(port, 0, 0.0) as network:
            driver = await download(network, moves)
            assert (len(driver.done), driver.failed, driver.error) == (1, [], None)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(2))
def test_another_port_and_losses(seed: int) -> None:
    async def run() -> None:
        async with serving() as (port, _, _), between(port, seed, 0.01) as network:
            driver = await download(network, 2)
            assert (len(driver.done), driver.failed, driver.error) == (1, [], None)
            assert network.lost

    asyncio.run(run())


def test_most_packets_go_the_short_way_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has changed the connection ID that it sends to, too."""

    async def run() -> None:
        async with serving() as (port, _, _), between(port, 0, 0.0) as network:
            client = Http3Client(exchange(Opcode.BYTES, 100), f"localhost:{network.port}", True)
            driver = Driver(client, 1500, 1)
            async with asyncio.timeout(DEADLINE_S):
                await client.connect("127.0.0.1", network.port, trusting(), driver)
                driver.start()
                while len(driver.done) < 100:
                    await asyncio.sleep(0.001)
                await network.move()
                assert client._connection is not None
                client._connection.quic.change_connection_id()
                while len(driver.done) < 500:
                    await asyncio.sleep(0.001)
                slow = 0

                def count(*args: Any) -> None:
                    nonlocal slow
                    slow += 1
                    receive(*args)

                quic = client._connection.quic
                receive = quic.receive_datagram
                monkeypatch.setattr(quic, "receive_datagram", count)
                before = len(driver.done)
                await driver.over.wait()
                assert slow < (1500 - before) / 5
            client.close()

    asyncio.run(run())
