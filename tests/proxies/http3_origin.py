"""For tests of HTTP/3 through the proxy: a proxy of layer 7 on the running loop, and upstreams that are aioquic's own
server (nobody here wrote it) and do what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamReset

from bench.certificates import certificates
from servers.proxies.layer7 import Layer7
from servers.proxies.spec import Counts, ProxySpec
from servers.proxies.upstreams import Upstreams
from tests.servers.http3_harness import DEADLINE_S

CERTIFICATE = {"certificate": str(certificates().certificate), "private_key": str(certificates().private_key)}
DOWN = {"http": "3", "tls": "1.3", **CERTIFICATE}
UP = {"upstream_http": "3", "upstream_tls": "1.3", "authorities": str(certificates().authority)}


@contextlib.asynccontextmanager
async def proxying(*ports: int, **spec: Any) -> AsyncIterator[tuple[int, Counts]]:
    """A proxy of layer 7 in front of these ports of 127.0.0.1: its own port, and what it counts. It shares its loop
    with both ends, so a machine that is busy elsewhere holds up every step of a handshake: it may take long."""
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    upstreams = tuple(("127.0.0.1", port) for port in ports)
    made = ProxySpec(layer=7, upstreams=upstreams, **{"connect_timeout_s": DEADLINE_S, **spec})
    counts = Counts()
    proxy = Layer7(made, Upstreams(made), counts)
    listener = await proxy.listen()
    proxy.start()
    try:
        yield listener.port, counts
    finally:
        proxy.abort()
        await asyncio.sleep(0)
        listener.close()
    assert [(str(context), repr(context.get("exception"))) for context in raised] == []


class Origin(QuicConnectionProtocol):
    """One connection of an upstream."""

    def __init__(self, upstream: "Http3Upstreams", *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.quic = self._quic
        self.http = H3Connection(self._quic)
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.given_up: dict[int, int] = {}
        """Streams that the proxy wants no answer of, with the code."""
        self._upstream = upstream
        upstream.connections.append(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StopSendingReceived | StreamReset):
            self.given_up[event.stream_id] = event.error_code
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, HeadersReceived):
                self.heads[http_event.stream_id] = dict(http_event.headers)
                self.bodies[http_event.stream_id] = bytearray()
            elif isinstance(http_event, DataReceived):
                self.bodies[http_event.stream_id] += http_event.data
            if isinstance(http_event, HeadersReceived | DataReceived):
                self._upstream.handle(self, http_event.stream_id, http_event.stream_ended)
        self._upstream.changed.set()

    def answer(self, stream_id: int, body: bytes = b"", *fields: tuple[bytes, bytes], end: bool = True) -> None:
        self.http.send_headers(stream_id, [(b":status", b"200"), *fields])
        self.http.send_data(stream_id, body, end_stream=end)
        self.transmit()


class Http3Upstreams:
    """An upstream on a port: `handle(origin, stream_id, is_end)` is called for what comes of each request."""

    def __init__(self, handle: Callable[[Origin, int, bool], object]) -> None:
        self.handle = handle
        self.connections: list[Origin] = []
        self.changed = asyncio.Event()
        self.server: QuicServer
        self.port = 0
        self.is_gone = False

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def kill(self) -> None:
        """Be gone without a word."""
        self.is_gone = True
        for origin in self.connections:
            origin.transmit = lambda: None  # type: ignore[method-assign]  # a host that is gone has no timers
        assert self.server._transport is not None
        self.server._transport.abort()  # type: ignore[attr-defined]  # it is a DatagramTransport


@contextlib.asynccontextmanager
async def upstream(handle: Callable[[Origin, int, bool], object]) -> AsyncIterator[Http3Upstreams]:
    settings = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    settings.load_cert_chain(CERTIFICATE["certificate"], CERTIFICATE["private_key"])
    made = Http3Upstreams(handle)
    made.server = await serve(
        "127.0.0.1",
        0,
        configuration=settings,
        create_protocol=lambda *args, **options: Origin(made, *args, **options),
    )
    assert made.server._transport is not None
    made.port = made.server._transport.get_extra_info("sockname")[1]
    try:
        yield made
    finally:
        if not made.is_gone:
            made.server.close()


def stall(quic: Any) -> Callable[[], None]:
    """Have that end give its peer no credit for streams; gives what undoes it."""
    quic._write_stream_limits = lambda **options: None

    def undo() -> None:
        del quic._write_stream_limits

    return undo
