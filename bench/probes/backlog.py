"""Connecting to a listener that accepts too slowly: once its queue is full, the kernel drops what comes, and clients
try again after a second, then two more (RFC 6298)."""

import select
import socket
import threading
import time

_ACCEPT_EVERY_S = 0.004
_GIVE_UP_S = 8.0


def measure(backlog: int, connects: int = 200) -> dict[str, float]:
    """So many connections at once, to a listener that accepts one every 4 ms."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    stopped = threading.Event()
    accepted: list[socket.socket] = []

    def accept() -> None:
        listener.settimeout(0.1)
        while not stopped.is_set():
            try:
                accepted.append(listener.accept()[0])
            except TimeoutError:
                continue
            time.sleep(_ACCEPT_EVERY_S)

    accepting = threading.Thread(target=accept)
    accepting.start()
    begun_s = time.monotonic()
    clients = []
    poller = select.poll()
    for _ in range(connects):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        poller.register(client, select.POLLOUT)
        clients.append(client)
    took_s: list[float] = []
    while len(took_s) < connects and time.monotonic() < begun_s + _GIVE_UP_S:
        for fd, _ in poller.poll(100):
            took_s.append(time.monotonic() - begun_s)
            poller.unregister(fd)
    stopped.set()
    accepting.join()
    for sock in (*clients, *accepted, listener):
        sock.close()
    took_s += [_GIVE_UP_S] * (connects - len(took_s))
    return {"connect_p99_ns": sorted(took_s)[int(connects * 0.99) - 1] * 1e9, "connect_max_ns": max(took_s) * 1e9}
