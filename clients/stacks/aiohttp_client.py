"""aiohttp's client, with one connection."""

from typing import Any, ClassVar

import aiohttp

from bench.contract import MAX_BODY_BYTES, Security
from bench.errors import ErrorKind, ProtocolError
from clients.stacks.library_session import LibrarySession, close_soon
from clients.stacks.message_session import MessageSession
from clients.stacks.security import cause, client_context
from clients.stacks.task_session import TaskSession


class _Aiohttp:
    """A session with one connection, and what requests have in common."""

    def __init__(self, owner: LibrarySession, host: str, port: int, security: Security | None, scheme: str) -> None:
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.url = f"{scheme if security is None else scheme + 's'}://{at}{owner.exchange.path}"
        self.options: dict[str, Any] = {"headers": {"host": owner.authority}}
        if security is not None:
            self.options |= {"ssl": client_context(security, "http/1.1"), "server_hostname": security.server_name}
        # Its environment says nothing to it, and waiting too long is the engine's business.
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=10.0**6),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
        )


class AiohttpClient(TaskSession):
    """HTTP/1.1. aiohttp connects when it is first asked for something; that is an OPTIONS request here."""

    most_in_flight: ClassVar[int] = 1
    can_abandon: ClassVar[bool] = False
    _aiohttp: _Aiohttp | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        self._aiohttp = _Aiohttp(self, host, port, security, "http")
        try:
            async with self._aiohttp.session.options(self._aiohttp.url, **self._aiohttp.options) as response:
                await response.read()
        except aiohttp.ClientError as error:
            raise cause(error) or ProtocolError(str(error)) from error

    async def ask(self) -> ErrorKind | None:
        used, exchange = self._aiohttp, self.exchange
        assert used is not None
        try:
            async with used.session.request(
                exchange.method, used.url, data=exchange.body or None, **used.options
            ) as response:
                answer = await response.read()
        except aiohttp.ClientResponseError as error:
            raise ProtocolError(str(error)) from error
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error
        return self.judge(200 <= response.status < 300, answer)

    def shut(self) -> None:
        if self._aiohttp is not None:
            close_soon(self._aiohttp.session.close())


class AiohttpWebsocketClient(MessageSession):
    """WebSocket. As the lean client it offers no compression; it sends no pings either."""

    _aiohttp: _Aiohttp | None = None
    _socket: aiohttp.ClientWebSocketResponse | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        self._aiohttp = _Aiohttp(self, host, port, security, "ws")
        try:
            self._socket = await self._aiohttp.session.ws_connect(
                self._aiohttp.url, compress=0, max_msg_size=MAX_BODY_BYTES, **self._aiohttp.options
            )
        except aiohttp.WSServerHandshakeError as error:
            raise ProtocolError(f"the server answers with status {error.status}") from error
        except aiohttp.ClientError as error:
            raise cause(error) or ProtocolError(str(error)) from error
        self.begin()

    async def send(self, message: bytes) -> None:
        assert self._socket is not None
        try:
            await self._socket.send_bytes(message)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error

    async def receive(self) -> str | bytes:
        assert self._socket is not None
        message = await self._socket.receive()
        if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            data: str | bytes = message.data
            return data
        if isinstance(message.data, aiohttp.WebSocketError):
            raise ProtocolError(str(message.data))
        raise ConnectionResetError("the server closed the connection")

    def shut(self) -> None:
        self.stop_reading()
        if self._aiohttp is not None:
            close_soon(self._close(self._aiohttp.session))

    async def _close(self, session: aiohttp.ClientSession) -> None:
        if self._socket is not None:
            await self._socket.close()
        await session.close()
