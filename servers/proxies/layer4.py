"""The proxy of layer 4 for TCP: bytes, whatever they mean."""

import asyncio
import random
from collections.abc import Callable
from typing import cast

from bench.wire.prompt_writing import prompt_writer
from servers.proxies.idle import Watch
from servers.proxies.listening import Listener, listen_tcp
from servers.proxies.spec import Counts, ProxySpec
from servers.proxies.splice import end_writing, pass_loss, reset
from servers.proxies.upstreams import Upstream, Upstreams, connect


class Layer4:
    """The proxy: what its connections share."""

    def __init__(self, spec: ProxySpec, upstreams: Upstreams, counts: Counts) -> None:
        self.spec = spec
        self.upstreams = upstreams
        self.counts = counts
        self.watch = Watch(spec.idle_timeout_s)
        self.connecting: set[asyncio.Task[None]] = set()
        self.lose_share = spec.lose_share
        self.draw = random.Random(spec.seed).random
        self.open: set[ClientEnd] = set()

    def start(self) -> None:
        """Begin to look after connections."""
        self.watch.start()

    async def listen(self) -> Listener:
        """Take clients from now on. Raises OSError."""
        return await listen_tcp(self.spec, lambda: ClientEnd(self))

    def abort(self) -> None:
        """Let go of all connections."""
        self.watch.stop()
        for task in self.connecting:
            task.cancel()
        for end in list(self.open):
            end.transport.abort()


class ClientEnd(asyncio.Protocol):
    """A client's connection. What comes before an upstream is there to take it is one read at the most: the event loop
    does not let a connection be paused from the beginning."""

    __slots__ = (
        "_counts",
        "_early",
        "_owes",
        "_pass_on",
        "_proxy",
        "has_ended",
        "other",
        "quiet",
        "transport",
        "write",
    )

    def __init__(self, proxy: Layer4) -> None:
        self.quiet = 0
        self.has_ended = False
        self.other: UpstreamEnd | None = None
        self._proxy = proxy
        self._counts = proxy.counts
        self._owes = False
        self._early: list[bytes] = []
        self._pass_on: Callable[[bytes], object] = self._keep
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = prompt_writer(self.transport)
        self._counts.accepted += 1
        self._proxy.open.add(self)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._proxy.connecting.add(task)
        task.add_done_callback(self._proxy.connecting.discard)

    async def _connect(self) -> None:
        proxy = self._proxy
        for upstream in proxy.upstreams.order():
            end = UpstreamEnd(self, upstream, proxy)
            if await connect(upstream, end.itself, proxy.spec, self._counts) is None:
                continue
            if self.transport.is_closing():
                end.transport.abort()
                return
            self._begin(end)
            return
        reset(self.transport)

    def _begin(self, end: "UpstreamEnd") -> None:
        self.other = end
        self._proxy.watch.members.add(self)
        self._pass_on = end.write
        self.transport.resume_reading()
        for data in self._early:
            end.write(data)
        self._early.clear()
        if self.has_ended:
            end_writing(end, self)

    def _keep(self, data: bytes) -> None:
        self._early.append(data)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.quiet = 0
        self._counts.bytes_up += len(data)
        self._owes = True
        self._pass_on(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        if self.other is not None:
            end_writing(self.other, self)
        return True

    def pause_writing(self) -> None:
        assert self.other is not None
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.open.discard(self)
        self._proxy.watch.members.discard(self)
        if self.other is not None:
            pass_loss(self.other, exc)

    def loses(self) -> bool:
        """Whether the answer that begins is to be lost; the connection is cut then."""
        if not self._owes:
            return False
        self._owes = False
        if self._proxy.draw() >= self._proxy.lose_share:
            return False
        self._counts.lost += 1
        assert self.other is not None
        self.other.transport.abort()
        reset(self.transport)
        return True

    def looked_at(self, looks: int) -> None:
        if self.quiet > looks:
            self._counts.idle_closed += 1
            self.transport.close()


class UpstreamEnd(asyncio.Protocol):
    """The connection with the upstream that a client's is passed on to."""

    __slots__ = ("_counts", "_proxy", "_upstream", "has_ended", "other", "transport", "write")

    def __init__(self, other: ClientEnd, upstream: Upstream, proxy: Layer4) -> None:
        self.other = other
        self._proxy = proxy
        self.has_ended = False
        self._upstream = upstream
        self._counts = proxy.counts
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = prompt_writer(self.transport)
        self._upstream.open += 1

    def itself(self) -> "UpstreamEnd":
        """What takes the connection."""
        return self

    def data_received(self, data: bytes) -> None:
        other = self.other
        if self._proxy.lose_share and other.loses():
            return
        other.quiet = 0
        self._counts.bytes_down += len(data)
        other.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        end_writing(self.other, self)
        return True

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open -= 1
        pass_loss(self.other, exc)
