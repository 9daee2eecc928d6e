"""Proxies that end with the test, and upstreams that do what a test says."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.childprocess import ChildProcess

TIMEOUT_S = 20.0


class Proxy:
    """An embedded proxy that runs."""

    def __init__(self, **spec: Any) -> None:
        self.child = ChildProcess("servers.proxies")
        self.child.send(spec)
        event = self.child.next_event(TIMEOUT_S)
        assert event is not None
        assert event["event"] == "ready", event
        self.port: int = event["port"]
        self.pid: int = event["pid"]

    def connect(self) -> socket.socket:
        """A client's connection with it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def stats(self) -> dict[str, Any]:
        self.child.send({"ask": "stats"})
        event = self.child.next_event(TIMEOUT_S)
        assert event is not None
        return event

    def count(self, name: str) -> int:
        return int(self.stats()["counts"][name])


class Upstream:
    """A TCP server whose connections are each handled by a function, in a thread."""

    def __init__(self, handle: Callable[[socket.socket], object]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._handle(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., Proxy]]:
    """Starts proxies: `start_proxy(7, port, ..., **spec)`, with the ports of upstreams; a proxy that wrote something to
    standard error fails the test."""
    proxies: list[Proxy] = []

    def start(layer: int, *ports: int, **spec: Any) -> Proxy:
        proxies.append(Proxy(layer=layer, upstreams=[("127.0.0.1", port) for port in ports], **spec))
        return proxies[-1]

    yield start
    for proxy in proxies:
        said = proxy.child.stderr
        proxy.child.kill()
        assert said == ""


@pytest.fixture
def start_upstream() -> Iterator[Callable[[Callable[[socket.socket], object]], Upstream]]:
    """Starts servers: `start_upstream(handle)`, where `handle` is called with each connection."""
    with contextlib.ExitStack() as undo:

        def start(handle: Callable[[socket.socket], object]) -> Upstream:
            upstream = Upstream(handle)
            undo.callback(upstream.close)
            return upstream

        yield start


@pytest.fixture
def dead_port() -> int:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def read_all(sock: socket.socket) -> bytes:
    """What comes until the end."""
    found = bytearray()
    while data := sock.recv(1 << 20):
        found += data
    return bytes(found)


def read_head(sock: socket.socket) -> bytes:
    """What comes up to the end of a head; more of it is lost, where more comes at once."""
    found = b""
    while b"\r\n\r\n" not in found and (data := sock.recv(1 << 16)):
        found += data
    return found


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)
