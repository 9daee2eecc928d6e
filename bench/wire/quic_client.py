"""A client's end of a connection of HTTP/3: its socket, and its handshake."""

import asyncio
import errno
import socket
import time
from abc import abstractmethod
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent

from bench.wire.http3 import BlockReader, ErrorCode
from bench.wire.quic_security import connection_error
from bench.wire.quic_session import Http3Session, T
from bench.wire.quic_socket import DatagramSocket
from bench.wire.quic_tickets import Tickets


class Http3ClientSession(Http3Session[T]):
    """One connection with a server, over a socket of its own."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        blocks: BlockReader[T],
        original_destination_connection_id: bytes | None = None,
        tickets: Tickets | None = None,
    ) -> None:
        super().__init__(configuration, blocks, original_destination_connection_id, tickets)
        self._sock: socket.socket | None = None
        self._address: Any = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._reading = False

    # What users differ in

    @abstractmethod
    def all_read(self, now: float) -> None:
        """All that had arrived at `now` (seconds) was read."""

    @abstractmethod
    def lost(self, error: Exception) -> None:
        """The connection, which was open, has ended."""

    # The connection

    async def dial(self, host: str, port: int) -> None:
        """Have a socket, and something to send with the next `flush`. Raises OSError."""
        _, _, _, _, self._address = (await self._loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        self._open_socket()
        self.quic.connect(self._address, time.monotonic())

    async def shake_hands(self) -> None:
        """Returns when the handshake is over. Raises OSError, which ssl.SSLError is one of, and ProtocolError."""
        self.flush(time.monotonic())
        await self._opened

    def close_now(self) -> None:
        """Tell the server, and be gone."""
        if self._sock is not None:
            self.quic.close(error_code=ErrorCode.NO_ERROR)
            self.flush(time.monotonic())
            self._close_socket()
        self.end()

    def flush_after_reading(self) -> None:
        """Send at the end of this turn."""
        if not self._reading:
            self.flush_soon()

    # Http3Session

    def event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.control.open()
            if not self._opened.done():
                self._opened.set_result(None)

    def connection_ended(self, event: ConnectionTerminated) -> None:
        self._lost(connection_error(event))

    # The socket

    def _open_socket(self) -> None:
        """Raises OSError."""
        family = socket.AF_INET6 if len(self._address) == 4 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        self._close_socket()
        self._sock = sock
        self._datagram_socket = DatagramSocket(
            sock, self._datagram_received, self._read_to_end, self._error_received, is_connected=True
        )

    def _close_socket(self) -> None:
        if self._sock is not None:
            self._datagram_socket.close()
            self._sock.close()
            self._sock = None

    def _datagram_received(self, data: bytes, _: Any, now: float) -> None:
        self._reading = True
        self.quic.receive(data, self._address, now)

    def _read_to_end(self, now: float) -> None:
        if not self.ended:
            self.all_read(now)
        self._reading = False
        self.flush(now)
        if self.quic.is_closing and not self.ended:
            self.end()
            self._lost(connection_error(self.quic.close_event))

    def _error_received(self, error: OSError) -> None:
        if not self.ended and (error.errno != errno.EMSGSIZE or not self._opened.done()):
            # ICMP says that nobody listens; or the path takes no datagrams as long as QUIC's (section 14).
            self.end()
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        self._close_socket()
        if not self._opened.done():
            self._opened.set_exception(error)
        else:
            self.lost(error)
