"""Resumed handshakes and early data (0-RTT) of the HTTP/3 server, asked by aioquic's own client."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.tls import SessionTicket

from bench.certificates import certificates
from bench.contract import pattern
from servers.counters import REQUESTS
from servers.http3 import Http3Endpoint
from servers.worker import Worker
from tests.servers.http3_harness import DEADLINE_S, new_worker

GET = ("GET", "/bytes/5", None)
POST = ("POST", "/echo", b"hello")

Asked = tuple[str, str, bytes | None]


@contextlib.asynccontextmanager
async def serving(early_data: bool = True) -> AsyncIterator[tuple[int, Http3Endpoint, Worker]]:
    """A server on a free port of 127.0.0.1 that takes early data or none."""
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    worker = new_worker(early_data=early_data)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        worker.spec = replace(worker.spec, port=sock.getsockname()[1])  # tickets of its own
        server = Http3Endpoint(worker)
        await server.start(sock, 16)
        try:
            yield sock.getsockname()[1], server, worker
        finally:
            worker.draining = True
            await server.stop(0.05)
    assert raised == []


class Talker:
    """aioquic's QUIC and HTTP/3, whose datagrams leave when the test says so."""

    def __init__(self, port: int, ticket: SessionTicket | None = None) -> None:
        settings = QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name="localhost", session_ticket=ticket
        )
        settings.load_verify_locations(cadata=Path(certificates().authority).read_bytes())
        self.tickets: list[SessionTicket] = []
        self.quic = QuicConnection(configuration=settings, session_ticket_handler=self.tickets.append)
        self.statuses: dict[int, bytes] = {}
        self.bodies: dict[int, bytes] = {}
        self.over: set[int] = set()
        self.shaken: HandshakeCompleted | None = None
        self._address = ("127.0.0.1", port)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.connect(self._address)
        self.quic.connect(self._address, time.monotonic())
        self._http = H3Connection(self.quic)

    def ask(self, *asked: Asked) -> list[int]:
        """Queue requests; gives their streams."""
        ids = []
        for method, path, body in asked:
            stream_id = self.quic.get_next_available_stream_id()
            head = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
            fields = [(name.encode(), value.encode()) for name, value in head.items()]
            self._http.send_headers(stream_id, fields, end_stream=body is None)
            if body is not None:
                self._http.send_data(stream_id, body, end_stream=True)
            ids.append(stream_id)
        return ids

    def flight(self) -> list[bytes]:
        """What is to be sent now."""
        return [data for data, _ in self.quic.datagrams_to_send(time.monotonic())]

    def send(self) -> None:
        for data in self.flight():
            self._sock.send(data)

    async def until_answered(self, ids: list[int]) -> None:
        await self._until(lambda: self.over.issuperset(ids))

    async def ticket(self) -> SessionTicket:
        """What the next connection begins with."""
        await self._until(lambda: bool(self.tickets))
        return self.tickets[-1]

    async def until_ended(self) -> ConnectionTerminated:
        await self._until(lambda: self.quic._close_event is not None)
        assert self.quic._close_event is not None
        return self.quic._close_event

    def close(self) -> None:
        self.quic.close()
        self.send()
        self._sock.close()

    async def _until(self, condition: Any) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.send()
                self.quic.receive_datagram(await loop.sock_recv(self._sock, 65536), self._address, time.monotonic())
                self._take_events()
        self.send()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.shaken = event
            for told in self._http.handle_event(event):
                if isinstance(told, HeadersReceived):
                    self.statuses[told.stream_id] = dict(told.headers)[b":status"]
                elif isinstance(told, DataReceived):
                    self.bodies[told.stream_id] = self.bodies.get(told.stream_id, b"") + told.data
                if isinstance(told, HeadersReceived | DataReceived) and told.stream_ended:
                    self.over.add(told.stream_id)


async def ticket_of(port: int) -> SessionTicket:
    first = Talker(port)
    await first.until_answered(first.ask(GET))
    ticket = await first.ticket()
    first.close()
    return ticket


@pytest.mark.parametrize("early_data", [False, True])
def test_handshakes_are_resumed(early_data: bool) -> None:
    async def run() -> None:
        async with serving(early_data) as (port, _, _):
            ticket = await ticket_of(port)
            assert (ticket.max_early_data_size is not None) == early_data
            for _ in range(3):
                talker = Talker(port, replace(ticket, max_early_data_size=None))
                ids = talker.ask(GET, POST)
                await talker.until_answered(ids)
                assert talker.shaken is not None
                assert (talker.shaken.session_resumed, talker.shaken.early_data_accepted) == (True, False)
                assert [talker.bodies[stream_id] for stream_id in ids] == [pattern(5), b"hello"]
                ticket = await talker.ticket()
                talker.close()

    asyncio.run(run())


