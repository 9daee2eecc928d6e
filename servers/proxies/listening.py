"""Where a proxy's clients come in."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from servers.proxies.spec import ProxySpec


class Listener(Protocol):
    """A socket that clients come in by."""

    @property
    def port(self) -> int: ...

    def close(self) -> None:
        """Take no more."""


class TcpListener:
    """Connections of TCP."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()


async def listen_tcp(spec: ProxySpec, make: Callable[[], asyncio.Protocol]) -> TcpListener:
    """Have `make` make what takes each connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    return TcpListener(await loop.create_server(make, spec.host, spec.port, backlog=spec.backlog))


def bound_udp(spec: ProxySpec) -> socket.socket:
    """A socket for datagrams, non-blocking. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
