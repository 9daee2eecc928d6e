"""The proxy of layer 4 for UDP: datagrams, whatever they mean, QUIC's too.

What comes from one address is a flow. It has a socket of its own to one upstream, for as long as the client says
something: so answers find their way back, and an upstream sees a different address for each client. When there are as
many flows as there may be, a new one takes the place of the one whose client was silent for longest.
"""

import asyncio
import errno
import random
import socket
from collections import OrderedDict
from typing import Any

from bench.wire.quic_socket import DatagramSocket
from servers.proxies.idle import Watch
from servers.proxies.listening import bound_udp
from servers.proxies.spec import Counts, ProxySpec, SpecError
from servers.proxies.upstreams import Upstream, Upstreams

_MAX_FLOWS = 16_384


class DatagramLayer4:
    """The proxy, which is its own listener."""

    def __init__(self, spec: ProxySpec, upstreams: Upstreams, counts: Counts) -> None:
        self.counts = counts
        self.watch = Watch(spec.idle_timeout_s)
        self.flows: OrderedDict[Any, Flow] = OrderedDict()
        """By the client's address, the one that was silent for longest first."""
        self.datagrams: DatagramSocket
        self.port = 0
        self.lose_share = spec.lose_share
        self.draw = random.Random(spec.seed).random
        self._spec = spec
        self._upstreams = upstreams
        self._sock: socket.socket
        self._addresses: dict[Upstream, tuple[socket.AddressFamily, Any]] = {}

    async def listen(self) -> "DatagramLayer4":
        """Take clients from now on. Raises OSError, and SpecError for an upstream without an address."""
        loop = asyncio.get_running_loop()
        for upstream in self._upstreams.all:
            try:
                found = await loop.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_DGRAM)
            except OSError as error:
                raise SpecError(f"the upstream {upstream.host} has no address: {error.strerror}") from None
            self._addresses[upstream] = found[0][0], found[0][4]
        self._sock = bound_udp(self._spec)
        self.port = self._sock.getsockname()[1]
        self.datagrams = DatagramSocket(
            self._sock, self._datagram_received, lambda now: None, lambda error: None, may_be_cut=True
        )
        return self

    def start(self) -> None:
        """Begin to look after flows."""
        self.watch.start()

    def abort(self) -> None:
        """Let go of all flows."""
        self.watch.stop()
        for flow in list(self.flows.values()):
            flow.close()

    def close(self) -> None:
        """Take no more."""
        self.datagrams.close()
        self._sock.close()

    def _datagram_received(self, data: bytes, address: Any, now: float) -> None:
        flow = self.flows.get(address)
        if flow is None:
            flow = self._begin(address)
            if flow is None:
                return
        else:
            self.flows.move_to_end(address)
        flow.quiet = 0
        self.counts.bytes_up += len(data)
        flow.datagrams.send(((data, None),))

    def _begin(self, address: Any) -> "Flow | None":
        """A flow for a client that is new; None if no upstream can be sent to."""
        if len(self.flows) >= _MAX_FLOWS:
            next(iter(self.flows.values())).close()
        for upstream in self._upstreams.order():
            family, target = self._addresses[upstream]
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.connect(target)
            except OSError:
                self.counts.upstream_errors += 1
                if sock is not None:
                    sock.close()
                continue
            return Flow(self, address, upstream, sock)
        return None


class Flow:
    """The datagrams of one client and their answers."""

    __slots__ = ("_address", "_proxy", "_sock", "_upstream", "datagrams", "quiet")

    def __init__(self, proxy: DatagramLayer4, address: Any, upstream: Upstream, sock: socket.socket) -> None:
        """`sock` is connected with the upstream."""
        self.quiet = 0
        self._proxy = proxy
        self._address = address
        self._upstream = upstream
        self._sock = sock
        self.datagrams = DatagramSocket(
            sock, self._datagram_received, lambda now: None, self._error_received, is_connected=True, may_be_cut=True
        )
        upstream.open += 1
        proxy.counts.accepted += 1
        proxy.counts.upstream_connections += 1
        proxy.flows[address] = self
        proxy.watch.members.add(self)

    def close(self) -> None:
        """The client is new if it says more."""
        if self._proxy.flows.pop(self._address, None) is not None:
            self._upstream.open -= 1
            self._proxy.watch.members.discard(self)
            self.datagrams.close()
            self._sock.close()

    def _datagram_received(self, data: bytes, _: Any, now: float) -> None:
        proxy = self._proxy
        if proxy.lose_share and proxy.draw() < proxy.lose_share:
            proxy.counts.lost += 1
            return
        self.quiet = 0
        proxy.counts.bytes_down += len(data)
        proxy.datagrams.send(((data, self._address),))

    def _error_received(self, error: OSError) -> None:
        if error.errno != errno.EMSGSIZE:  # which is of one datagram
            self._proxy.counts.upstream_errors += 1
            self.close()

    # Watched

    def looked_at(self, looks: int) -> None:
        if self.quiet > looks:
            self._proxy.counts.idle_closed += 1
            self.close()
