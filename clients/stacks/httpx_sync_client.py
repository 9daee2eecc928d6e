"""httpx.Client, with one connection and one thread, which waits for each answer."""

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import httpx

from bench.contract import Security
from bench.errors import ErrorKind
from clients.stacks.httpx_client import check_version, client_options, failure_of, opening_error
from clients.stacks.task_session import TaskSession


class HttpxSyncClient(TaskSession):
    """HTTP/1.1. The thread that waits for an answer can only be called back by ending the connection."""

    most_in_flight: ClassVar[int] = 1
    http2: ClassVar[bool] = False
    can_abandon: ClassVar[bool] = False
    _client: httpx.Client | None = None
    _socket: Any = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="httpx")
        self._headers = {"host": self.authority}
        self._extensions = {"sni_hostname": security.server_name} if security is not None else {}
        self._client = httpx.Client(**client_options(host, port, security, self.http2))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect, self._client)

    async def ask(self) -> ErrorKind | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask)

    def shut(self) -> None:
        if self._client is not None:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # wakes who reads from it
            self._thread.shutdown(wait=False, cancel_futures=True)
            threading.Thread(target=self._close, args=(self._client,), name="httpx-closing").start()

    # On the thread

    def _close(self, client: httpx.Client) -> None:
        self._thread.shutdown()  # it may be opening a connection, which would outlive its pool
        client.close()

    def _connect(self, client: httpx.Client) -> None:
        try:
            response = client.request("OPTIONS", self.exchange.path, headers=self._headers, extensions=self._extensions)
        except httpx.TransportError as error:
            raise opening_error(error) from error
        check_version(response, self.http2)
        self._socket = response.extensions["network_stream"].get_extra_info("socket")

    def _ask(self) -> ErrorKind | None:
        assert self._client is not None
        exchange = self.exchange
        try:
            response = self._client.request(
                exchange.method,
                exchange.path,
                content=exchange.body or None,
                headers=self._headers,
                extensions=self._extensions,
            )
        except httpx.TransportError as error:
            return failure_of(error)
        return self.judge(response.is_success, response.content)


class HttpxSyncHttp2Client(HttpxSyncClient):
    """HTTP/2; without TLS by prior knowledge. One stream at a time: httpcore takes a stream's number and sends its
    HEADERS in two steps and holds no other thread off meanwhile, so that a server sees streams out of order and rightly
    ends the connection (6 of 2,000 requests of eight threads were lost to that)."""

    http2: ClassVar[bool] = True
