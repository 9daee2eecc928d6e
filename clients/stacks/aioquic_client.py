"""HTTP/3 as aioquic's examples ask for it: its own asyncio protocol and HTTP/3 layer, used plainly."""

import asyncio
import socket
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamReset

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind
from bench.wire.quic_security import configure, connection_error

MAX_IN_FLIGHT = 100
"""Below the 128 streams that aioquic's servers allow; what is past a server's own limit waits in aioquic."""


class _Answer:
    """An exchange in flight."""

    __slots__ = ("error", "received_bytes", "status")

    def __init__(self) -> None:
        self.status = b""
        self.received_bytes = 0
        self.error: ErrorKind | None = None


class _Protocol(QuicConnectionProtocol):
    """aioquic's protocol, which hands its events to the client."""

    def __init__(self, quic: QuicConnection, client: "AioquicClient") -> None:
        super().__init__(quic)
        self.http = H3Connection(quic)
        self.quic = quic
        self._client = client

    def quic_event_received(self, event: QuicEvent) -> None:
        self._client.event_received(event)

    def error_received(self, exc: Exception) -> None:
        self._client.lost(exc)


class AioquicClient:
    """One connection. Ids are stream ids."""

    transport_kind: ClassVar = "session"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        self.max_in_flight = MAX_IN_FLIGHT
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._exchange = exchange
        self._check_content = check_content
        self._head = [
            (b":method", exchange.method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", authority.encode("ascii")),
            (b":path", exchange.path.encode("ascii")),
        ]
        if exchange.body or exchange.method in ("POST", "PUT"):
            self._head.append((b"content-length", b"%d" % len(exchange.body)))
        self._answers: dict[int, _Answer] = {}
        self._link: SessionLink
        self._transport: asyncio.DatagramTransport | None = None
        self._protocol: _Protocol
        self._opened: asyncio.Future[None]
        self._ended = False

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        loop = asyncio.get_running_loop()
        self._link = link
        self._opened = loop.create_future()
        quic = QuicConnection(configuration=configure(host, security))
        family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        local = ("::", 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)
        self._transport, self._protocol = await loop.create_datagram_endpoint(
            lambda: _Protocol(quic, self), local_addr=local
        )
        try:
            self._protocol.connect(address)
            await self._opened
        except BaseException:
            self.close()
            raise

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = []
        body = self._exchange.body
        quic, http = self._protocol.quic, self._protocol.http
        for _ in range(count):
            stream_id = quic.get_next_available_stream_id()
            http.send_headers(stream_id, self._head, end_stream=not body)
            if body:
                http.send_data(stream_id, body, end_stream=True)
            self._answers[stream_id] = _Answer()
            ids.append(stream_id)
        self._protocol.transmit()
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, int)
        self._answers.pop(exchange_id, None)
        self._protocol.quic.reset_stream(exchange_id, ErrorCode.H3_REQUEST_CANCELLED)
        self._protocol.quic.stop_stream(exchange_id, ErrorCode.H3_REQUEST_CANCELLED)
        self._protocol.transmit()
        return True

    def close(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._protocol.close(ErrorCode.H3_NO_ERROR)
            self._transport.close()

    # From the protocol

    def event_received(self, event: QuicEvent) -> None:
        if self._ended:
            return
        if isinstance(event, HandshakeCompleted):
            self._opened.set_result(None)
        elif isinstance(event, ConnectionTerminated):
            self.lost(connection_error(event))
        elif isinstance(event, StreamReset) and self._answers.pop(event.stream_id, None) is not None:
            self.failures.append((event.stream_id, "reset"))
            self._link.answered(())
        for http_event in self._protocol.http.handle_event(event):
            if isinstance(http_event, HeadersReceived | DataReceived):
                self._answer_received(http_event)

    def lost(self, error: Exception) -> None:
        if self._ended:
            return
        self._ended = self.closing = True
        if not self._opened.done():
            self._opened.set_exception(error)
        else:
            self._link.lost(error)

    def _answer_received(self, event: HeadersReceived | DataReceived) -> None:
        answer = self._answers.get(event.stream_id)
        if answer is None:
            return
        if isinstance(event, HeadersReceived):
            status = dict(event.headers).get(b":status", b"")
            if status:
                answer.status = status
        else:
            data, expected = event.data, self._exchange.answer
            if self._check_content and not expected.startswith(data, answer.received_bytes):
                answer.error = "content"
            answer.received_bytes += len(data)
        if event.stream_ended:
            self._complete(event.stream_id, answer)

    def _complete(self, stream_id: int, answer: _Answer) -> None:
        del self._answers[stream_id]
        ids: list[Any] = [stream_id]
        if not answer.status.startswith(b"2"):
            answer.error = "status"
        elif self._check_content and answer.received_bytes != len(self._exchange.answer):
            answer.error = "content"
        if answer.error is not None:
            self.failures.append((stream_id, answer.error))
            ids = []
        self._link.answered(ids)
