"""What a connection needs of the worker that it lives on, and the ways of running a request.

A protocol says how to speak and an execution model says who accepts and who runs; they meet here. A connection calls
`worker.run(self, token, route, body)` for each complete request; whoever runs it calls
`connection.answer(token, route, answer)` back on the connection's own thread. The token is the protocol's (an HTTP/2
stream, a frame's id); it is handed back untouched.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from servers.counters import Slot
from servers.service import Route, Service


class Connection(Protocol):
    """The side of a connection (or of a UDP endpoint) that workers see."""

    def answer(self, token: Any, route: Route, answer: bytes) -> None:
        """Send the answer to the request that `token` names. Does nothing if the connection has gone."""

    def drain(self) -> None:
        """Take no further request, finish those in flight, then close. It may be asked more than once."""

    def abort(self) -> None:
        """Close at once."""


class Run(Protocol):
    """Runs one request and sees that its answer gets back."""

    def __call__(self, connection: Connection, token: Any, route: Route, body: bytes) -> None: ...


def run_on_loop(loop: asyncio.AbstractEventLoop) -> Run:
    """Runs a request where it was read; a wait is a timer of the event loop."""
    call_later = loop.call_later

    def run(connection: Connection, token: Any, route: Route, body: bytes) -> None:
        answer = route.execute(body)
        if route.wait_s:
            call_later(route.wait_s, connection.answer, token, route, answer)
        else:
            connection.answer(token, route, answer)

    return run


def run_blocking(connection: Connection, token: Any, route: Route, body: bytes) -> None:
    """Runs a request on a thread of its connection's own, which sleeps through a wait."""
    answer = route.execute(body)
    if route.wait_s:
        time.sleep(route.wait_s)
    connection.answer(token, route, answer)


class Worker:
    """One worker: the service, a way of running requests, the counters, and the connections it has open.

    `later(seconds, callback)` calls back on the thread that the connections live on.
    """

    def __init__(
        self, service: Service, run: Run, later: Callable[[float, Callable[[], None]], object], slot: Slot
    ) -> None:
        self.service = service
        self.run = run
        self.later = later
        self.counts = slot.values
        self.connections: set[Connection] = set()
        self.draining = False

    def drain(self) -> None:
        """Ask every connection to finish what it has in flight and close."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
