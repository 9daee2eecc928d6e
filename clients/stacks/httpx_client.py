"""httpx.AsyncClient, with one connection."""

from typing import Any, ClassVar

import httpx

from bench.contract import Security
from bench.errors import ErrorKind, ProtocolError
from clients.stacks.library_session import close_soon
from clients.stacks.security import cause, client_context
from clients.stacks.task_session import TaskSession

STREAMS = 100
"""The most streams of HTTP/2 that httpx opens on one connection."""


def client_options(host: str, port: int, security: Security | None, http2: bool) -> dict[str, Any]:
    """The arguments of a client with one connection, for either of httpx's two. Its environment says nothing to it, and
    waiting too long is the engine's business."""
    scheme = "http" if security is None else "https"
    return {
        "base_url": f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}",
        "verify": client_context(security, "h2" if http2 else "http/1.1") if security is not None else True,
        "http1": not http2,
        "http2": http2,
        "limits": httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
        "timeout": None,
        "trust_env": False,
    }


def opening_error(error: httpx.TransportError) -> Exception:
    """What to raise if a connection cannot be opened."""
    return cause(error) or ProtocolError(str(error))


def failure_of(error: httpx.TransportError) -> ErrorKind:
    """How an exchange has failed, unless its connection is gone, which is raised as ConnectionResetError."""
    if "StreamReset" in str(error):  # httpx tells no more of it than this
        return "reset"
    raise ConnectionResetError(str(error)) from error


def check_version(response: httpx.Response, http2: bool) -> None:
    """Raises ProtocolError if the server speaks another version of HTTP than was asked for."""
    if (response.http_version == "HTTP/2") != http2:
        raise ProtocolError(f"the server speaks {response.http_version}")


class HttpxClient(TaskSession):
    """HTTP/1.1. httpx connects when it is first asked for something; that is an OPTIONS request here."""

    most_in_flight: ClassVar[int] = 1
    http2: ClassVar[bool] = False
    can_abandon: ClassVar[bool] = False
    _client: httpx.AsyncClient | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        self._client = httpx.AsyncClient(**client_options(host, port, security, self.http2))
        self._headers = {"host": self.authority}
        self._extensions = {"sni_hostname": security.server_name} if security is not None else {}
        try:
            response = await self._client.request(
                "OPTIONS", self.exchange.path, headers=self._headers, extensions=self._extensions
            )
        except httpx.TransportError as error:
            raise opening_error(error) from error
        check_version(response, self.http2)

    async def ask(self) -> ErrorKind | None:
        assert self._client is not None
        exchange = self.exchange
        try:
            response = await self._client.request(
                exchange.method,
                exchange.path,
                content=exchange.body or None,
                headers=self._headers,
                extensions=self._extensions,
            )
        except httpx.TransportError as error:
            return failure_of(error)
        return self.judge(response.is_success, response.content)

    def shut(self) -> None:
        if self._client is not None:
            close_soon(self._client.aclose())


class HttpxHttp2Client(HttpxClient):
    """HTTP/2; without TLS by prior knowledge."""

    most_in_flight: ClassVar[int] = STREAMS
    http2: ClassVar[bool] = True
    can_abandon: ClassVar[bool] = True
