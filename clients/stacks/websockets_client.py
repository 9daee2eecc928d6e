"""The websockets library's asyncio client. As the lean client it offers no compression; it sends no pings either."""

from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake
from websockets.frames import CloseCode

from bench.contract import MAX_BODY_BYTES, Security
from bench.errors import ProtocolError
from clients.stacks.library_session import close_soon
from clients.stacks.message_session import MessageSession
from clients.stacks.security import client_context

_OF_PROTOCOL = {CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.MESSAGE_TOO_BIG}
"""Codes that the library closes with when the server has broken the protocol."""

_CLOSE_S = 1.0
"""How long the server may take for its half of the closing handshake."""


class WebsocketsClient(MessageSession):
    """One connection."""

    _connection: ClientConnection | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        scheme = "ws" if security is None else "wss"
        tls: dict[str, Any] = {}
        if security is not None:
            tls = {"ssl": client_context(security, "http/1.1"), "server_hostname": security.server_name}
        try:
            self._connection = await connect(
                f"{scheme}://{self.authority}{self.exchange.path}",
                host=host,
                port=port,
                compression=None,
                ping_interval=None,
                max_size=MAX_BODY_BYTES,
                proxy=None,
                open_timeout=None,
                close_timeout=_CLOSE_S,
                **tls,
            )
        except InvalidHandshake as error:
            raise ProtocolError(str(error)) from error
        self.begin()

    async def send(self, message: bytes) -> None:
        assert self._connection is not None
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from error

    async def receive(self) -> str | bytes:
        assert self._connection is not None
        try:
            return await self._connection.recv()
        except ConnectionClosedError as error:
            if error.sent is not None and error.sent.code in _OF_PROTOCOL and not error.rcvd_then_sent:
                raise ProtocolError(str(error)) from error
            raise ConnectionResetError(str(error)) from error
        except ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from error

    def shut(self) -> None:
        self.stop_reading()
        if self._connection is not None:
            close_soon(self._connection.close())
