"""A client of Python's own ssl, blocking, for servers that speak TLS."""

import socket
import ssl
from collections.abc import Sequence
from typing import Any

from bench import registry
from bench.certificates import certificates
from bench.contract import Exchange
from bench.load.client import Client
from bench.serverprocess import ServerProcess
from tests.servers.execution_helpers import DEADLINE_S

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context(alpn: Sequence[str] = (), version: str | None = None) -> ssl.SSLContext:
    """A context that trusts this process's authority."""
    made = ssl.create_default_context(cafile=certificates().authority)
    if version is not None:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def connect(
    server: ServerProcess,
    using: ssl.SSLContext | None = None,
    name: str = "127.0.0.1",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """A connection after its handshake. An end of the stream without close_notify raises SSLEOFError."""
    sock = socket.create_connection((server.host, server.port), DEADLINE_S)
    try:
        return (using or context()).wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False, session=session)
    except BaseException:
        sock.close()
        raise


def get(sock: ssl.SSLSocket, target: str) -> None:
    sock.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())


def received(sock: ssl.SSLSocket, end: bytes) -> bytes:
    """What comes, up to that."""
    data = b""
    while not data.endswith(end):
        more = sock.recv(65536)
        assert more, f"the server closed the connection after {data!r}"
        data += more
    return data


def rest(sock: ssl.SSLSocket) -> bytes:
    """What comes until the server says that it has ended."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


class SecureTalker:
    """A connection to a server, through the client of its protocol, which checks every answer."""

    def __init__(self, server: ServerProcess, exchange: Exchange, version: str | None = None) -> None:
        client: Any = registry.load(registry.client(server.protocol))
        self._client: Client = client(exchange, server.address, True)
        self.sock = connect(server, context(self._client.alpn, version))
        self._client.open()
        self._send([])

    def ask(self, count: int) -> None:
        self._send(self._client.request(count)[1])

    def collect(self, count: int) -> None:
        """Receive so many good answers."""
        while count > 0:
            data = self.sock.recv(65536)
            assert data, "the server closed the connection before it had answered"
            count -= len(self._client.feed(data))
            self._send([])
            assert not self._client.failures
        assert count == 0

    def exchange(self, count: int) -> None:
        self.ask(count)
        self.collect(count)

    def _send(self, pieces: list[bytes]) -> None:
        data = b"".join((*pieces, *self._client.outgoing))
        self._client.outgoing.clear()
        if data:
            self.sock.sendall(data)
