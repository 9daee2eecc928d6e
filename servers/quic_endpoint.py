"""A UDP socket with connections of QUIC: whose a datagram is, and who may have something to send."""

import socket
from typing import Any, Generic, Protocol, TypeVar

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header

from bench.wire.http3 import ALPN
from bench.wire.quic_connection import QuicPeer
from bench.wire.quic_socket import DatagramSocket

MAX_CONNECTIONS = 65_536
"""Connections of one endpoint; who comes after them gets no answer, and tries again."""

_CID_BYTES = 8


class EndpointConnection(Protocol):
    """One client's connection, as its endpoint knows it."""

    quic: QuicPeer
    cids: set[bytes]
    """The connection IDs that are its own."""

    def flush(self, now: float) -> None:
        """Send what there is to send at `now` (seconds)."""

    def flush_soon(self) -> None:
        """Do so at the end of the loop's turn."""

    def end(self) -> None:
        """Nothing is sent or taken any more."""


C = TypeVar("C", bound=EndpointConnection)


class QuicEndpoint(Generic[C]):
    """One socket, which it reads itself (see `bench.wire.quic_socket`), and so many clients. Subclasses know what their
    connections are."""

    def __init__(self, certificate: str, private_key: str, idle_timeout_s: float) -> None:
        """Certificate and key are files in PEM form. Raises OSError or ValueError if they cannot be used."""
        self.configuration = QuicConfiguration(
            is_client=False, alpn_protocols=[ALPN], connection_id_length=_CID_BYTES, idle_timeout=idle_timeout_s
        )
        self.configuration.load_cert_chain(certificate, private_key)
        self.datagrams: DatagramSocket
        self._by_cid: dict[bytes, C] = {}
        self._connections: set[C] = set()
        # Connections that may have something to send, in the order of their turns.
        self._touched: dict[C, None] = {}
        self._reading = False

    def make_connection(self, original_destination_id: bytes) -> C | None:
        """The connection of a client that is new; None if there are to be no more."""
        raise NotImplementedError

    def begin(self, sock: socket.socket) -> None:
        """Read a bound socket, which is non-blocking and not closed here."""
        self.datagrams = DatagramSocket(sock, self._datagram_received, self._flush, lambda error: None)

    # Connections

    def add(self, cid: bytes, connection: C) -> None:
        """Datagrams with this connection ID are the connection's."""
        connection.cids.add(cid)
        self._by_cid[cid] = connection

    def remove(self, cid: bytes, connection: C) -> None:
        """They are so no more."""
        connection.cids.discard(cid)
        self._by_cid.pop(cid, None)

    def forget(self, connection: C) -> None:
        """A connection has ended."""
        for cid in connection.cids:
            self._by_cid.pop(cid, None)
        self._connections.discard(connection)
        self._touched.pop(connection, None)

    def touch(self, connection: C) -> None:
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

    def _first_datagram_received(self, data: bytes, address: Any) -> C | None:
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
        if header.packet_type != QuicPacketType.INITIAL or len(self._connections) >= MAX_CONNECTIONS:
            return None
        connection = self.make_connection(header.destination_cid)
        if connection is None:
            return None
        self._connections.add(connection)
        for cid in connection.cids:
            self._by_cid[cid] = connection
        return connection
