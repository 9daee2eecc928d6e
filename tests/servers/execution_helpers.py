"""What the tests of execution models share: a wait with a deadline, clients that block, and what there is to run."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import psutil
import pytest

from bench import registry
from bench.contract import Exchange
from bench.errors import ServerFailedError
from bench.load.client import Client
from bench.serverprocess import ServerProcess

Serve = Callable[..., ServerProcess]

DEADLINE_S = 10.0
MODELS = tuple(registry.EXECUTIONS)
SOCKET_PROTOCOLS = ("http1", "http2", "tcp", "udp")
"""Those whose client needs nothing but a socket."""
COMBINATIONS = [
    (protocol, execution)
    for protocol in SOCKET_PROTOCOLS
    for execution in MODELS
    if registry.unsupported(protocol, execution) is None
]
FORKING = ("prefork", "reuseport")
"""Models whose workers are processes that live as long as the server."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that nothing announces."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.002)


@contextlib.contextmanager
def doomed(protocol: str, execution: str, **options: Any) -> Iterator[ServerProcess]:
    """A server that is to fail while the context lasts."""
    server = ServerProcess(protocol, execution, **options).__enter__()
    try:
        yield server
    finally:
        with contextlib.suppress(ServerFailedError):
            server.stop()


def fails(server: ServerProcess, match: str) -> None:
    """Wait until the server is found to have failed, with a message that matches."""
    deadline = time.monotonic() + DEADLINE_S
    with pytest.raises(ServerFailedError, match=match):  # noqa: PT012  whichever call comes after the failure
        while time.monotonic() < deadline:
            server.stats()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def requests_counted(server: ServerProcess) -> int:
    return sum(counts.requests for counts in server.stats()[0])


class Talker:
    """A connection to a server, through the client of its protocol, which checks every answer."""

    def __init__(self, server: ServerProcess, exchange: Exchange) -> None:
        self._client: Client = registry.load(registry.client(server.protocol))(exchange, server.address, True)
        stream = self._client.transport_kind == "stream"
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect((server.host, server.port))
        self._client.open()
        self._send([])

    def ask(self, count: int) -> None:
        self._send(self._client.request(count)[1])

    def collect(self, count: int) -> None:
        """Receive so many good answers."""
        while count > 0:
            data = self.sock.recv(65536)
            assert data, "the server closed the connection before it had answered"
            count -= len(self._client.feed(data))
            self._send([])
            assert not self._client.failures
        assert count == 0

    def exchange(self, count: int) -> None:
        self.ask(count)
        self.collect(count)

    def _send(self, pieces: list[bytes]) -> None:
        for piece in (*pieces, *self._client.outgoing):
            self.sock.sendall(piece)
        self._client.outgoing.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Http:
    """An HTTP/1.1 connection by hand."""

    def __init__(self, server: ServerProcess) -> None:
        self.sock = socket.create_connection((server.host, server.port), DEADLINE_S)
        self.received = b""

    def get(self, target: str) -> None:
        self.sock.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    def answer(self) -> bytes:
        """The next answer, head and body. Fails if the connection ends before it does."""
        while b"\r\n\r\n" not in self.received:
            self._receive()
        end = self.received.index(b"\r\n\r\n") + 4
        head = self.received[:end].lower()
        end += int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(self.received) < end:
            self._receive()
        answer, self.received = self.received[:end], self.received[end:]
        return answer

    def rest(self) -> bytes:
        """What comes until the server closes."""
        while data := self.sock.recv(65536):
            self.received += data
        rest, self.received = self.received, b""
        return rest

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the server closed the connection after {self.received!r}"
        self.received += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
