"""Many clients that make one request each and then stay: `python -m bench.peers.idle_clients`.

The first line of standard input is JSON: protocol (http1 or websocket), host, port, count. One event comes back:
`connected`, or `error` (one line). The connections live until standard input ends.
"""

import json
import socket
import sys

from bench.contract import HEALTH_BODY

_REQUEST = b"GET /health HTTP/1.1\r\nhost: wirebench\r\n\r\n"
_UPGRADE = (
    b"GET /health HTTP/1.1\r\nhost: wirebench\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
_MESSAGE = b"\x82\x81\0\0\0\0?"
"""A binary message of one byte, masked with nothing (RFC 6455, section 5.2)."""
_TIMEOUT_S = 10.0


def _connect_websocket(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), _TIMEOUT_S)
    sock.sendall(_UPGRADE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        data = sock.recv(4096)
        if not data or not (answer + data).startswith(b"HTTP/1.1 101 "):
            raise ConnectionError("the server does not switch to WebSocket")
        answer += data
    sock.sendall(_MESSAGE)
    if sock.recv(4096) != b"\x82" + bytes([len(HEALTH_BODY)]) + HEALTH_BODY:
        raise ConnectionError("the server gave a message that is not the expected one")
    return sock


def _connect_http1(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), _TIMEOUT_S)
    sock.sendall(_REQUEST)
    answer = b""
    while not answer.endswith(b"\r\n\r\n" + HEALTH_BODY):
        data = sock.recv(4096)
        if not data or not (answer + data).startswith(b"HTTP/1.1 200 "):
            raise ConnectionError("the server gave an answer that is not the expected one")
        answer += data
    return sock


def main() -> int:
    spec = json.loads(sys.stdin.readline())
    connect = {"http1": _connect_http1, "websocket": _connect_websocket}[spec["protocol"]]
    connections: list[socket.socket] = []
    try:
        for _ in range(spec["count"]):
            connections.append(connect(spec["host"], spec["port"]))  # noqa: PERF401 - those made so far are counted
    except OSError as error:
        print(json.dumps({"event": "error", "message": f"connection {len(connections) + 1}: {error}"}), flush=True)
        return 1
    print(json.dumps({"event": "connected"}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
