"""Which upstream is asked next, and which are known to be down."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from servers.proxies.spec import Counts, ProxySpec

_DOWN_AFTER = 2
"""Checks in a row that must fail before an upstream counts as down; one that succeeds makes it count as up."""

P = TypeVar("P", bound=asyncio.Protocol)


class Upstream:
    """A server that requests may go to. `open` is how many connections, or at layer 7 exchanges, it has now."""

    __slots__ = ("failed_checks", "host", "idle", "open", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.open = 0
        self.failed_checks = 0
        self.idle: list[Any] = []
        """Connections of layer 7 that wait for a request, the one that was used last at the end."""

    @property
    def is_up(self) -> bool:
        return self.failed_checks < _DOWN_AFTER


class Upstreams:
    """The upstreams of a proxy, in the order in which they are to be tried."""

    def __init__(self, spec: ProxySpec) -> None:
        self.all = [Upstream(host, port) for host, port in spec.upstreams]
        self._least = spec.balance == "least-connections"
        self._next = 0

    def order(self) -> Sequence[Upstream]:
        """All of them: by the balance, and those that are down last."""
        upstreams = self.all
        if len(upstreams) == 1:
            return upstreams
        first = self._next
        self._next = (first + 1) % len(upstreams)
        turned = upstreams[first:] + upstreams[:first]
        return sorted(turned, key=lambda u: (not u.is_up, u.open if self._least else 0))


async def connect(upstream: Upstream, make: Callable[[], P], spec: ProxySpec, counts: Counts) -> P | None:
    """A connection with that upstream; None if there is none in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(spec.connect_timeout_s):
            _, protocol = await loop.create_connection(make, upstream.host, upstream.port)
    except (OSError, TimeoutError):
        counts.upstream_errors += 1
        return None
    counts.upstream_connections += 1
    return protocol


async def check_health(upstreams: Upstreams, spec: ProxySpec) -> None:
    """Check all upstreams again and again, for as long as the proxy lives."""
    while True:
        await asyncio.gather(*(_check(upstream, spec) for upstream in upstreams.all))
        await asyncio.sleep(spec.health_interval_s)


async def _check(upstream: Upstream, spec: ProxySpec) -> None:
    writer = None
    try:
        async with asyncio.timeout(spec.connect_timeout_s):
            reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
            is_well = not spec.health_path or await _gives_2xx(reader, writer, upstream, spec.health_path)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        is_well = False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    upstream.failed_checks = 0 if is_well else upstream.failed_checks + 1


async def _gives_2xx(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream, path: str) -> bool:
    request = f"GET {path} HTTP/1.1\r\nhost: {upstream.host}:{upstream.port}\r\nconnection: close\r\n\r\n"
    writer.write(request.encode("ascii"))
    line = await reader.readuntil(b"\r\n")
    return line.startswith(b"HTTP/1.") and line[8:10] == b" 2"
