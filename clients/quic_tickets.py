"""The tickets of QUIC that clients keep for their next connections (see `bench.wire.quic_tickets`)."""

from collections import deque
from functools import lru_cache

from aioquic.tls import SessionTicket

from bench.contract import Security


@lru_cache(maxsize=4)
def tickets(address: tuple[str, int], security: Security) -> deque[SessionTicket]:
    """The tickets that servers there have given and no connection has taken, the newest last."""
    return deque(maxlen=4096)
