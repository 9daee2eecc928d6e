"""HTTP/3 and HTTP/2 in a race, as browsers run it: QUIC has a head start, then TCP begins too, and the first to end its
handshake carries the exchanges. So a network that lets no UDP through costs the head start, once: that QUIC was beaten
is kept in mind for a while, and connections begun meanwhile are of TCP alone.

That the server speaks HTTP/3 on the same port is taken for known, as from an earlier answer's Alt-Svc (RFC 7838) or a
DNS record of type HTTPS (RFC 9460). The numbers are Chromium's: a head start of 300 ms where it does not know the round
trip time (`GetTimeDelayForWaitingJob` in net/quic), and 5 minutes, without what it adds each time, for an alternative
that is broken (net/http/broken_alternative_services.cc).
"""

import asyncio
import ssl
import time
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind
from clients.http2_session import Http2Session
from clients.http3 import Http3Client

HEAD_START_S = 0.3
"""How long QUIC may take for its handshake before TCP begins too."""

BROKEN_S = 300.0
"""How long QUIC is not tried where it was beaten."""

_broken: dict[tuple[str, int], float] = {}
"""Where QUIC was beaten, and until when that counts (seconds of CLOCK_MONOTONIC)."""


class RacingClient:
    """One connection, of the one kind or the other."""

    transport_kind: ClassVar = "session"

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        self._over_quic = Http3Client(exchange, authority, check_content)
        self._over_tcp = Http2Session(exchange, authority, check_content)
        self._winner: Http3Client | Http2Session = self._over_quic

    @property
    def max_in_flight(self) -> int:
        return self._winner.max_in_flight

    @property
    def closing(self) -> bool:
        return self._winner.closing

    @property
    def failures(self) -> list[tuple[Hashable, ErrorKind]]:
        return self._winner.failures

    @property
    def carries(self) -> str:
        """The protocol that won: "http3" or "http2"."""
        return "http3" if self._winner is self._over_quic else "http2"

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        where = (host, port, security, link)
        if time.monotonic() < _broken.get((host, port), 0.0):
            self._winner = self._over_tcp
            await self._over_tcp.connect(*where)
            return
        quic = asyncio.ensure_future(self._over_quic.connect(*where))
        tcp: asyncio.Future[None] | None = None
        winner: Any = None
        try:
            await asyncio.wait((quic,), timeout=HEAD_START_S)
            if _distrusted(quic):
                quic.result()  # UDP gets through, and TCP's certificate would be no better
            if not _stands(quic):
                tcp = asyncio.ensure_future(self._over_tcp.connect(*where))
                await _first_standing(quic, tcp)
                if not _stands(quic):
                    if _distrusted(quic) and not _stands(tcp):
                        quic.result()  # it says more than a port of TCP's where nobody listens
                    self._winner = self._over_tcp
                    tcp.result()  # neither stands: why not of that which came last
                    _broken[host, port] = time.monotonic() + BROKEN_S
            winner = self._winner
        finally:
            await self._end_all_but(winner, quic, tcp)

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        return self._winner.request(count)

    def abandon(self, exchange_id: Hashable) -> bool:
        return self._winner.abandon(exchange_id)

    def close(self) -> None:
        self._winner.close()

    async def _end_all_but(self, winner: Any, quic: "asyncio.Future[None]", tcp: "asyncio.Future[None] | None") -> None:
        """Leave nothing of what has not won."""
        pairs: list[tuple[Any, asyncio.Future[None] | None]] = [(self._over_quic, quic), (self._over_tcp, tcp)]
        for client, attempt in pairs:
            if attempt is None or client is winner:
                continue
            attempt.cancel()
            await asyncio.wait((attempt,))
            if _stands(attempt):
                client.close()
            elif not attempt.cancelled():
                attempt.exception()  # it is known


def _stands(attempt: "asyncio.Future[None]") -> bool:
    """Whether a connection stands."""
    return attempt.done() and not attempt.cancelled() and attempt.exception() is None


def _distrusted(attempt: "asyncio.Future[None]") -> bool:
    """Whether the server answered, and TLS with it failed."""
    return attempt.done() and not attempt.cancelled() and isinstance(attempt.exception(), ssl.SSLError)


async def _first_standing(*attempts: "asyncio.Future[None]") -> None:
    """Returns when one of them stands, or none will."""
    pending = {attempt for attempt in attempts if not attempt.done()}
    while pending and not any(map(_stands, attempts)):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
