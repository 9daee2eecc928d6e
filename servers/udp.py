"""The lean server of raw UDP: a request and its answer are a datagram each (see `bench.wire.frames`)."""

import asyncio
import contextlib
import socket
from typing import Any, ClassVar, cast

from bench.errors import ProtocolError
from bench.wire.frames import MAX_DATAGRAM_PAYLOAD_BYTES, OK, decode_datagram, encode_frame, is_status
from servers.counters import REQUESTS
from servers.service import Collect, Refused, Route
from servers.service_error import ServiceError
from servers.worker import Lives, TransportKind, Worker

MAX_IN_FLIGHT = 16 * 1024
"""Requests that may be under way; those past it are refused with status 503."""

_BUFFER_BYTES = 4 * 1024 * 1024
"""What the socket may hold unread: without it, the system drops requests of a burst that the server has time for. The
system may grant less (net.core.rmem_max)."""


class UdpEndpoint(asyncio.DatagramProtocol):
    """One socket, and so all clients of a worker."""

    transport_kind: ClassVar[TransportKind] = "datagram"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ()

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._run = worker.run
        self._transport: asyncio.DatagramTransport
        self._in_flight = 0
        self._ended = False
        self._closed = False

    # asyncio.DatagramProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._worker.connections.add(self)
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # some systems refuse a size above their limit
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._worker.lost(self)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._ended:
            return
        try:
            code, a, b, frame_id, payload = decode_datagram(data)
        except ProtocolError:
            return  # no request: never answered (see bench.wire.frames)
        if is_status(code):
            return
        self._worker.counts[REQUESTS] += 1
        try:
            route = self._worker.service.operation(code, a, b)
        except ServiceError as error:
            self._refuse(frame_id, addr, error.status, error.message)
            return
        if self._in_flight >= MAX_IN_FLIGHT:
            self._refuse(frame_id, addr, 503, f"more than {MAX_IN_FLIGHT} requests are under way")
            return
        if route.receiver is not Collect:
            receiver = route.receiver()
            receiver.feed(payload)
            payload = receiver.finish()
        self._in_flight += 1
        self._run(self, (frame_id, addr), route, payload)

    # Connection

    def answer(self, token: tuple[bytes, Any], route: Route, answer: bytes) -> None:
        if self._closed:
            return
        self._in_flight -= 1
        frame_id, addr = token
        if isinstance(answer, Refused):
            self._refuse(frame_id, addr, answer.status, answer.decode())
        elif len(answer) > MAX_DATAGRAM_PAYLOAD_BYTES:
            self._refuse(frame_id, addr, 413, f"the answer is longer than {MAX_DATAGRAM_PAYLOAD_BYTES} bytes")
        else:
            self._transport.sendto(encode_frame(OK, frame_id, answer), addr)
        if self._ended:
            self._close_if_idle()

    def drain(self) -> None:
        self._ended = True
        self._close_if_idle()

    def abort(self) -> None:
        self._transport.abort()

    def _refuse(self, frame_id: bytes, addr: Any, status: int, message: str) -> None:
        self._transport.sendto(encode_frame(status, frame_id, message.encode()), addr)

    def _close_if_idle(self) -> None:
        if not self._in_flight:
            self._transport.close()
