"""A connection for each exchange: opened for it, and closed behind it.

Latency counts from when the connection was begun (closed loads) or due (open loads) until the answer is complete, so it
holds every handshake. The connections of a load are so many at a time. Where handshakes are to be resumed, or first
bytes to go with the SYN, connections before the load obtain the tickets and the cookie for that; and an exchange whose
connection was opened in another way than the one that was asked for counts as an error, not as an answer.
"""

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any

from bench.errors import ErrorKind, ProtocolError, WirebenchError
from bench.load.engine import CONNECTS_AT_ONCE, NO_PORT, RETRY_S, closed_or_open, make_client
from bench.load.link import Link
from bench.load.security import tickets
from bench.load.slots import ClosedSlots, OpenSlots, SlotEngine
from bench.load.spec import LoadSpec
from bench.schedule import Load

_TICKETS_A_SLOT = 4
"""With early data the answer overtakes the ticket by a round trip, in which the next connection begins; the rest is for
tickets that the network holds up."""

_clock = time.monotonic_ns


class ConnectingLink(Link):
    """A connection that carries one exchange."""

    _engine: "_ConnectingEngine"

    def _complete(self, ids: Sequence[Hashable], now: int) -> None:
        shortfall = self.shortfall(self._engine.fast_open)
        if shortfall is None:
            super()._complete(ids, now)
        else:
            for exchange_id in ids:
                self._forget(exchange_id, shortfall, now)
            self._ready(self, len(ids), now)


class _ConnectingEngine(SlotEngine):
    """What closed and open loads have in common. A slot is room for one connection."""

    def __init__(self, fast_open: bool, **options: Any) -> None:
        super().__init__(**options)
        self.fast_open = fast_open

    # Engine

    async def connect(self) -> None:
        """Obtain what later handshakes need, and check that a connection opened as asked for gets a right answer.
        Raises TargetError, UnsupportedError."""
        handshake = self._security.handshake if self._security else "full"
        if handshake != "full" or self.fast_open:
            await self._prepare(_TICKETS_A_SLOT if handshake == "early-data" else 1)
        link = self._make_link()
        await self._connect(link)
        await self._check(link)
        link.close()

    def ready(self, link: Link, count: int, now_ns: int) -> None:
        if link in self._links:
            self._links.remove(link)
            self._loop.call_soon(link.close)  # once the link has done with what it has read
            self._slot_freed(now_ns)

    def lost(self, link: Any) -> None:
        if link in self._links:
            self._links.remove(link)
            self._slot_freed(_clock())

    def _make_link(self) -> Link:
        return ConnectingLink(self, self._make_client(), 1)

    async def _open_line(self, line: Any) -> None:
        host, port = self._address
        await line.connect(host, port, self._security, self.fast_open)

    # Connections

    async def _exchange(self, intended_ns: int, begun_ns: int) -> None:
        """Open a connection and send its request."""
        link = self._make_link()
        kind: ErrorKind
        try:
            async with asyncio.timeout(self._timeout_ns / 1e9):
                await self._open_line(link)
        except TimeoutError:
            kind = "timeout"
        except ProtocolError:
            kind = "protocol"
        except (OSError, WirebenchError) as error:
            kind = "no-port" if getattr(error, "errno", None) in NO_PORT else "refused"
        else:
            if link.opened:
                self._failed_connects = 0
                self._links.add(link)
                link.send(1, intended_ns, begun_ns)
                return
            kind = "closed"
        self.recorder.error(kind, intended_ns, _clock())
        await asyncio.sleep(RETRY_S[min(self._failed_connects, len(RETRY_S) - 1)])
        self._failed_connects += 1
        self._slot_freed(_clock())

    def _tickets(self) -> deque[Any] | None:
        """Where connections find tickets; None without TLS."""
        if self._security is None:
            return None
        client: Any = self._make_client()
        if client.transport_kind == "session":
            store: deque[Any] = client.tickets(self._address, self._security)
            return store
        return tickets(self._address, self._security, client.alpn)

    async def _prepare(self, rounds: int) -> None:
        """Make so many connections for each slot, which all of them begin without tickets, and keep those they get."""
        store = self._tickets()
        obtained: list[Any] = []
        remaining = self._concurrency.connections * rounds
        at_once = min(self._concurrency.connections, CONNECTS_AT_ONCE)
        while remaining:
            batch = min(remaining, at_once)
            links = [Link(self, self._make_client(), 1) for _ in range(batch)]
            await asyncio.gather(*map(self._connect, links))
            await asyncio.gather(*map(self._check, links))
            for link in links:
                link.close()
            if store is not None:
                obtained.extend(store)
                store.clear()
            remaining -= batch
        if store is not None:
            store.extend(obtained)


class _ClosedConnecting(_ConnectingEngine, ClosedSlots):
    """The next connection begins when an answer is complete."""


class _OpenConnecting(_ConnectingEngine, OpenSlots):
    """Connections begin when they are due."""


def make_engine(spec: LoadSpec, load: Load, target: dict[str, Any]) -> SlotEngine:
    """The engine of a load process; `target` is what every engine is given."""
    target = {**target, "make_client": make_client(spec), "fast_open": spec.fast_open}
    return closed_or_open(_ClosedConnecting, _OpenConnecting, spec, load, target)
