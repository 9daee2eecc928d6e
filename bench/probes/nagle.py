"""Write, write, read: the second small write waits for the acknowledgement of the first (Nagle's algorithm, RFC 896),
which the other side delays (RFC 9293, section 3.8.6.3), unless TCP_NODELAY is set."""

import socket
import threading
import time
from statistics import median

_EXCHANGES = 25


def measure(nodelay: str) -> dict[str, float]:
    """Exchanges of two writes of one byte and an answer of one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server = listener.accept()[0]
    with client, server:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay == "yes")

        def answer() -> None:
            while got := server.recv(1):
                got += server.recv(1)
                if len(got) == 2:
                    server.sendall(b"!")

        answering = threading.Thread(target=answer)
        answering.start()
        took = []
        for _ in range(_EXCHANGES):
            begun_ns = time.monotonic_ns()
            client.send(b"a")
            client.send(b"b")
            client.recv(1)
            took.append(time.monotonic_ns() - begun_ns)
        client.shutdown(socket.SHUT_WR)
        answering.join()
    return {"exchange_ns": median(took)}
