"""A UDP socket on an event loop: all that has arrived is read before anything is made of it as a whole.

Segmentation offload (UDP_SEGMENT) and receive offload (UDP_GRO), which carry runs of datagrams in one call, were tried
on loopback with answers of 64 bytes and of 20 kB: the CPU that they save is less than what differs between trials.
"""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

MAX_READ = 256
"""Datagrams that are read before others have their turn on the loop."""

MAX_WAITING = 4096
"""Datagrams kept while the system takes none; what is past them is lost, as on any full queue."""

BUFFER_BYTES = 4 * 1024 * 1024
"""What the system may hold for the socket each way; it may grant less (net.core.rmem_max, wmem_max)."""

_MTU_DISCOVERY = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 3),  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE of Linux
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 3),  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE
}
"""So that the system cuts no datagram up on a path too narrow for it, which QUIC forbids (RFC 9000, section 14): what
does not fit is refused by the device, or lost on the way."""

Address = Any


class DatagramSocket:
    """Reads as soon as there is something: `on_datagram(data, address, now)` for each datagram, then `on_end(now)`;
    `now` is when reading began, in seconds (CLOCK_MONOTONIC). `on_error` gets what the system says of datagrams that
    cannot be sent or, on a connected socket, were not delivered.

    The socket is bound, or connected if `is_connected`, and non-blocking; it is not closed here. Datagrams leave whole
    or not at all, unless they `may_be_cut`.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_datagram: Callable[[bytes, Address, float], None],
        on_end: Callable[[float], None],
        on_error: Callable[[OSError], None],
        is_connected: bool = False,
        may_be_cut: bool = False,
    ) -> None:
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_end = on_end
        self._on_error = on_error
        self._is_connected = is_connected
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Address]] = deque()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):  # some systems refuse a size above their limit
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        if not may_be_cut:
            with contextlib.suppress(OSError, KeyError):  # other systems have other ways, or none
                sock.setsockopt(*_MTU_DISCOVERY[sock.family])
        self._loop.add_reader(sock, self._read)

    def close(self) -> None:
        """Read no more, and forget what waits to be sent."""
        self._loop.remove_reader(self._sock)
        if self._waiting:
            self._waiting.clear()
            self._loop.remove_writer(self._sock)

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send datagrams, each to its address; on a connected socket that does not matter."""
        if self._waiting:
            self._waiting.extend(datagrams[: MAX_WAITING - len(self._waiting)])
            return
        for at, (data, address) in enumerate(datagrams):
            try:
                if self._is_connected:
                    self._sock.send(data)
                else:
                    self._sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                self._waiting.extend(datagrams[at : at + MAX_WAITING])
                self._loop.add_writer(self._sock, self._send_waiting)
                return
            except OSError as error:
                self._on_error(error)

    def _send_waiting(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        self._loop.remove_writer(self._sock)
        self.send(waiting)

    def _read(self) -> None:
        now = time.monotonic()
        receive, on_datagram = self._sock.recvfrom, self._on_datagram
        for _ in range(MAX_READ):
            try:
                data, address = receive(65_535)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._on_error(error)
                break
            if data:
                on_datagram(data, address, now)
        self._on_end(now)
