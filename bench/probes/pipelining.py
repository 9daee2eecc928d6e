"""Two requests, the first one slow: on one connection of HTTP/1.1 the second's answer waits for the first's (RFC 9112,
section 9.3.2)."""

import socket
import time

from bench.serverprocess import ServerProcess

_SLOW = b"GET /work?wait_ms=200 HTTP/1.1\r\nHost: a\r\n\r\n"
_FAST = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


def measure(how: str) -> dict[str, float]:
    """How long the fast one takes that is asked for right behind the slow one, which waits for 200 ms."""
    with ServerProcess("http1") as server, socket.create_connection((server.host, server.port), 10) as first:
        begun_ns = time.monotonic_ns()
        first.sendall(_SLOW)
        if how == "pipelined":
            first.sendall(_FAST)
            _await(first, b"done")
            _await(first, b"ok")
        else:
            with socket.create_connection((server.host, server.port), 10) as second:
                second.sendall(_FAST)
                _await(second, b"ok")
        return {"second_answer_ns": time.monotonic_ns() - begun_ns}


_rest: dict[socket.socket, bytes] = {}


def _await(sock: socket.socket, body: bytes) -> None:
    received = _rest.pop(sock, b"")
    while body not in received:
        received += sock.recv(65536)
    _rest[sock] = received.partition(body)[2]
