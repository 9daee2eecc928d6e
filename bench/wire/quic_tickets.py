"""The tickets that QUIC servers give, to resume handshakes and send early data with (RFC 8446, sections 2.2 and 2.3).

Each serves once, at both ends. To the server that is what makes early data safe to act upon: who comes with another's
first flight again (a replay) brings a ticket that is gone, so that the early data cannot even be read (section 8.1).
"""

import threading
from typing import Protocol

from aioquic.tls import SessionTicket

MAX_TICKETS = 16_384
"""Tickets that a server keeps, a few KiB each; the oldest make way."""


class Tickets(Protocol):
    """One end's."""

    takes_early_data: bool
    """Those that are given allow early data. Of servers."""

    def keep(self, ticket: SessionTicket) -> None:
        """A ticket was given."""

    def take(self, identity: bytes) -> SessionTicket | None:
        """The ticket that a client came with; None if it is not, or no longer, known. Of servers."""


class ServerTickets:
    """What a server has given and nobody has used yet. Any thread may use it."""

    def __init__(self, takes_early_data: bool = True) -> None:
        self.takes_early_data = takes_early_data
        self._lock = threading.Lock()
        self._tickets: dict[bytes, SessionTicket] = {}

    def keep(self, ticket: SessionTicket) -> None:
        with self._lock:
            if len(self._tickets) >= MAX_TICKETS:
                del self._tickets[next(iter(self._tickets))]
            self._tickets[ticket.ticket] = ticket

    def take(self, identity: bytes) -> SessionTicket | None:
        with self._lock:
            return self._tickets.pop(identity, None)
