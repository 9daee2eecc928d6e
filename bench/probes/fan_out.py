"""What leaves a server for each event, counted between it and its readers."""

import contextlib
import socket

import httpx

from bench.contract import publish
from bench.serverprocess import ServerProcess
from bench.wirecount import Relay

_EVENTS = 50
_EVENT_BYTES = 1024
_END = b"\n\n"


def measure(readers: int) -> dict[str, float]:
    """The bytes that go out for an event of 1 KiB, to so many subscribers over server-sent events."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess("sse"))
        relay = stack.enter_context(Relay(server.host, server.port, True))
        connections = [_subscribed(stack, relay) for _ in range(readers)]
        before = relay.settle().received_bytes
        client = stack.enter_context(httpx.Client(base_url=f"http://{server.address}", trust_env=False))
        for number in range(_EVENTS):
            event = publish("prices", b"%d" % number + b"x" * (_EVENT_BYTES - len(str(number))))
            client.request(event.method, event.path, content=event.body).raise_for_status()
        for connection in connections:
            _read_events(connection, _EVENTS)
        sent = relay.settle().received_bytes - before
    return {"bytes_per_event": sent / _EVENTS, "bytes_per_delivery": sent / _EVENTS / readers}


def _subscribed(stack: contextlib.ExitStack, relay: Relay) -> socket.socket:
    connection = stack.enter_context(socket.create_connection((relay.host, relay.port), 10))
    connection.sendall(b"GET /topics/prices HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    return connection


def _read_events(connection: socket.socket, count: int) -> None:
    """Read until so many events are there, which end with x and an empty line."""
    seen, tail = 0, b""
    while seen < count:
        data = tail + connection.recv(65536)
        seen += data.count(b"x" + _END)
        tail = data[-2:] if not data.endswith(_END) else b""
