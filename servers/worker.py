"""What a connection needs of the worker that it lives on, and the ways of running a request.

A protocol says how to speak and an execution model says who accepts and who runs; they meet here. A connection calls
`worker.run(self, token, route, body)` for each complete request; whoever runs it calls
`connection.answer(token, route, answer)` back on the connection's own thread. The token is the protocol's (an HTTP/2
stream, a frame's id); it is handed back untouched.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, ClassVar, Literal, Protocol

from servers.control import ServerSpec
from servers.counters import Slot
from servers.service import Hasten, Route, Service

TransportKind = Literal["stream", "datagram", "quic"]

Lives = Literal["thread", "loop", "listener", "process"]
"""Where a server's connections can live.

thread      on any thread: they need a transport, and `worker.later`
loop        on a worker's event loop, which they use themselves
listener    as loop, and the server takes them from a bound socket by itself (see `Listener`)
process     as listener, and the server binds the address itself, once in a process
"""


class Endable(Protocol):
    """Something that is to end when its worker stops."""

    def drain(self) -> None:
        """Take no further request, finish those in flight, then close. It may be asked more than once."""

    def abort(self) -> None:
        """Close at once."""


class Connection(Endable, Protocol):
    """The side of a connection (or of a UDP endpoint) that workers see. Made by calling the class with the worker, it
    is the asyncio protocol of its transport."""

    transport_kind: ClassVar[TransportKind]
    lives: ClassVar[Lives]
    alpn: ClassVar[tuple[str, ...]]
    """What it speaks over TLS, by the names of ALPN (RFC 7301); empty for what has no name."""

    def answer(self, token: Any, route: Route, answer: bytes) -> None:
        """Send the answer to the request that `token` names. Does nothing if the connection has gone."""


class Listener(Protocol):
    """What takes connections, on a worker's loop. A server that does so itself is made by calling its class with the
    worker; the class has `transport_kind` and `lives` too."""

    async def start(self, sock: socket.socket, backlog: int) -> None:
        """Serve what arrives at a bound socket. Where `lives` is process, the socket shares its port (SO_REUSEPORT) and
        does not listen: it holds the address, which the server binds once more."""

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, let what is in flight finish within the grace, and leave nothing running."""


class Run(Protocol):
    """Runs one request and sees that its answer gets back."""

    def __call__(self, connection: Connection, token: Any, route: Route, body: bytes) -> None: ...


class Deferral:
    """One answer that comes when there is one (see `Route.defer`)."""

    __slots__ = ("_hasten", "_hurries", "_lock", "token")

    def __init__(self, token: Any) -> None:
        self.token = token
        self._lock = threading.Lock()
        self._hasten: Hasten | None = None
        self._hurries = False

    def hold(self, hasten: Hasten | None) -> None:
        """`hasten` is what `Route.defer` gave. Called from any thread."""
        with self._lock:
            self._hasten = hasten
            hurries = self._hurries
        if hurries and hasten is not None:
            hasten()

    def hasten(self) -> None:
        """Nobody waits for the answer any more. Called from any thread, before `hold` too."""
        with self._lock:
            self._hurries = True
            hasten = self._hasten
        if hasten is not None:
            hasten()


class Deferrals:
    """The answers that a worker's connections wait for and that come when there is one. For the thread of the
    connections."""

    def __init__(self) -> None:
        self._by_connection: dict[Connection, set[Deferral]] = {}

    def add(self, connection: Connection, token: Any) -> Deferral:
        """One more."""
        deferral = Deferral(token)
        self._by_connection.setdefault(connection, set()).add(deferral)
        return deferral

    def remove(self, connection: Connection, deferral: Deferral) -> None:
        """It is answered."""
        of_connection = self._by_connection[connection]
        of_connection.remove(deferral)
        if not of_connection:
            del self._by_connection[connection]

    def hasten(self, connection: Any, is_meant: Callable[[Any], bool] = lambda _token: True) -> None:
        """The connection's client has left, or may have, or has given up requests: hold back none of the answers whose
        token is meant."""
        for deferral in list(self._by_connection.get(connection, ())):
            if is_meant(deferral.token):
                deferral.hasten()


def run_on_loop(loop: asyncio.AbstractEventLoop, deferrals: Deferrals) -> Run:
    """Runs a request where it was read; a wait is a timer of the event loop."""
    call_later = loop.call_later

    def run(connection: Connection, token: Any, route: Route, body: bytes) -> None:
        if not route.is_held:
            connection.answer(token, route, route.execute(body))
        elif route.defer is None:
            call_later(route.wait_s, connection.answer, token, route, route.execute(body))
        else:
            deferral = deferrals.add(connection, token)
            deferral.hold(route.defer(body, partial(answer_later, deferral, connection, token, route)))

    def answer_later(deferral: Deferral, connection: Connection, token: Any, route: Route, answer: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(answer_now, deferral, connection, token, route, answer)

    def answer_now(deferral: Deferral, connection: Connection, token: Any, route: Route, answer: bytes) -> None:
        deferrals.remove(connection, deferral)
        connection.answer(token, route, answer)

    return run


def answer_blocking(route: Route, body: bytes) -> bytes:
    """The answer to a request, for which the calling thread waits."""
    if route.defer is not None:
        answers: SimpleQueue[bytes] = SimpleQueue()
        route.defer(body, answers.put)
        return answers.get()
    answer = route.execute(body)
    if route.wait_s:
        time.sleep(route.wait_s)
    return answer


async def answer_awaited(route: Route, body: bytes) -> bytes:
    """The answer to a request, for which the calling task waits."""
    if route.defer is not None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()

        def take(answer: bytes) -> None:
            if not answered.done():
                answered.set_result(answer)

        def reply(answer: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(take, answer)

        hasten = route.defer(body, reply)
        try:
            return await answered
        except asyncio.CancelledError:
            if hasten is not None:
                hasten()
            raise
    answer = route.execute(body)
    if route.wait_s:
        await asyncio.sleep(route.wait_s)
    return answer


class Worker:
    """One worker: the service, a way of running requests, the counters, and the connections it has open.

    `later(seconds, callback)` calls back on the thread that the connections live on. `inbox()`, called on that thread,
    gives a function that does so soon, for other threads to call; it is the same one each time.
    """

    def __init__(
        self,
        service: Service,
        run: Run,
        later: Callable[[float, Callable[[], None]], object],
        inbox: Callable[[], Callable[[Callable[[], None]], object]],
        slot: Slot,
        spec: ServerSpec,
        deferrals: Deferrals,
    ) -> None:
        self.spec = spec
        self.deferrals = deferrals
        self.service = service
        self.run = run
        self.later = later
        self.inbox = inbox
        self.counts = slot.values
        self.connections: set[Endable] = set()
        self.draining = False

    def lost(self, connection: Connection) -> None:
        """A connection is no more, or what is like one."""
        self.connections.discard(connection)
        self.deferrals.hasten(connection)

    def drain(self) -> None:
        """Ask every connection to finish what it has in flight and close."""
        self.draining = True
        self.service.hold_nothing()
        for connection in list(self.connections):
            connection.drain()
