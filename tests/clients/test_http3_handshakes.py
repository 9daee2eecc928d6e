"""How connections of the lean HTTP/3 client begin: in full, resumed, and with early data; against our server and
aioquic's own."""

import asyncio
import socket
from dataclasses import replace

import pytest

from bench.contract import Handshake, Opcode, Security, exchange
from bench.wire.quic_tickets import ServerTickets
from clients.http3 import Http3Client
from clients.quic_tickets import tickets
from servers.stacks.aioquic_server import AioquicServer
from tests.clients.test_http3_client import Driver
from tests.servers.http3_harness import DEADLINE_S, between, serving, trusting


def asking_for(handshake: Handshake) -> Security:
    return replace(trusting(), handshake=handshake)


async def exchange_one(port: int, security: Security, operation: Opcode = Opcode.BYTES) -> tuple[Driver, Http3Client]:
    """A connection with one exchange; closed once its ticket has come."""
    client = Http3Client(exchange(operation, 300), f"localhost:{port}", True)
    driver = Driver(client, 1, 1)
    async with asyncio.timeout(DEADLINE_S):
        await client.connect("127.0.0.1", port, security, driver)
        driver.start()
        await driver.over.wait()
        before = len(tickets(("127.0.0.1", port), security))
        client.close()
        assert client._connection is not None
        while not client._connection.ended:
            await asyncio.sleep(0.001)
    assert len(tickets(("127.0.0.1", port), security)) in (before, before + 1)
    return driver, client


@pytest.mark.parametrize("handshake", ["resumed", "early-data"])
def test_one_connection_begets_the_next(handshake: Handshake) -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            security = asking_for(handshake)
            shortfalls = []
            for _ in range(4):
                driver, client = await exchange_one(port, security)
                assert (len(driver.done), driver.failed, driver.error) == (1, [], None)
                shortfalls.append(client.shortfall)
                assert client._connection is not None
                assert client._connection.quic.tls.early_data_accepted is (
                    handshake == "early-data" and len(shortfalls) > 1
                )
            assert shortfalls == ["not-resumed", None, None, None]

    asyncio.run(run())


def test_full_handshakes_get_no_tickets() -> None:
    async def run() -> None:
        async with serving() as (port, server, _):
            server.tickets = ServerTickets()
            _, client = await exchange_one(port, trusting())
            assert client.shortfall is None
            assert not server.tickets._tickets

    asyncio.run(run())


def test_an_unsafe_request_is_too_early() -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            security = asking_for("early-data")
            assert (await exchange_one(port, security, Opcode.ECHO))[0].failed == []
            driver, client = await exchange_one(port, security, Opcode.ECHO)
            assert driver.kinds == ["status"]
            assert client.shortfall is None

    asyncio.run(run())


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_a_server_that_knows_the_ticket_no_more(loss: float) -> None:
    """The request is sent again, the answer is right, and that it was not early is known."""

    async def run() -> None:
        async with serving() as (port, server, _), between(port, 1, loss) as network:
            security = asking_for("early-data")
            for _ in range(3):
                await exchange_one(network.port, security)
                server.tickets._tickets.clear()
                driver, client = await exchange_one(network.port, security)
                assert (len(driver.done), driver.failed, driver.error) == (1, [], None)
                assert client.shortfall == "not-resumed"

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_losses(seed: int) -> None:
    async def run() -> None:
        async with serving() as (port, _, _), between(port, seed, 0.1) as network:
            security = asking_for("early-data")
            for _ in range(10):
                driver, _ = await exchange_one(network.port, security)
                assert (len(driver.done), driver.failed, driver.error) == (1, [], None)
            assert network.lost

    asyncio.run(run())


class WithTickets(AioquicServer):
    """aioquic's own server, which gives tickets and takes early data."""

    async def start(self, sock: socket.socket, backlog: int) -> None:
        await super().start(sock, backlog)
        kept = ServerTickets()
        self._server._session_ticket_fetcher, self._server._session_ticket_handler = kept.take, kept.keep


@pytest.mark.parametrize("handshake", ["resumed", "early-data"])
def test_against_aioquic(handshake: Handshake) -> None:
    async def run() -> None:
        async with serving(WithTickets) as (port, _, _):
            security = asking_for(handshake)
            for shortfall in ("not-resumed", None, None):
                driver, client = await exchange_one(port, security)
                assert (len(driver.done), driver.failed, client.shortfall) == (1, [], shortfall)

    asyncio.run(run())
