"""A server that restarts between two calls: who notices, the program or its library."""

import socket
from collections.abc import Callable

import httpx

from bench.contract import Opcode
from bench.serverprocess import ServerProcess
from bench.wire.frames import HEADER_BYTES, encode_frame

_CALLS = 5
"""Before and after the restart."""
_HEALTH = encode_frame(Opcode.HEALTH, bytes(4), b"")


def measure(protocol: str) -> dict[str, float]:
    """How many calls fail that are made over a connection that stood before its server was killed and started anew. A
    failed call over raw TCP has the program open another connection, as it has to."""
    with ServerProcess(protocol) as server:
        if protocol == "tcp":
            return {"failed_calls": _over_tcp(server)}
        http2 = protocol == "http2"
        with httpx.Client(base_url=f"http://{server.address}", http1=not http2, http2=http2, trust_env=False) as client:
            return {"failed_calls": _failed(server, lambda: client.get("/health").is_success)}


def _failed(server: ServerProcess, call: Callable[[], bool]) -> int:
    for _ in range(_CALLS):
        if not call():
            raise ConnectionError("a call failed before the restart")
    server.restart()
    failed = 0
    for _ in range(_CALLS):
        try:
            failed += not call()
        except (OSError, httpx.TransportError):
            failed += 1
    return failed


def _over_tcp(server: ServerProcess) -> int:
    connection = socket.create_connection((server.host, server.port), 10)

    def call() -> bool:
        nonlocal connection
        try:
            connection.sendall(_HEALTH)
            answer = connection.recv(65536)
            if len(answer) >= HEADER_BYTES:
                return True
            raise ConnectionResetError("the server has closed the connection")
        except OSError:
            connection.close()
            connection = socket.create_connection((server.host, server.port), 10)
            raise

    try:
        return _failed(server, call)
    finally:
        connection.close()