def test_a_safe_request_is_answered_before_the_handshake_is_over() -> None:
    async def run() -> None:
        async with serving() as (port, _, worker):
            ticket = await ticket_of(port)
            before = worker.counts[REQUESTS]
            talker = Talker(port, ticket)
            ids = talker.ask(GET)
            await talker.until_answered(ids)  # what it sends when it has the server's flight comes after the answer
            assert talker.shaken is not None
            assert (talker.shaken.session_resumed, talker.shaken.early_data_accepted) == (True, True)
            assert talker.bodies[ids[0]] == pattern(5)
            assert worker.counts[REQUESTS] == before + 1
            await talker.until_answered(late := talker.ask(POST))
            assert (talker.statuses[late[0]], talker.bodies[late[0]]) == (b"200", b"hello")
            talker.close()

    asyncio.run(run())


def test_an_unsafe_request_is_too_early_and_a_safe_one_beside_it_is_not() -> None:
    """RFC 8470, section 5.2."""

    async def run() -> None:
        async with serving() as (port, _, _):
            talker = Talker(port, await ticket_of(port))
            ids = talker.ask(POST, GET, ("PUT", "/upload", b"x"), ("GET", "/nothing", None))
            await talker.until_answered(ids)
            assert talker.shaken is not None
            assert talker.shaken.early_data_accepted
            assert [talker.statuses[stream_id] for stream_id in ids] == [b"425", b"200", b"425", b"404"]
            await talker.until_answered(late := talker.ask(POST))
            assert talker.statuses[late[0]] == b"200"
            talker.close()

    asyncio.run(run())


def test_an_unsafe_request_that_ends_after_the_handshake_is_not_too_early() -> None:
    """RFC 8470, section 3: it was not acted upon before the handshake was over, so that it is no replay."""

    async def run() -> None:
        async with serving() as (port, _, _):
            talker = Talker(port, await ticket_of(port))
            stream_id = talker.quic.get_next_available_stream_id()
            head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/echo")]
            talker._http.send_headers(stream_id, head)
            await talker.until_answered(talker.ask(GET))
            await talker.ticket()  # the server's handshake is over
            talker._http.send_data(stream_id, b"late", end_stream=True)
            await talker.until_answered([stream_id])
            assert (talker.statuses[stream_id], talker.bodies[stream_id]) == (b"200", b"late")
            talker.close()

    asyncio.run(run())


def test_a_recorded_first_flight_is_acted_upon_once() -> None:
    """RFC 8446, section 8.1: its ticket is gone."""

    async def run() -> None:
        async with serving() as (port, server, worker):
            talker = Talker(port, await ticket_of(port))
            before = worker.counts[REQUESTS]
            talker.ask(GET)
            flight = talker.flight()
            loop = asyncio.get_running_loop()
            for _ in range(3):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    sock.connect(("127.0.0.1", port))
                    for data in flight:
                        sock.send(data)
                    if worker.counts[REQUESTS] == before:
                        async with asyncio.timeout(DEADLINE_S):  # the server's own flight: the first has been read
                            await loop.sock_recv(sock, 65536)
                    # The connection of the first is forgotten, as it is when the server has closed it.
                    for connection in list(server._connections):
                        connection.end()
                        server.forget(connection)
            assert worker.counts[REQUESTS] == before + 1
            talker._sock.close()

    asyncio.run(run())


def test_a_ticket_serves_once() -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            ticket = await ticket_of(port)
            for is_first in (True, False):
                talker = Talker(port, ticket)
                await talker.until_answered(talker.ask(POST))
                assert talker.shaken is not None
                assert talker.shaken.session_resumed == talker.shaken.early_data_accepted == is_first
                talker.close()

    asyncio.run(run())


def test_early_data_that_no_ticket_allowed_is_refused() -> None:
    """RFC 8446, section 4.2.10: the server offers none, and the client sends it all the same."""

    async def run() -> None:
        async with serving(early_data=False) as (port, _, worker):
            ticket = await ticket_of(port)
            before = worker.counts[REQUESTS]
            talker = Talker(port, replace(ticket, max_early_data_size=0xFFFFFFFF))
            talker.ask(GET)
            assert (await talker.until_ended()).error_code == 0x100 + 47  # illegal_parameter
            assert worker.counts[REQUESTS] == before
            talker.close()

    asyncio.run(run())
