"""Requests that come with the first flight of HTTP/3 connections (0-RTT, RFC 8470), beside what `test_http3_resumption`
has: from aioquic's asyncio client, and recorded bytes for a connection that still stands."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, QuicEvent
from aioquic.tls import SessionTicket

from bench import contract
from bench.certificates import certificates
from bench.wire.http3 import Frame, encode_block, encode_frame
from bench.wire.quic_tickets import ServerTickets
from servers.counters import REQUESTS
from tests.servers.http3_harness import DEADLINE_S, Headers, Oracle, serving


class Client(Oracle):
    """aioquic's client, and how its handshake went."""

    handshake: HandshakeCompleted | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        super().quic_event_received(event)

    def begin(self, headers: Headers, body: bytes | None = None, end: bool = True) -> int:
        assert body is not None or end
        return super().begin(headers, body, end)


def configuration(ticket: SessionTicket | None = None) -> QuicConfiguration:
    settings = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost", session_ticket=ticket)
    settings.load_verify_locations(cadata=Path(certificates().authority).read_bytes())
    return settings


@contextlib.asynccontextmanager
async def talking(port: int, ticket: SessionTicket | None, tickets: list[SessionTicket]) -> AsyncIterator[Client]:
    """A client that sends nothing before it is asked to, and what tickets it gets."""
    async with connect(
        "127.0.0.1",
        port,
        configuration=configuration(ticket),
        create_protocol=Client,
        session_ticket_handler=tickets.append,
        wait_connected=False,
    ) as client:
        assert isinstance(client, Client)
        yield client


async def ticket_of(port: int) -> SessionTicket:
    tickets: list[SessionTicket] = []
    async with talking(port, None, tickets) as client:
        client.transmit()
        await client.wait_connected()
        assert (await client.ask("GET", "/health")).body == b"ok"
        await client.until(lambda: tickets)
        assert client.handshake is not None
        assert not client.handshake.session_resumed
    return tickets[0]


def test_short_and_long_answers() -> None:
    async def run() -> None:
        async with serving() as (port, _, worker):
            ticket = await ticket_of(port)
            for size in (5, 30_000):
                tickets: list[SessionTicket] = []
                async with talking(port, ticket, tickets) as client:
                    asked = client.begin(client.head("GET", f"/bytes/{size}"))
                    assert client.handshake is None
                    answer = await client.answer(asked)
                    assert (answer.status, answer.body) == (b"200", contract.pattern(size))
                    assert client.handshake is not None
                    assert client.handshake.early_data_accepted
                    await client.until(lambda: tickets)  # noqa: B023  it is waited for here
                    assert (await client.ask("POST", "/echo", b"now")).body == b"now"
                ticket = tickets[0]
            assert worker.counts[REQUESTS] == 5

    asyncio.run(run())


@pytest.mark.parametrize(("method", "status"), [("GET", b"200"), ("POST", b"425")])
def test_an_intermediary_that_took_early_data(method: str, status: bytes) -> None:
    """RFC 8470, section 5.1: a whole handshake later than the request's own."""

    async def run() -> None:
        async with serving() as (port, _, _), talking(port, None, []) as client:
            client.transmit()
            await client.wait_connected()
            path, body = ("/health", None) if method == "GET" else ("/echo", b"body")
            assert (await client.ask(method, path, body, (b"early-data", b"1"))).status == status

    asyncio.run(run())


def first_flight(port: int, ticket: SessionTicket) -> list[bytes]:
    """What a client sends that asks for /health at once."""
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/health")]
    client = QuicConnection(configuration=configuration(ticket))
    client.connect(("127.0.0.1", port), time.monotonic())
    client.send_stream_data(0, encode_frame(Frame.HEADERS, encode_block(fields)), end_stream=True)
    return [data for data, _ in client.datagrams_to_send(time.monotonic())]


@pytest.fixture
def attacker() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def test_a_replay_to_a_connection_that_still_stands(attacker: socket.socket) -> None:
    async def run() -> None:
        async with serving() as (port, _, worker):
            flight = first_flight(port, await ticket_of(port))
            asked = worker.counts[REQUESTS]
            await play(flight, port)
            assert worker.counts[REQUESTS] == asked + 1
            for _ in range(3):
                await play(flight, port)
            assert worker.counts[REQUESTS] == asked + 1

    async def play(flight: list[bytes], port: int) -> None:
        for data in flight:
            attacker.sendto(data, ("127.0.0.1", port))
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_recv(attacker, 65536)  # the server has read it
        with contextlib.suppress(BlockingIOError):
            while attacker.recv(65536):
                pass
        # Another client's exchange comes after all of it.
        async with talking(port, None, []) as client:
            client.transmit()
            await client.wait_connected()

    asyncio.run(run())


def test_early_data_without_a_ticket_of_ours() -> None:
    async def run() -> None:
        async with serving() as (port, _, worker):
            ticket = await ticket_of(port)
        async with serving() as (port, server, worker):
            server.tickets = ServerTickets()  # another server's
            async with talking(port, ticket, []) as client:
                assert (await client.ask("GET", "/bytes/3000")).body == contract.pattern(3000)
                assert client.handshake is not None
                assert not client.handshake.session_resumed
            assert worker.counts[REQUESTS] == 1

    asyncio.run(run())


def test_a_server_keeps_so_many_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.wire.quic_tickets.MAX_TICKETS", 3)
    tickets = ServerTickets()
    made: list[Any] = [SessionTicket(0, 0, None, None, b"", "", bytes([n])) for n in range(5)]  # type: ignore[arg-type]
    for ticket in made:
        tickets.keep(ticket)
    assert [tickets.take(bytes([n])) for n in (0, 1, 2, 2, 3, 4, 9)] == [
        None,
        None,
        made[2],
        None,
        made[3],
        made[4],
        None,
    ]
