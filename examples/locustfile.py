"""wirebench's HTTP/1.1 client from a locustfile, for those who come from Locust: `locust -f examples/locustfile.py`.

A user here is still a greenlet, so Locust offers what greenlets do; `wirebench load --distributed` drives wirebench's
engine instead. What you get is the client: a connection of its own for each user, answers parsed and checked in full.
"""

import time
from urllib.parse import urlsplit

import gevent.socket
from locust import User, constant, task

from bench.contract import foreign_exchange
from clients.http1 import Http1Client


class Visitor(User):
    """Asks for one page again and again: the one that `--host` names, with its path."""

    host = "http://127.0.0.1:8080/"
    wait_time = constant(0)

    def on_start(self) -> None:
        """Connect."""
        self._connect()

    def _connect(self) -> None:
        parts = urlsplit(self.host or "")
        exchange = foreign_exchange("GET", parts.path or "/", b"", b"")
        self._client = Http1Client(exchange, parts.netloc, check_content=False)
        self._socket = gevent.socket.create_connection((parts.hostname, parts.port or 80))

    @task
    def visit(self) -> None:
        """One request and its answer, told to Locust as any other."""
        begun = time.perf_counter()
        _, pieces = self._client.request(1)
        self._socket.sendall(b"".join(pieces))
        error: Exception | None = None
        try:
            size = self._answer()
        except OSError as broken:
            error, size = broken, 0
            self._connect()
        took_ms = (time.perf_counter() - begun) * 1e3
        self.environment.events.request.fire(
            request_type="GET",
            name=urlsplit(self.host or "").path,
            response_time=took_ms,
            response_length=size,
            exception=error,
            context={},
        )

    def _answer(self) -> int:
        """Read until the answer is whole; gives its length. Raises OSError if it is none, or not a good one."""
        size = 0
        while data := self._socket.recv(65_536):
            size += len(data)
            if self._client.feed(data):
                return size
            if self._client.failures:
                raise OSError(self._client.failures.pop()[1])
        raise OSError("closed")
