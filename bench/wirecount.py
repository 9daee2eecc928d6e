"""How many bytes an exchange takes on the wire: counted by a relay on loopback between a client and a server.

What is counted is what a socket carries: bytes above TCP or UDP. So TLS, QUIC and their handshakes are in the count;
TCP's own handshake, acknowledgements and the headers of TCP, UDP and IP are not.
"""

import select
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

from bench.certificates import certificates
from bench.errors import LoadFailedError, ServerFailedError, TargetError, UnsupportedError
from bench.loadprocess import LoadProcesses
from bench.placement import Placement
from bench.protocols import PROTOCOLS
from bench.scenario import Scenario
from bench.schedule import Concurrency, parse_load
from bench.serverprocess import ServerProcess
from bench.trial import load_specs

PAYLOAD_BYTES = 64
_DURATION_NS = 200_000_000
_RECEIVE_BYTES = 1 << 16
_BACKLOG = 16
_AT_ONCE = 2
_QUIET_S = 0.03
_GIVE_UP_S = 1.0


@dataclass(frozen=True)
class WireBytes:
    """Bytes that the client sent and received."""

    sent_bytes: float
    received_bytes: float


@dataclass(frozen=True)
class Counted:
    """The bytes of an exchange between the lean ends: `first` on new connections with all handshakes, `later` the mean
    of `exchanges` others. None where they cannot be counted, and `why_not` says why.

    An exchange is an echo of 64 bytes; where events are all that a protocol carries, one of 64 bytes that is published
    on one connection and delivered on another.
    """

    tls: str
    first: WireBytes | None
    later: WireBytes | None
    exchanges: int
    why_not: str | None = None


class Relay:
    """Passes bytes on between clients and one server while the context lasts, and counts them.

    One thread; TCP connections or UDP datagrams, each client of its own. `sent` and `received` are the clients'.
    """

    def __init__(self, host: str, port: int, is_stream: bool) -> None:
        self._server = (host, port)
        self._kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
        self._is_stream = is_stream
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._front = socket.socket(self._family, self._kind)
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._pairs: dict[socket.socket, tuple[socket.socket, bool]] = {}
        self._clients: dict[Any, socket.socket] = {}
        self.sent = 0
        self.received = 0

    def __enter__(self) -> Self:
        self._front.bind(("::1" if self._family == socket.AF_INET6 else "127.0.0.1", 0))
        if self._is_stream:
            self._front.listen(_BACKLOG)
        self.host, self.port = self._front.getsockname()[:2]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waker.close()
        self._thread.join()
        for sock in (self._front, self._wake, *self._pairs, *self._clients.values()):
            sock.close()

    def settle(self) -> WireBytes:
        """What has passed in all, once nothing passes any more: what an exchange leaves behind (acknowledgements of
        QUIC, tickets of TLS) is its own."""
        give_up = time.monotonic() + _GIVE_UP_S
        before = (-1, -1)
        while (now := (self.sent, self.received)) != before and time.monotonic() < give_up:
            before = now
            time.sleep(_QUIET_S)
        return WireBytes(*now)

    def _run(self) -> None:
        while True:
            readable = select.select([self._wake, self._front, *self._pairs, *self._clients.values()], [], [])[0]
            for sock in readable:
                if sock is self._wake:
                    return
                with suppress(OSError):  # one end has gone; the other finds out
                    self._pass_stream(sock) if self._is_stream else self._pass_datagram(sock)

    def _pass_stream(self, sock: socket.socket) -> None:
        if sock is self._front:
            client, _ = self._front.accept()
            server = socket.create_connection(self._server)
            for end, other, is_client in ((client, server, True), (server, client, False)):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs[end] = (other, is_client)
            return
        if sock not in self._pairs:
            return  # its other end has just gone
        other, is_client = self._pairs[sock]
        try:
            data = sock.recv(_RECEIVE_BYTES)
            self._count(is_client, len(data))
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (sock, other):
                del self._pairs[end]
                end.close()

    def _pass_datagram(self, sock: socket.socket) -> None:
        if sock is self._front:
            data, client = sock.recvfrom(_RECEIVE_BYTES)
            if client not in self._clients:
                self._clients[client] = upstream = socket.socket(self._family, self._kind)
                upstream.connect(self._server)
            self._count(True, len(data))
            self._clients[client].send(data)
            return
        data = sock.recv(_RECEIVE_BYTES)
        self._count(False, len(data))
        client = next(address for address, upstream in self._clients.items() if upstream is sock)
        self._front.sendto(data, client)

    def _count(self, is_client: bool, size: int) -> None:
        if is_client:
            self.sent += size
        else:
            self.received += size


def count(protocol: str, tls: str) -> Counted:
    """Count an echo over a protocol; a server and a client run for half a second. Never raises for what cannot be
    counted."""
    facts = PROTOCOLS[protocol]
    if facts.library == "aiortc":
        return Counted(tls, None, None, 0, "its datagrams pass from peer to peer, by no relay")
    pattern = facts.patterns[0]
    scenario = Scenario(
        protocol,
        parse_load("open:200/s" if pattern == "push" else "closed:1", "load"),
        pattern=pattern,
        connections=Concurrency(1),
        payload_bytes=PAYLOAD_BYTES,
        tls=tls,
        warmup_ns=0,
        duration_ns=_DURATION_NS,
    )
    try:
        return _count_exchanges(scenario)
    except (ServerFailedError, LoadFailedError, TargetError, UnsupportedError) as error:
        return Counted(tls, None, None, 0, str(error))


@cache
def _count_exchanges(scenario: Scenario) -> Counted:
    """The count, once a process. Failures are not kept."""
    is_stream = PROTOCOLS[scenario.protocol].transport_kind == "stream"
    with (
        LoadProcesses(1, lambda _: None) as load,
        ServerProcess(scenario.protocol, tls=scenario.tls) as server,
        Relay(server.host, server.port, is_stream) as relay,
    ):
        load.connect(load_specs(scenario, relay.host, relay.port, 0, 1, Placement((), ())))
        first = relay.settle()
        load.watch(load.release().end_ns)
        (result,) = load.results()
        both = relay.settle()
        requests = sum(worker.requests for worker in server.stats()[0])
        load.leave()
    exchanges = requests - 1 if result["delivery"] is None else result["delivery"]["published"]
    if exchanges < 1:
        return Counted(scenario.tls, first, None, 0, "no later exchange was made in time")
    sent, received = both.sent_bytes - first.sent_bytes, both.received_bytes - first.received_bytes
    return Counted(scenario.tls, first, WireBytes(sent / exchanges, received / exchanges), exchanges)


def describe(wanted: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Protocols as result files hold them: what each declares of itself, and what was counted for each version of TLS.

    `wanted` are protocols with versions. Takes about half a second for each that this process has not counted yet.
    """
    pairs = list(dict.fromkeys(wanted))
    if any(tls != "off" for _, tls in pairs):
        certificates()  # one set for all, before there are threads
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        counted = list(pool.map(count, *zip(*pairs, strict=True)))
    return {
        protocol: {
            "declared": asdict(PROTOCOLS[protocol].properties),
            "counted": [asdict(each) for (name, _), each in zip(pairs, counted, strict=True) if name == protocol],
        }
        for protocol in dict.fromkeys(name for name, _ in pairs)
    }
