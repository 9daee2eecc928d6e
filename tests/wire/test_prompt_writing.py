"""`prompt_writer` on real connections of uvloop's."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from bench.wire.prompt_writing import prompt_writer


@contextmanager
def connected() -> Iterator[tuple[uvloop.Loop, asyncio.Transport, socket.socket]]:
    """A loop, a transport on it, and the socket at the other end."""
    loop = uvloop.new_event_loop()
    ours, theirs = _tcp_pair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, ours))
    try:
        yield loop, transport, theirs
    finally:
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        theirs.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs


def received(loop: uvloop.Loop, sock: socket.socket, count: int) -> bytes:
    sock.setblocking(False)

    async def receive() -> bytes:
        data = bytearray()
        while len(data) < count:
            data += await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
        return bytes(data)

    return loop.run_until_complete(asyncio.wait_for(receive(), 20))


def test_it_is_with_the_kernel_before_the_turn_ends() -> None:
    with connected() as (_, transport, theirs):
        prompt_writer(transport)(b"at once")
        theirs.settimeout(20)
        assert theirs.recv(100) == b"at once"  # no turn of the loop in between


def test_the_order_is_kept_beside_the_transports_own_writes() -> None:
    with connected() as (loop, transport, theirs):
        write = prompt_writer(transport)
        pieces = [b"%d," % number * 50_000 for number in range(40)]

        async def send() -> None:
            for number, piece in enumerate(pieces):
                (transport.write if number % 3 == 1 else write)(piece)
                if number % 7 == 0:
                    await asyncio.sleep(0)

        loop.run_until_complete(send())
        assert received(loop, theirs, sum(map(len, pieces))) == b"".join(pieces)


def test_nothing_is_written_once_the_transport_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor may be another connection's by then."""
    with connected() as (_, transport, _theirs):
        write = prompt_writer(transport)
        transport.abort()
        monkeypatch.setattr("bench.wire.prompt_writing._write", lambda *_: pytest.fail("written"))
        write(b"too late")


def test_a_transport_of_another_kind_writes_by_itself() -> None:
    class Other(asyncio.Transport):
        def write(self, data: Any) -> None:
            taken.append(data)

    taken: list[bytes] = []
    prompt_writer(Other())(b"x")
    assert taken == [b"x"]
