"""The way from a node of a lab to a server on the host: what arrives at the node's end of the link is carried on to the
server, and back. A process of its own, that stays in the host's network: only its listening sockets are the node's.

What the link does to packets happens between the client and the relay; between relay and server is the host's loopback.
"""

import asyncio
import contextlib
import os
import socket
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Reach:
    """A server on the host, and the kind of what goes there: connections, or datagrams. The relay listens on the same
    port as the server."""

    host: str
    port: int
    kind: Literal["stream", "datagram"] = "stream"


class RelayProcess:
    """Forked off while the process is still in the host's network; given its sockets when there are nodes."""

    def __init__(self, reaches: Iterable[Reach]) -> None:
        self._reaches = tuple(reaches)
        ours, theirs = socket.socketpair()
        self._line = ours
        if os.fork():
            theirs.close()
            return
        ours.close()
        os.set_inheritable(theirs.fileno(), False)
        try:
            _serve(theirs, self._reaches)
        except Exception:  # noqa: BLE001  # nothing may run on in the fork, and nothing else tells of it
            traceback.print_exc()
        finally:
            os._exit(0)

    def listen(self, address: str) -> None:
        """Open the listening sockets in the current network namespace, and hand them over. The relay ends with this
        process."""
        sockets = []
        for reach in self._reaches:
            kind = socket.SOCK_STREAM if reach.kind == "stream" else socket.SOCK_DGRAM
            sock = socket.socket(socket.AF_INET, kind)
            sock.bind((address, reach.port))
            if reach.kind == "stream":
                sock.listen(4096)
            sockets.append(sock)
        socket.send_fds(self._line, [b"\0"], [sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()


def _serve(line: socket.socket, reaches: tuple[Reach, ...]) -> None:
    data, fds, _, _ = socket.recv_fds(line, 1, len(reaches))
    if data:
        asyncio.run(_relay(line, [(socket.socket(fileno=fd), reach) for fd, reach in zip(fds, reaches, strict=True)]))


async def _relay(line: socket.socket, ways: list[tuple[socket.socket, Reach]]) -> None:
    loop = asyncio.get_running_loop()
    for sock, reach in ways:
        sock.setblocking(False)
        if reach.kind == "stream":
            await asyncio.start_server(partial(_connection, reach), sock=sock)
        else:
            await loop.create_datagram_endpoint(partial(_Datagrams, reach), sock=sock)
    line.setblocking(False)
    await loop.sock_recv(line, 1)  # the end of the process that started this one


async def _connection(reach: Reach, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection(reach.host, reach.port)
    except OSError:
        writer.transport.abort()  # the client sees a reset, as a port where nobody listens gives it
        return
    for each in (writer, there_writer):
        each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.gather(_carry(reader, there_writer), _carry(there_reader, writer))
    except OSError:
        for each in (writer, there_writer):
            each.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BLOCK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class _Datagrams(asyncio.DatagramProtocol):
    """The clients of one server: a socket to the server for each of them."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._transport: asyncio.DatagramTransport
        self._clients: dict[tuple[str, int], socket.socket] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (there := self._clients.get(addr)) is None:
            there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            there.setblocking(False)
            there.connect((self._reach.host, self._reach.port))
            asyncio.get_running_loop().add_reader(there, self._answer, there, addr)
            self._clients[addr] = there
        with contextlib.suppress(OSError):  # a datagram that cannot be sent is a datagram lost
            there.send(data)

    def _answer(self, there: socket.socket, client: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._transport.sendto(there.recv(65_536), client)
