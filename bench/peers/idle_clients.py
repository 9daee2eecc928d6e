"""Many clients that make one request each and then stay: `python -m bench.peers.idle_clients`.

The first line of standard input is JSON: host, port, count. One event comes back: `connected`, or `error` (one line).
The connections live until standard input ends.
"""

import json
import socket
import sys

from bench.contract import HEALTH_BODY

_REQUEST = b"GET /health HTTP/1.1\r\nhost: wirebench\r\n\r\n"
_TIMEOUT_S = 10.0


def _connect(host: str, port: int) -> socket.socket:
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
    connections: list[socket.socket] = []
    try:
        for _ in range(spec["count"]):
            connections.append(_connect(spec["host"], spec["port"]))  # noqa: PERF401 - those made so far are counted
    except OSError as error:
        print(json.dumps({"event": "error", "message": f"connection {len(connections) + 1}: {error}"}), flush=True)
        return 1
    print(json.dumps({"event": "connected"}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
