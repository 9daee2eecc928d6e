"""HTTP/3 and HTTP/2 on one port, UDP and TCP: answers over HTTP/2 say that HTTP/3 is there too (Alt-Svc, RFC 7838).

That is how servers on the web offer HTTP/3: a client that has never met them, or whose UDP does not get through, speaks
HTTP/2. Both ends here are the lean ones, on one service and one event loop.
"""

import asyncio
import socket
from typing import Any, ClassVar

from servers.execution.acceptor import Acceptor
from servers.http2 import Http2Connection
from servers.http3 import Http3Endpoint
from servers.worker import Lives, TransportKind, Worker

MAX_AGE_S = 86_400
"""How long clients may keep in mind that HTTP/3 is there: as long as where nothing is said (RFC 7838, section 3.1)."""


class _Announcing:
    """Makes connections of HTTP/2 whose answers name the alternative."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ("h2",)

    def __init__(self, port: int) -> None:
        self._fields = ((b"alt-svc", b'h3=":%d"; ma=%d' % (port, MAX_AGE_S)),)

    def __call__(self, worker: Worker) -> Http2Connection:
        return Http2Connection(worker, self._fields)


class AlternativesServer:
    """Both, for one worker. It is given the socket of TCP, and takes the same port of UDP: nearly always that is free,
    which cannot be said the other way round, for TCP keeps ports for a while after their connections."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = (*Http3Endpoint.alpn, *_Announcing.alpn)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._over_quic = Http3Endpoint(worker)
        self._over_tcp: Acceptor
        self._datagrams: socket.socket

    # servers.worker.Listener

    async def start(self, sock: socket.socket, backlog: int) -> None:
        address = sock.getsockname()
        made: Any = _Announcing(address[1])
        self._over_tcp = Acceptor(self._worker, made)
        self._datagrams = socket.socket(sock.family, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)
        if self._worker.spec.workers > 1:  # even where they share one socket of TCP
            self._datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._datagrams.bind(address)
        await self._over_quic.start(self._datagrams, backlog)
        await self._over_tcp.start(sock, backlog)

    async def stop(self, grace_s: float) -> None:
        await asyncio.gather(self._over_quic.stop(grace_s), self._over_tcp.stop(grace_s))
        self._datagrams.close()
