"""What a node sees of its packets, as a pcap file that Wireshark opens: raw IP, with nanoseconds."""

import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import dpkt

_LINKTYPE_RAW = 101

_OFFSET_NS = time.time_ns() - time.monotonic_ns()
"""From CLOCK_MONOTONIC to the wall clock, taken once: what both ends of a link saw is on one clock."""


class CaptureFile:
    """One node's packets, each when it leaves the node or arrives there."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit` is how many packets are kept."""
        self._room = limit
        self._file = path.open("wb")
        self._writer = _writer(self._file)

    def add(self, at_ns: int, packet: bytes) -> None:
        """Keep a packet. The time is of CLOCK_MONOTONIC; in the file it is the wall clock's."""
        if self._room == 0:
            return
        self._room -= 1
        self._writer.writepkt_time(packet, (at_ns + _OFFSET_NS) / 1_000_000_000)

    def flush(self) -> None:
        """Have what was kept in the file."""
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()


def pcap_of(packets: Iterable[tuple[int, bytes]]) -> bytes:
    """A pcap file of packets of IP, each with when it was seen in nanoseconds since the epoch."""
    file = io.BytesIO()
    writer = _writer(file)
    for at_ns, packet in packets:
        writer.writepkt_time(packet, at_ns / 1_000_000_000)
    return file.getvalue()


def _writer(file: BinaryIO) -> "dpkt.pcap.Writer":
    import dpkt  # which takes a third of a lab's start to import, and most labs keep no packets

    return dpkt.pcap.Writer(file, snaplen=65_535, linktype=_LINKTYPE_RAW, nano=True)
