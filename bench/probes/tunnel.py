"""A transfer over TCP through a tunnel, whose packets TCP carries, or UDP.

Each end of the tunnel is this module as a process on a node of the lab, told in a line of JSON: {"carrier", "inside",
"listen" or "to"}, the address that it has in the tunnel and those of the link. It says `ready` when its device is up.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from typing import Any

from bench.childprocess import ChildProcess, heard
from bench.lab.kernel import CONGESTION
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.namespaces import open_tun, set_route_metrics
from bench.lab.topology import CLIENT, SERVER, SERVER_ADDRESS, two_ends
from bench.probes.paths import transfer

_TRANSFERS = 4
_CONTROL = "reno"
"""Congestion control, of the tunnel and inside of it."""
_NEAR, _FAR = "10.99.0.1/24", "10.99.0.2/24"
_PORT = 7000
_DEVICE = "tunnel0"
_MTU = 1400
_PACKETS_AT_ONCE = 64
_TIMEOUT_S = 10.0


def measure(carrier: str, loss: str, kilobytes: int) -> dict[str, float]:
    """What arrives in a second over a link of 60 ms that loses such a share of its packets, and what the link is given
    for it: of several transfers, for where the losses fall makes much of a difference. Raises UnsupportedError."""
    size_bytes = kilobytes * 1_000
    seeds = [random.getrandbits(32) for _ in range(_TRANSFERS)]
    with ThreadPoolExecutor(_TRANSFERS) as pool:  # each in a lab of its own; most of the time they wait
        found = list(pool.map(lambda seed: _transfer(carrier, loss, size_bytes, seed), seeds))
    return {
        "goodput_bytes_per_s": statistics.harmonic_mean(bytes_per_s for bytes_per_s, _ in found),
        "given_ratio": statistics.mean(given_bytes for _, given_bytes in found) / size_bytes,
    }


def _transfer(carrier: str, loss: str, size_bytes: int, seed: int) -> tuple[float, int]:
    """What arrives in a second, and how many bytes the link was given until all had arrived."""
    link = parse_link(f"rtt=60ms,loss={loss}", "link")
    with Lab(two_ends(link), seed, {CONGESTION: _CONTROL}) as lab:
        ends = {node: ChildProcess("bench.probes.tunnel", lab.within(node)) for node in (SERVER, CLIENT)}
        try:
            ends[SERVER].send({"carrier": carrier, "inside": _FAR, "listen": SERVER_ADDRESS})
            heard(ends[SERVER], "ready", "the tunnel's end", _TIMEOUT_S)
            ends[CLIENT].send({"carrier": carrier, "inside": _NEAR, "to": SERVER_ADDRESS})
            heard(ends[CLIENT], "ready", "the tunnel's beginning", _TIMEOUT_S)
            bytes_per_s = transfer(lab, "0", str(IPv4Interface(_FAR).ip), size_bytes)
            return bytes_per_s, lab.account()["spans"][0]["up"]["offered_bytes"]
        finally:
            for end in ends.values():
                end.kill()


class _End(asyncio.BaseProtocol, ABC):
    """An end of the tunnel: between its device and a socket."""

    def __init__(self, device_fd: int) -> None:
        self._device_fd = device_fd
        self._loop = asyncio.get_running_loop()
        self._transport: Any

    @abstractmethod
    def _send(self, packets: list[bytes]) -> None:
        """Send packets to the other end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"the other end is gone: {exc}")

    def pause_writing(self) -> None:
        self._loop.remove_reader(self._device_fd)  # what comes meanwhile waits in the device's queue

    def resume_writing(self) -> None:
        self._loop.add_reader(self._device_fd, self._carry)

    def _carry(self) -> None:
        packets: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(packets) < _PACKETS_AT_ONCE:
                packets.append(os.read(self._device_fd, _MTU))
        self._send(packets)

    def _arrived(self, packet: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # a full queue drops it
            os.write(self._device_fd, packet)


class _StreamEnd(_End, asyncio.Protocol):
    """Over TCP packets follow each other: each says itself how long it is (RFC 791, section 3.1)."""

    def __init__(self, device_fd: int) -> None:
        super().__init__(device_fd)
        self._partial = b""

    def data_received(self, data: bytes) -> None:
        data = self._partial + data
        at = 0
        while len(data) - at >= 4 and len(data) >= (end := at + int.from_bytes(data[at + 2 : at + 4], "big")):
            self._arrived(data[at:end])
            at = end
        self._partial = data[at:]

    def _send(self, packets: list[bytes]) -> None:
        self._transport.write(b"".join(packets))


class _DatagramEnd(_End, asyncio.DatagramProtocol):
    """Over UDP each is a datagram. The end that listens answers to where the last one came from."""

    def __init__(self, device_fd: int) -> None:
        super().__init__(device_fd)
        self._other: Any = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._other = addr
        self._arrived(data)

    def _send(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._transport.sendto(packet, self._other)


async def _tunnel(carrier: str, inside: str, listen: str = "", to: str = "") -> None:
    address = IPv4Interface(inside)
    device_fd = open_tun(_DEVICE, address, _MTU)
    set_route_metrics(_DEVICE, address, None, _CONTROL)
    loop = asyncio.get_running_loop()
    if carrier == "udp":
        await loop.create_datagram_endpoint(
            lambda: _DatagramEnd(device_fd), (listen, _PORT) if listen else None, (to, _PORT) if to else None
        )
    elif listen:
        await loop.create_server(lambda: _StreamEnd(device_fd), listen, _PORT)
    else:
        await loop.create_connection(lambda: _StreamEnd(device_fd), to, _PORT)
    print(json.dumps({"event": "ready"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # it ends when its input does


if __name__ == "__main__":
    asyncio.run(_tunnel(**json.loads(sys.stdin.readline())))
