"""HTTP/3 and HTTP/2 on one port, UDP and TCP: each answer over HTTP/2 says that HTTP/3 is there too (Alt-Svc, RFC 7838).

That is how servers on the web offer HTTP/3: a client that has never met them, or whose UDP does not get through, speaks
HTTP/2. Both ends here are the lean ones, on one service and one event loop.
"""

import asyncio
import socket
from typing import Any, ClassVar

from servers.execution.acceptor import Acceptor
from servers.http2 import Http2Connection
from servers.http2_messages import AnswerHeads
from servers.http3 import Http3Endpoint
from servers.worker import Lives, TransportKind, Worker

MAX_AGE_S = 86_400
"""How long clients may keep in mind that HTTP/3 is there (RFC 7838, section 3.1): what they do where nothing is said."""


class _Announcing:
    """Makes connections of HTTP/2 whose answers name the alternative."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ("h2",)

    def __init__(self, port: int) -> None:
        self._fields = ((b"alt-svc", b'h3=":%d"; ma=%d' % (port, MAX_AGE_S)),)

    def __call__(self, worker: Worker) -> Http2Connection:
        connection = Http2Connection(worker)
        connection.heads = AnswerHeads(connection.writer, self._fields)
        return connection


class AlternativesServer(Http3Endpoint):
    """Both, for one worker."""

    async def start(self, sock: socket.socket, backlog: int) -> None:
        address = sock.getsockname()
        made: Any = _Announcing(address[1])
        self._over_tcp = Acceptor(self.worker, made)
        listener = socket.socket(sock.family, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            listener.bind(address)
            await self._over_tcp.start(listener, backlog)
        except BaseException:
            listener.close()
            raise
        await super().start(sock, backlog)

    async def stop(self, grace_s: float) -> None:
        await asyncio.gather(super().stop(grace_s), self._over_tcp.stop(grace_s))
