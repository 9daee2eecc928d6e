"""Datagrams: what is sent arrives, each as it was, also when the system takes nothing for a while."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from bench.wire.quic_socket import DatagramSocket

DEADLINE_S = 10.0


def pair() -> tuple[socket.socket, socket.socket]:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    client.bind(("127.0.0.1", 0))
    for sock in (server, client):
        sock.setblocking(False)
    return server, client


def carried(send: Callable[[DatagramSocket, Any], None], count: int) -> list[bytes]:
    async def run() -> list[bytes]:
        server, client = pair()
        received: list[bytes] = []
        arrived = asyncio.Event()

        def on_end(now: float) -> None:
            if len(received) >= count:
                arrived.set()

        def on_datagram(data: bytes, address: Any, now: float) -> None:
            assert address == client.getsockname()
            received.append(data)

        with server, client:
            reading = DatagramSocket(server, on_datagram, on_end, lambda error: None)
            writing = DatagramSocket(client, lambda *_: None, lambda now: None, lambda error: None)
            send(writing, server.getsockname())
            await asyncio.wait_for(arrived.wait(), DEADLINE_S)
            reading.close()
            writing.close()
        return received

    return asyncio.run(run())


def test_many_at_once() -> None:
    sent = [struct.pack("=H", number) + bytes(number) for number in range(300)]

    def send(writing: DatagramSocket, address: Any) -> None:
        writing.send([(data, address) for data in sent])

    assert carried(send, len(sent)) == sent


class Busy:
    """A socket that takes nothing for a while."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.refusals = 3

    def fileno(self) -> int:
        return self.sock.fileno()

    def sendto(self, data: bytes, address: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return self.sock.sendto(data, address)


def test_a_socket_that_takes_nothing_for_a_while() -> None:
    sent = [bytes([number]) * 100 for number in range(20)]

    def send(writing: DatagramSocket, address: Any) -> None:
        busy = Busy(writing._sock)
        writing._sock = busy  # type: ignore[assignment]  # what is used of it
        writing.send([(data, address) for data in sent[:10]])
        writing.send([(data, address) for data in sent[10:]])  # they wait behind the others

    assert carried(send, len(sent)) == sent
