"""Bytes passed both ways between two connections: what layer 4 does, and layer 7 once a tunnel is open.

Back-pressure goes through: an end that takes no more pauses the reading of the other. So do the end of one direction
alone (a half-closed connection, RFC 9293, section 3.6), and a reset.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

_NO_LINGER = struct.pack("ii", 1, 0)


class End(Protocol):
    """One of the two connections, as the other knows it."""

    transport: asyncio.Transport
    write: Callable[[bytes], object]
    has_ended: bool
    """Whether its peer has sent all that it will."""


class WatchedEnd(End, Protocol):
    """The client's, whose silence is counted (see `servers.proxies.idle`)."""

    quiet: int


def end_writing(end: End, other: End) -> None:
    """`other`'s peer has sent all that it will: tell the peer of `end`. When both have, the connections close."""
    if end.has_ended:
        end.transport.close()
        other.transport.close()
    elif not end.transport.is_closing():
        end.transport.write_eof()


def pass_loss(end: End, exc: Exception | None) -> None:
    """The other connection is gone: let go of `end` in the same way."""
    if exc is None:
        end.transport.close()
    else:
        reset(end.transport)


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection, so that the peer can tell it from one that ended well."""
    if not transport.is_closing():
        sock = cast(socket.socket, transport.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
