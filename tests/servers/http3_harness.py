"""HTTP/3 for tests: servers on the running loop, aioquic's own client (nobody here wrote it), and a network that loses
datagrams."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from bench.certificates import Certificates, certificates
from bench.contract import Security
from servers.counters import Counters
from servers.http3 import Http3Endpoint
from servers.worker import Deferrals, Worker, run_on_loop
from tests.servers.make_worker import SPEC, make_worker

DEADLINE_S = 10.0

Headers = list[tuple[bytes, bytes]]


def trusting(certs: Certificates | None = None, server_name: str = "localhost") -> Security:
    """The security of a client that trusts those certificates; by default this process's own."""
    return Security("1.3", str((certs or certificates()).authority), server_name, insecure=False)


def new_worker(certs: Certificates | None = None, early_data: bool = True) -> Worker:
    """A worker on the running loop, which takes early data, or none."""
    certs = certs or certificates()
    loop = asyncio.get_running_loop()
    deferrals = Deferrals()
    worker = make_worker(run_on_loop(loop, deferrals), loop.call_later, Counters(1)[0], deferrals)
    worker.spec = replace(
        SPEC,
        tls="1.3",
        certificate=str(certs.certificate),
        private_key=str(certs.private_key),
        workers=1,
        early_data=early_data,
    )
    return worker


@contextlib.asynccontextmanager
async def serving(
    listener: type[Any] = Http3Endpoint, certs: Certificates | None = None
) -> AsyncIterator[tuple[int, Any, Worker]]:
    """A server on a free port of 127.0.0.1: the port, the listener, and its worker."""
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    worker = new_worker(certs)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    server = listener(worker)
    await server.start(sock, 16)
    try:
        yield sock.getsockname()[1], server, worker
    finally:
        worker.draining = True
        try:
            await server.stop(0.05)
        finally:
            sock.close()
    assert [(str(context), repr(context.get("exception"))) for context in raised] == []


class Answer:
    """What came back on one stream."""

    def __init__(self) -> None:
        self.heads: list[dict[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.reset_code: int | None = None
        self.done = asyncio.Event()

    @property
    def status(self) -> bytes:
        return self.heads[-1][b":status"]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Oracle(QuicConnectionProtocol):
    """aioquic's client with its HTTP/3 layer, or with raw streams if `is_raw`."""

    is_raw = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.quic = self._quic
        self.http = None if self.is_raw else H3Connection(self._quic)
        self.answers: dict[int, Answer] = {}
        self.ended: ConnectionTerminated | None = None
        self.changed = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = event
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset_code = event.error_code
            self.answers[event.stream_id].done.set()
        for http_event in self.http.handle_event(event) if self.http else ():
            if isinstance(http_event, HeadersReceived | DataReceived):
                answer = self.answers[http_event.stream_id]
                if isinstance(http_event, HeadersReceived):
                    answer.heads.append(dict(http_event.headers))
                elif http_event.data:
                    answer.pieces.append(http_event.data)
                if http_event.stream_ended:
                    answer.done.set()
        self.changed.set()

    def head(self, method: str, path: str, *fields: tuple[bytes, bytes]) -> Headers:
        return [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
            *fields,
        ]

    def begin(self, headers: Headers, body: bytes | None = None, end: bool = True) -> int:
        """Send a request; gives its stream."""
        assert self.http is not None
        stream_id = self.quic.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.http.send_headers(stream_id, headers, end_stream=end and body is None)
        if body is not None:
            self.http.send_data(stream_id, body, end_stream=end)
        self.transmit()
        return stream_id

    async def answer(self, stream_id: int) -> Answer:
        answer = self.answers[stream_id]
        await asyncio.wait_for(answer.done.wait(), DEADLINE_S)
        return answer

    async def ask(self, method: str, path: str, body: bytes | None = None, *fields: tuple[bytes, bytes]) -> Answer:
        return await self.answer(self.begin(self.head(method, path, *fields), body))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that an event of the connection brings."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> ConnectionTerminated:
        """How the server ended the connection."""
        await self.until(lambda: self.ended or self.quic._close_event)
        ended = self.ended or self.quic._close_event
        assert ended is not None
        return ended


class RawOracle(Oracle):
    is_raw = True


@contextlib.asynccontextmanager
async def asking(port: int, protocol: type[Oracle] = Oracle, **configuration: Any) -> AsyncIterator[Any]:
    """aioquic's client, connected."""
    settings = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost", **configuration)
    settings.load_verify_locations(cadata=Path(certificates().authority).read_bytes())
    async with connect("127.0.0.1", port, configuration=settings, create_protocol=protocol) as client:
        yield client


class Network(asyncio.DatagramProtocol):
    """Between a client and a server: loses, repeats and reorders some of the datagrams, always the same for a seed."""

    def __init__(self, server_port: int, seed: int, loss: float) -> None:
        self._server = ("127.0.0.1", server_port)
        self._random = random.Random(seed)
        self.loss = loss
        self._transport: Any = None
        self._out: dict[Any, Any] = {}
        self.lost = 0
        self.carried_bytes = 0

    @property
    def port(self) -> int:
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asyncio.get_running_loop().create_task(self._forward(data, addr))

    async def _forward(self, data: bytes, addr: Any) -> None:
        if addr not in self._out:
            waiting = self._out[addr] = asyncio.get_running_loop().create_future()
            waiting.set_result(await self._connect(addr))
        out = self._out[addr]
        self._carry(sending(await out), data)

    async def _connect(self, addr: Any) -> Any:
        network = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: Any) -> None:
                network._carry(sending(network._transport, addr), data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Back, remote_addr=self._server)
        return transport

    async def move(self) -> None:
        """The way to the server has another address from now on, as after a NAT forgot the old one."""
        for addr in list(self._out):
            old = await self._out[addr]
            self._out[addr] = asyncio.get_running_loop().create_future()
            self._out[addr].set_result(await self._connect(addr))
            old.close()

    def _carry(self, send: Callable[[bytes], None], data: bytes) -> None:
        self.carried_bytes += len(data)
        chance = self._random.random()
        if chance < self.loss:
            self.lost += 1
        elif chance < 1.5 * self.loss:
            asyncio.get_running_loop().call_later(0.002, send, data)
        else:
            send(data)
            if chance < 2 * self.loss:
                send(data)

    async def close(self) -> None:
        for out in self._out.values():
            (await out).close()
        self._transport.close()


def sending(transport: Any, addr: Any = None) -> Callable[[bytes], None]:
    """Sends a datagram, unless the way is closed by then."""

    def send(data: bytes) -> None:
        if not transport.is_closing():
            transport.sendto(data, addr)

    return send


@contextlib.asynccontextmanager
async def between(server_port: int, seed: int, loss: float) -> AsyncIterator[Network]:
    """A lossy network before a server."""
    loop = asyncio.get_running_loop()
    _, network = await loop.create_datagram_endpoint(
        lambda: Network(server_port, seed, loss), local_addr=("127.0.0.1", 0)
    )
    try:
        yield network
    finally:
        await network.close()
