"""A reader that takes a tenth of what is published: pushed to, or asking."""

import contextlib
import json
import socket

import httpx

from bench.contract import publish
from bench.serverprocess import ServerProcess

_EVENTS = 2000
_EVENT_BYTES = 16 * 1024
_EACH = 10
"""The reader's turn comes after so many events."""


def measure(how: str) -> dict[str, float]:
    """Whether the server sends away a reader that is pushed 32 MB and reads a tenth of it meanwhile, or asks for what
    there is just as seldom."""
    with ServerProcess("sse") as server, contextlib.ExitStack() as stack:
        base = f"http://{server.address}"
        publisher, reader = (stack.enter_context(httpx.Client(base_url=base, trust_env=False)) for _ in range(2))
        pushed = stack.enter_context(socket.create_connection((server.host, server.port), 10))
        if how == "push":
            pushed.sendall(b"GET /topics/prices HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        got = last = 0
        event = publish("prices", b"x" * _EVENT_BYTES)
        for number in range(_EVENTS):
            publisher.request(event.method, event.path, content=event.body).raise_for_status()
            if number % _EACH:
                continue
            if how == "push":
                with contextlib.suppress(ConnectionError):
                    pushed.recv(_EVENT_BYTES)
            else:
                polled = json.loads(reader.get(f"/topics/prices/events?after={last}").content)
                last, got = polled["last"], got + len(polled["events"])
        sent_away = False  # else one of the polls would have failed
        if how == "push":
            read_bytes, sent_away = _read_to_end(pushed)
            got = read_bytes // _EVENT_BYTES
        return {"sent_away": float(sent_away), "got_share": got / _EVENTS}


def _read_to_end(connection: socket.socket) -> tuple[int, bool]:
    """What is left to read, and whether the connection has ended, rather than being silent."""
    connection.settimeout(1)
    read = 0
    try:
        while data := connection.recv(1 << 20):
            read += len(data)
    except TimeoutError:
        return read, False
    except ConnectionError:
        pass
    return read, True
