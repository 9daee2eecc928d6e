"""The lean HTTP/2 client on a connection over TLS of its own, for whom it is one of several."""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, cast

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ProtocolError
from clients.http2 import Http2Client
from clients.stacks.security import client_context


class Http2Session(asyncio.Protocol):
    """One connection (see `bench.load.client.Session`)."""

    transport_kind: ClassVar = "session"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        self._client = Http2Client(exchange, authority, check_content)
        self.failures = self._client.failures
        self._link: SessionLink | None = None
        """None once there is nothing to be told."""
        self._transport: asyncio.Transport | None = None

    @property
    def max_in_flight(self) -> int:
        return self._client.max_in_flight

    @property
    def closing(self) -> bool:
        return self._client.closing

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        assert security is not None
        (alpn,) = self._client.alpn
        context = client_context(security, alpn)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self, host, port, ssl=context, server_hostname=security.server_name
        )
        selected: Any = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if selected != alpn:
            transport.abort()
            raise ProtocolError(f"it does not speak {alpn} (ALPN)")
        self._link = link

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids, pieces = self._client.request(count)
        self._write(pieces)
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        usable = self._client.abandon(exchange_id)
        self._send_outgoing()
        return usable

    def close(self) -> None:
        self._client.closing = True
        self._link = None
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client.open()
        self._send_outgoing()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            ids = self._client.feed(data)
        except ProtocolError as error:
            self._send_outgoing()
            self._lost(error)
            self._transport.abort()
            return
        self._send_outgoing()
        if self._link is not None and (ids or self.failures):
            self._link.answered(ids)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost(exc)

    def _lost(self, error: Exception | None) -> None:
        link, self._link = self._link, None
        self._client.closing = True
        if link is not None:
            link.lost(error)

    def _send_outgoing(self) -> None:
        self._write(self._client.outgoing)
        self._client.outgoing.clear()

    def _write(self, pieces: list[bytes]) -> None:
        if pieces and self._transport is not None:
            self._transport.write(b"".join(pieces))
