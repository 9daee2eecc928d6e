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
from typing import Any, ClassVar

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header

from bench.wire.http3 import ALPN, BlockReader
from bench.wire.quic_socket import DatagramSocket
from bench.wire.quic_tickets import ServerTickets
from servers.control import ServerSpec
from servers.http2_messages import Request
from servers.http3_connection import Http3Connection
from servers.http3_messages import AnswerHeads
from servers.worker import Lives, TransportKind, Worker

MAX_CONNECTIONS = 65_536
"""Connections of one worker; who comes after them gets no answer, and tries again."""

IDLE_TIMEOUT_S = 60.0

_CID_BYTES = 8


_TICKETS: dict[ServerSpec, ServerTickets] = {}
"""Those of a server, for all of its workers: they begin on threads of their own, and must come to the same."""


class Http3Endpoint:
    """One socket, and so all clients of a worker. It reads the socket itself (see `bench.wire.quic_socket`)."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = (ALPN,)

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.configuration = QuicConfiguration(
            is_client=False, alpn_protocols=[ALPN], connection_id_length=_CID_BYTES, idle_timeout=IDLE_TIMEOUT_S
        )
        self.configuration.load_cert_chain(worker.spec.certificate, worker.spec.private_key)
        self.blocks = BlockReader(lambda fields: Request(worker.service, fields))
        self.heads = AnswerHeads()
        self.tickets = _TICKETS.setdefault(worker.spec, ServerTickets(worker.spec.early_data))
        self.datagrams: DatagramSocket
        self._by_cid: dict[bytes, Http3Connection] = {}
        self._connections: set[Http3Connection] = set()
        # Connections that may have something to send, in the order of their turns.
        self._touched: dict[Http3Connection, None] = {}
        self._reading = False
        self._stopping = False

    # servers.worker.Listener

    async def start(self, sock: socket.socket, backlog: int) -> None:
        self.datagrams = DatagramSocket(sock, self._datagram_received, self._flush, lambda error: None)

    async def stop(self, grace_s: float) -> None:
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

    # Connections

    def add(self, cid: bytes, connection: Http3Connection) -> None:
        """Datagrams with this connection ID are the connection's."""
        connection.cids.add(cid)
        self._by_cid[cid] = connection

    def remove(self, cid: bytes, connection: Http3Connection) -> None:
        """They are so no more."""
        connection.cids.discard(cid)
        self._by_cid.pop(cid, None)

    def forget(self, connection: Http3Connection) -> None:
        """A connection has ended."""
        for cid in connection.cids:
            self._by_cid.pop(cid, None)
        self._connections.discard(connection)
        self._touched.pop(connection, None)
        self.worker.lost(connection)

    def touch(self, connection: Http3Connection) -> None:
        """A connection may have something to send: at the end of this turn."""
        if self._reading:
            self._touched[connection] = None
        else:
            connection.flush_soon()

    # Datagrams

    def _datagram_received(self, data: bytes, address: Any, now: float) -> None:
        self._reading = True
        if data[0] & 0x80:
            connection = self._first_datagram_received(data, address)
        else:
            connection = self._by_cid.get(data[1 : 1 + _CID_BYTES])
        if connection is not None:
            connection.quic.receive(data, address, now)
            if connection.quic.has_begun:
                self._touched[connection] = None
            else:  # nothing in its first datagram was what it said
                connection.end()
                self.forget(connection)

    def _flush(self, now: float) -> None:
        touched, self._touched = self._touched, {}
        self._reading = False
        for connection in touched:
            connection.flush(now)

    def _first_datagram_received(self, data: bytes, address: Any) -> Http3Connection | None:
        """Whose datagram with a long header that is; perhaps a new connection's."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_CID_BYTES)
        except ValueError:
            return None
        connection = self._by_cid.get(header.destination_cid)
        if connection is not None:
            return connection
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        versions = self.configuration.supported_versions
        if header.version not in versions:
            # Section 6.1 of RFC 9000; only to datagrams as long as a first one must be, so that nothing is amplified.
            packet = encode_quic_version_negotiation(
                source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=versions
            )
            self.datagrams.send([(packet, address)])
            return None
        if header.packet_type != QuicPacketType.INITIAL or self._stopping:
            return None
        if len(self._connections) >= MAX_CONNECTIONS:
            return None
        connection = Http3Connection(self, header.destination_cid)
        self._connections.add(connection)
        for cid in connection.cids:
            self._by_cid[cid] = connection
        return connection
