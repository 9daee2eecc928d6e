"""What a server still computes for a client that has gone away."""

import socket
import time

import psutil

from bench.serverprocess import ServerProcess

_LEAVING_S = 0.05
"""The client leaves so long after it has asked."""
_WATCHED_S = 1.5
_PATHS = {"computed": "/work?cpu_us=1000000", "streamed": "/bytes/60000000?chunk=16384"}


def measure(answer: str) -> dict[str, float]:
    """The CPU time that the server takes in the 1.5 s after its client has left, over HTTP/1.1. `answer` is "computed",
    by a handler that takes a second of CPU; or "streamed": made as it is taken, which is a megabyte of 60."""
    with ServerProcess("http1") as server:
        with socket.create_connection((server.host, server.port), 10) as connection:
            until_s = time.monotonic() + _LEAVING_S
            connection.sendall(f"GET {_PATHS[answer]} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            if answer == "streamed":
                connection.recv(1_000_000)
            time.sleep(max(0.0, until_s - time.monotonic()))
        return {"cpu_after_ns": _cpu_ns_in(server.pid, _WATCHED_S)}


def _cpu_ns_in(pid: int, seconds: float) -> float:
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) * 1e9
