"""A client's connection of HTTP/3: its socket, its handshake, and how it outlives a change of address.

A connection of QUIC is not bound to addresses (RFC 9000, section 9), and the client is who moves. It learns in two ways
that it must: the system no longer sends from its old address, so a new socket takes one that is there; or nothing comes
any more although something is due, as after a NAT has forgotten the connection, so it says something (PING), and the
server sees the new port. Who downloads has little to send by itself, and would otherwise wait until the idle timeout.
"""

import asyncio
import errno
import time
from dataclasses import replace
from typing import Protocol

from aioquic.quic.events import HandshakeCompleted, QuicEvent, StopSendingReceived, StreamReset
from aioquic.tls import SessionTicket

from bench.contract import TICKET_TIMEOUT_S, Handshake, Security
from bench.errors import ErrorKind
from bench.wire.http3 import BlockReader
from bench.wire.quic_client import Http3ClientSession
from bench.wire.quic_security import configure
from bench.wire.quic_session import T
from clients.quic_tickets import tickets

IDLE_TIMEOUT_S = 60.0

SILENCE_S = 0.5
"""How long the server may be silent while something is due from it before it is asked whether it is there; at least
four of QUIC's probe timeouts, however."""

_MOVE_AGAIN_S = 0.1

_MOVED = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}
"""What the system says when it cannot send from where the socket was, or to nowhere for now."""


class Owner(Protocol):
    """What a connection tells of what happens."""

    @property
    def is_waiting(self) -> bool:
        """Something is due from the server."""

    def answer_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        """What arrives on a stream. Raises ProtocolError."""

    def failed(self, stream_id: int, kind: ErrorKind) -> None:
        """An exchange has failed."""

    def goaway_received(self, first_id: int) -> None:
        """The server answers nothing from this stream on."""

    def tell(self) -> None:
        """All that had arrived was read."""

    def lost(self, error: Exception) -> None:
        """The connection has ended."""


class ClientConnection(Http3ClientSession[T]):
    """One connection."""

    def __init__(self, owner: Owner, host: str, port: int, security: Security | None, blocks: BlockReader[T]) -> None:
        """Raises OSError if the authorities cannot be read."""
        configuration = configure(host, security)
        configuration.idle_timeout = IDLE_TIMEOUT_S
        self._handshake: Handshake = security.handshake if security is not None else "full"
        self._tickets = None
        self._has_ticket = False
        """There is a ticket for the next connection."""
        if security is not None and security.handshake != "full":
            self._tickets = tickets((host, port), security)
            ticket = self._tickets.pop() if self._tickets else None
            if ticket is not None and security.handshake == "resumed":
                ticket = replace(ticket, max_early_data_size=None)
            configuration.session_ticket = ticket
        super().__init__(configuration, blocks, tickets=None if self._tickets is None else self)
        self._is_early = self._handshake == "early-data" and configuration.session_ticket is not None
        self._owner = owner
        self._target = (host, port)
        self._giving_up: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._heard_at = self._moved_at = 0.0

    async def connect(self) -> None:
        """Returns when the handshake is over, or where there may be early data, at once: what is sent in this turn of
        the loop goes with the first flight."""
        await self.dial(*self._target)
        self._heard_at = time.monotonic()
        if self._is_early:
            self._opened.set_result(None)
            self.flush_soon()
        else:
            await self.shake_hands()
        self._watch(SILENCE_S)

    @property
    def shortfall(self) -> ErrorKind | None:
        """How the handshake, once it is over, was less than what was asked for."""
        tls = self.quic.tls
        if self._handshake == "full" or (self._handshake == "early-data" and tls.early_data_accepted):
            return None
        if not tls.session_resumed:
            return "not-resumed"
        return "not-early" if self._handshake == "early-data" else None

    def close(self) -> None:
        """Close: at once, or if a ticket is due, once it is there."""
        is_due = self._tickets is not None and not self._has_ticket and self._opened.done()
        if self._sock is None or self.quic.is_closing or not is_due:
            self.close_now()
        elif self._giving_up is None:
            self._giving_up = self._loop.call_later(TICKET_TIMEOUT_S, self.close_now)

    def end(self) -> None:
        super().end()
        for timer in (self._giving_up, self._watching):
            if timer is not None:
                timer.cancel()

    # bench.wire.quic_tickets.Tickets

    takes_early_data = False

    def keep(self, ticket: SessionTicket) -> None:
        """The server has given a ticket."""
        assert self._tickets is not None
        self._tickets.append(ticket)
        self._has_ticket = True

    def take(self, identity: bytes) -> SessionTicket | None:
        """Clients are not asked."""

    # Http3Session

    def message_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        self._owner.answer_received(stream_id, data, is_end)

    def message_reset(self, stream_id: int, event: StreamReset | StopSendingReceived) -> None:
        # To send no more of the request is fine (section 4.1.1): the answer may come all the same.
        if isinstance(event, StreamReset):
            self._owner.failed(stream_id, "reset")

    def event_received(self, event: QuicEvent) -> None:
        was_open = self._opened.done()
        super().event_received(event)
        if isinstance(event, HandshakeCompleted) and was_open and not event.early_data_accepted:
            self.quic.resend_all(time.monotonic())

    def control_received(self) -> None:
        if self.control.goaway_id is not None:
            self._owner.goaway_received(self.control.goaway_id)

    # Http3ClientSession

    def all_read(self, now: float) -> None:
        self._heard_at = now
        self._owner.tell()

    def lost(self, error: Exception) -> None:
        self._owner.lost(error)

    def _read_to_end(self, now: float) -> None:
        super()._read_to_end(now)
        if self._giving_up is not None and self._has_ticket:
            self.close_now()

    def _error_received(self, error: OSError) -> None:
        if self.ended or error.errno not in _MOVED:
            super()._error_received(error)
            return
        now = time.monotonic()
        if now - self._moved_at > _MOVE_AGAIN_S:  # else what was to be sent is lost, and sent once more later
            self._moved_at = now
            self._loop.call_soon(self._move)

    # Changes of address

    def _move(self) -> None:
        """Go on from another address."""
        if self.ended:
            return
        try:
            self._open_socket()
        except OSError:
            return  # there is none now; what is sent next tries again
        self.quic.change_connection_id()  # section 9.5: who watches both addresses shall not know that it is the same
        self.quic.send_ping(0)
        self.flush_soon()

    def _watch(self, silent_s: float) -> None:
        if not self.ended:
            self._watching = self._loop.call_later(silent_s, self._look)

    def _look(self) -> None:
        """See whether the server is silent."""
        silence_s = max(SILENCE_S, 4 * self.quic.probe_timeout_s)
        silent_s = time.monotonic() - self._heard_at
        if silent_s < silence_s:
            self._watch(silence_s - silent_s)
            return
        if self._owner.is_waiting and not self.quic.expects_acknowledgement:
            self.quic.send_ping(0)  # if it is lost, QUIC sends it once more by itself
            self.flush_soon()
        self._watch(silence_s)
