"""What carries packets between the nodes of a lab: one loop that reads them from TUN devices, holds them for as long as
their link says, and writes them to the device at the other end.
"""

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.lab.channel import Channel
from bench.lab.link import Link

_READ_AT_ONCE = 64
"""Packets read from one device before those that are due go out."""

_IDLE_S = 1.0
_LEAD_NS = 150_000
"""How long before a packet is due the loop stops sleeping, since a core that has gone idle wakes up late."""

_SPARSE_NS = 500_000
"""Packets that follow each other faster than this keep the core awake by themselves."""

_PR_SET_TIMERSLACK = 29
_LATE_US = 20_000
"""How late a packet left is counted to the microsecond up to this, and no further."""

Capture = Callable[[int, bytes], None]
"""Takes a packet as a node sees it leave or arrive, with the time in nanoseconds of CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True)
class Port:
    """One way from a device to the device at the other end of its link."""

    from_fd: int
    to_fd: int
    mtu: int
    """The most bytes of a packet."""
    channel: Channel
    sends: Capture | None
    takes: Capture | None


class Router:
    """The links of a lab. Not to be shared between threads."""

    def __init__(self) -> None:
        self.stopping = False
        self._ports: list[Port] = []
        self._watched: dict[int, Callable[[], None]] = {}
        self._late_us = [0] * (_LATE_US + 1)
        self._refused = 0

    def join(self, a_fd: int, b_fd: int, link: Link, seed: str, a_sees: Capture | None, b_sees: Capture | None) -> None:
        """Lay a link between two devices. What each sees of it may be captured."""
        self._ports += [
            Port(a_fd, b_fd, link.mtu, Channel(link.up, f"{seed}:up"), a_sees, b_sees),
            Port(b_fd, a_fd, link.mtu, Channel(link.down, f"{seed}:down"), b_sees, a_sees),
        ]

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call back when something other than a device can be read."""
        self._watched[fd] = on_readable

    def run(self) -> None:
        """Carry packets until `stopping` is set."""
        with contextlib.suppress(OSError):
            os.nice(-10)  # a packet's delay should be the link's, not the scheduler's
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
        ports = {port.from_fd: port for port in self._ports}
        clock, wait, watched = time.monotonic_ns, select.select, self._watched
        last_ns = 0
        while not self.stopping:
            now = clock()
            next_ns = now + int(_IDLE_S * 1e9)
            for port in self._ports:
                queue = port.channel.queue
                if queue and queue[0][0] < next_ns:
                    next_ns = queue[0][0]
            sleep_ns = next_ns - now
            if next_ns - last_ns > _SPARSE_NS:
                sleep_ns -= _LEAD_NS
            for fd in wait([*ports, *watched], (), (), max(0.0, sleep_ns / 1e9))[0]:
                if fd in ports:
                    self._take(ports[fd])
                else:
                    watched[fd]()
            for port in self._ports:
                if port.channel.queue and self._deliver(port):
                    last_ns = clock()

    def account(self) -> dict[str, Any]:
        """What became of the packets of each link so far, and how late the router was with those that it delivered."""
        total = sum(self._late_us)
        spans = [
            {"up": asdict(up.channel.counts), "down": asdict(down.channel.counts)}
            for up, down in zip(self._ports[::2], self._ports[1::2], strict=True)
        ]
        return {
            "spans": spans,
            "refused": self._refused,
            "late_ns": {
                "p50": self._late_ns(total * 0.5),
                "p99": self._late_ns(total * 0.99),
                "max": self._late_ns(total),
            }
            if total
            else None,
            "cpu_s": time.process_time(),
        }

    def _late_ns(self, rank: float) -> int:
        seen = 0
        for late_us, count in enumerate(self._late_us):
            seen += count
            if seen >= rank:
                return late_us * 1000
        return _LATE_US * 1000

    def _take(self, port: Port) -> None:
        """Read what a node has sent."""
        clock, read, fd, size = time.monotonic_ns, os.read, port.from_fd, port.mtu
        offer, sends = port.channel.offer, port.sends
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READ_AT_ONCE):
                packet = read(fd, size)
                now = clock()
                if sends is not None:
                    sends(now, packet)
                offer(packet, now)

    def _deliver(self, port: Port) -> bool:
        """Write what is due to the node that it is for. Whether there was anything."""
        queue, counts, write, fd = port.channel.queue, port.channel.counts, os.write, port.to_fd
        takes, late_us = port.takes, self._late_us
        now = time.monotonic_ns()
        if queue[0][0] > now:
            return False
        while queue and queue[0][0] <= now:
            due, packet = queue.popleft()
            try:
                write(fd, packet)
            except OSError:  # the device takes no packet now
                self._refused += 1
                continue
            if takes is not None:
                takes(now, packet)
            counts.delivered += 1
            counts.delivered_bytes += len(packet)
            late_us[min((now - due) // 1000, _LATE_US)] += 1
        return True
