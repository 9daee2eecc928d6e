"""The lean HTTP/3 server (RFC 9114), on aioquic's QUIC with a short way of its own (see `bench.wire.quic_connection`).

Many workers on one address (reuseport): the kernel picks the worker of a datagram by the addresses and ports of both
ends, and looks at no connection ID. So all datagrams of a connection reach the worker that has it, for as long as the
client keeps its address and port. A client that changes them (migration, RFC 9000, section 9; a NAT that forgot it)
may land on another worker, which does not know the connection and drops what comes; the client's path validation
fails, and it stays on its old path, or the connection times out. A worker's number in the connection IDs would let a
program in the kernel (SO_ATTACH_REUSEPORT_EBPF) or a balancer route by them; there is neither here. With one worker,
migration works.

Early data (0-RTT, RFC 9001, section 4.6) is taken by the rules of RFC 8470: what a client asks for before its handshake
is over is run if that does no harm when it is done twice, and is too early otherwise (425). It is done once all the
same: each ticket is taken once by all workers of a process (see `bench.wire.quic_tickets`), and with tickets in memory,
processes cannot know of each other's. So of many processes none is asked to take it (see `bench.registry`).
"""

import asyncio
import socket
from typing import ClassVar

from bench.wire.http3 import ALPN, BlockReader
from bench.wire.quic_tickets import ServerTickets
from servers.control import ServerSpec
from servers.http2_messages import Request
from servers.http3_connection import Http3Connection
from servers.http3_messages import AnswerHeads
from servers.quic_endpoint import QuicEndpoint
from servers.worker import Lives, TransportKind, Worker

IDLE_TIMEOUT_S = 60.0

_TICKETS: dict[ServerSpec, ServerTickets] = {}
"""Those of a server, for all of its workers: they begin on threads of their own, and must come to the same."""


class Http3Endpoint(QuicEndpoint[Http3Connection]):
    """One socket, and so all clients of a worker."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = (ALPN,)

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.spec.certificate, worker.spec.private_key, IDLE_TIMEOUT_S)
        self.worker = worker
        self.blocks = BlockReader(lambda fields: Request(worker.service, fields))
        self.heads = AnswerHeads()
        self.tickets = _TICKETS.setdefault(worker.spec, ServerTickets(worker.spec.early_data))
        self._stopping = False

    def make_connection(self, original_destination_id: bytes) -> Http3Connection | None:
        return None if self._stopping else Http3Connection(self, original_destination_id)

    async def start(self, sock: socket.socket, backlog: int) -> None:
        """See `servers.worker.Listener`."""
        self.begin(sock)

    async def stop(self, grace_s: float) -> None:
        """See `servers.worker.Listener`."""
        loop = asyncio.get_running_loop()
        self._stopping = True
        for connection in list(self._connections):
            connection.drain()
        until = loop.time() + grace_s
        while any(not connection.quic.is_closing for connection in self._connections) and loop.time() < until:
            await asyncio.sleep(0.005)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.end()
            self.forget(connection)
        self.datagrams.close()

    def forget(self, connection: Http3Connection) -> None:
        super().forget(connection)
        self.worker.lost(connection)
