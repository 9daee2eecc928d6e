"""A UDP socket on an event loop, read and written many datagrams at a time.

Linux takes and gives runs of datagrams of one size in one call: segmentation offload (UDP_SEGMENT) for what is sent,
receive offload (UDP_GRO) for what has arrived. Where either is missing, datagrams go one by one.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_UDP_SEGMENT, _UDP_GRO = 103, 104
"""Linux, include/uapi/linux/udp.h; the socket module does not name them."""

MAX_RUN_BYTES, MAX_RUN = 64_000, 64
"""The most that goes in one call: less than a UDP datagram can hold, and as many segments as any Linux takes."""

MAX_READ = 256
"""Calls that read before others have their turn on the loop."""

MAX_WAITING = 4096
"""Datagrams kept while the system takes none; what is past them is lost, as on any full queue."""

BUFFER_BYTES = 4 * 1024 * 1024
"""What the system may hold for the socket each way; it may grant less (net.core.rmem_max, wmem_max)."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(struct.calcsize("i"))

Address = Any


class DatagramSocket:
    """Reads as soon as there is something: `on_datagram(data, address, now)` for each datagram, then `on_end(now)`;
    `now` is when reading began, in seconds (CLOCK_MONOTONIC). `on_error` gets what the system says of datagrams that
    cannot be sent or, on a connected socket, were not delivered.

    The socket is bound or connected, and non-blocking; it is not closed here.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_datagram: Callable[[bytes, Address, float], None],
        on_end: Callable[[float], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_end = on_end
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._segments = True
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):  # some systems refuse a size above their limit
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        with contextlib.suppress(OSError):  # not Linux, or an old one: datagrams come one by one
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self._loop.add_reader(sock, self._read)

    def close(self) -> None:
        """Read no more, and forget what waits to be sent."""
        self._loop.remove_reader(self._sock)
        if self._waiting:
            self._waiting.clear()
            self._loop.remove_writer(self._sock)

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send datagrams, each with its address, which is ignored if the socket is connected."""
        if self._waiting:
            self._waiting.extend(datagrams[: MAX_WAITING - len(self._waiting)])
            return
        at, count = 0, len(datagrams)
        while at < count:
            end = at + 1
            if end < count and self._segments:
                end = _run_end(datagrams, at)
            try:
                self._send_run(datagrams[at:end])
            except (BlockingIOError, InterruptedError):
                self._waiting.extend(datagrams[at:])
                self._loop.add_writer(self._sock, self._send_waiting)
                return
            except OSError as error:
                if end - at > 1:
                    self._segments = False  # a device that cannot; one by one, then
                    continue
                self._on_error(error)
            at = end

    def _send_run(self, run: Sequence[tuple[bytes, Address]]) -> None:
        data, address = run[0]
        if len(run) > 1:
            size = struct.pack("=H", len(data))
            parts = [data for data, _ in run]
            self._sock.sendmsg(parts, [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)], 0, address)
        elif address is None:
            self._sock.send(data)
        else:
            self._sock.sendto(data, address)

    def _send_waiting(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        self._loop.remove_writer(self._sock)
        self.send(waiting)

    def _read(self) -> None:
        now = time.monotonic()
        receive, on_datagram = self._sock.recvmsg, self._on_datagram
        for _ in range(MAX_READ):
            try:
                data, ancillary, _, address = receive(65_535, _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._on_error(error)
                break
            if ancillary:
                (size,) = struct.unpack_from("=H", ancillary[0][2])
                for start in range(0, len(data), size):
                    on_datagram(data[start : start + size], address, now)
            elif data:
                on_datagram(data, address, now)
        self._on_end(now)


def _run_end(datagrams: Sequence[tuple[bytes, Address]], at: int) -> int:
    """Where the run that begins at a place ends: datagrams to one address, all of one size but the last, which may be
    shorter."""
    data, address = datagrams[at]
    size = total = len(data)
    end = at + 1
    while end < len(datagrams) and end - at < MAX_RUN:
        data, other = datagrams[end]
        total += len(data)
        if len(data) > size or total > MAX_RUN_BYTES or (other is not address and other != address):
            break
        end += 1
        if len(data) < size:
            break
    return end
