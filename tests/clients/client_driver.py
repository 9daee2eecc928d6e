"""Drives one client over one blocking socket: what the engine does, without clock and records."""

import select
import socket
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from bench.errors import ErrorKind, ProtocolError
from bench.load.client import Client

DEADLINE_S = 20.0


@dataclass
class Outcome:
    completed: list[Hashable] = field(default_factory=list)
    failures: list[tuple[Hashable, ErrorKind]] = field(default_factory=list)
    closed: bool = False
    broken: bool = False
    """The client raised ProtocolError."""


def drive(client: Client, sock: socket.socket, total: int, in_flight: int = 1) -> Outcome:
    """Exchange until `total` have been asked for and are over, or the connection has ended."""
    sock.setblocking(False)
    outcome = Outcome()
    unsent: deque[memoryview] = deque()
    asked = 0
    client.open()
    while True:
        over = len(outcome.completed) + len(outcome.failures)
        count = 0 if client.closing else min(total - asked, min(in_flight, client.max_in_flight) - (asked - over))
        unsent.extend(map(memoryview, client.outgoing))
        client.outgoing.clear()
        if count > 0:
            ids, requests = client.request(count)
            assert len(ids) == count
            unsent.extend(map(memoryview, requests))
            asked += count
        if over == asked and (client.closing or asked == total):
            return outcome
        data = _send_until_something_comes(sock, unsent)
        if not data and client.transport_kind == "stream":
            outcome.completed += client.feed_eof()
            outcome.closed = True
        else:
            try:
                outcome.completed += client.feed(data)
            except ProtocolError:
                outcome.broken = True
        outcome.failures += client.failures
        client.failures.clear()
        if outcome.closed or outcome.broken:
            return outcome


def _send_until_something_comes(sock: socket.socket, unsent: deque[memoryview]) -> bytes:
    while True:
        readable, writable, _ = select.select([sock], [sock] if unsent else [], [], DEADLINE_S)
        assert readable or writable, "nothing happens any more"
        if readable:
            return sock.recv(1 << 18)
        piece = unsent.popleft()
        sent_bytes = sock.send(piece)
        if sent_bytes < len(piece):
            unsent.appendleft(piece[sent_bytes:])
