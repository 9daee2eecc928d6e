"""The packets of a link, from the captures of the nodes at its ends: each with when it was sent, and when it arrived.

A packet leaves and arrives as the same bytes, but for what routers change on the way (RFC 791: time to live and header
checksum), so the n-th of equal packets at the one end is the n-th at the other; one that the other end never saw was
lost. Both captures share a clock.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

import dpkt

from bench.errors import CaptureError
from bench.lab.topology import CLIENT, SERVER

Way = Literal["up", "down"]
"""Up is from the client to the server."""

FIN, SYN, RST, ACK = dpkt.tcp.TH_FIN, dpkt.tcp.TH_SYN, dpkt.tcp.TH_RST, dpkt.tcp.TH_ACK

_LINKTYPES_RAW = (12, 101)
_FAST_OPEN = 34
_ICMP = {1: "icmp", 58: "icmp"}
_NOT_PARSED = (dpkt.Error, struct.error, IndexError, KeyError, ValueError)
"""What dpkt raises about packets that are cut short or make no sense: not only errors of its own."""


class Endpoint(NamedTuple):
    """An address, and the port for protocols that have ports (else 0)."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.port else self.address


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP header (RFC 9293, section 3.1)."""

    seq: int
    flags: int
    fast_open: Literal["", "asks", "cookie"] = ""
    """The Fast Open option (RFC 7413, section 4.1.1): none, an empty one that asks for a cookie, or a cookie."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of the link. Times are nanoseconds since the epoch."""

    way: Way
    sent_ns: int
    arrived_ns: int | None
    """None if it was lost."""
    data: bytes
    """All of it, from its IP header on: as the client's end had it, or the server's if it never got to the client."""
    protocol: str
    """tcp, udp, icmp, "ip-" with the number of another protocol, or "not-ip"."""
    source: Endpoint
    destination: Endpoint
    payload: bytes
    """What is above TCP or UDP; what is above IP for others."""
    tcp: Segment | None = None
    duplicate: bool = False
    """The link delivered it once more: when it was sent is when the first was."""

    @property
    def size_bytes(self) -> int:
        """The size of IP."""
        return len(self.data)


class _Seen(NamedTuple):
    at_ns: int
    data: bytes


def read_packets(folder: Path, client: str = CLIENT, server: str = SERVER, limit: int | None = None) -> list[Packet]:
    """The packets between two nodes that a lab's capture in `folder` holds, in the order in which they were sent.
    `limit` is how many each end has kept at most, if not all.

    Raises CaptureError if a capture is missing or is none. A capture that ends within a packet is read up to there.
    """
    return pair(read_pcap(folder / f"{client}.pcap"), read_pcap(folder / f"{server}.pcap"), limit)


def read_pcap(path: Path) -> list[tuple[int, bytes]]:
    """(nanoseconds since the epoch, packet) of a capture of raw IP. Raises CaptureError."""
    found = []
    try:
        with path.open("rb") as file:
            reader = dpkt.pcap.Reader(file)
            if reader.datalink() not in _LINKTYPES_RAW:
                raise CaptureError(
                    f"{path}: holds link type {reader.datalink()}, and a lab's captures hold raw IP (101)"
                )
            try:
                for seconds, data in reader:
                    found.append((int(seconds * 1_000_000_000), bytes(data)))
            except dpkt.NeedData:
                pass  # it ends within the head of a packet: whoever wrote it was killed
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, dpkt.Error) as error:
        raise CaptureError(f"{path}: is no pcap file: {error}") from None
    if found and _is_cut(found[-1][1]):
        found.pop()
    return found


def pair(
    at_client: list[tuple[int, bytes]], at_server: list[tuple[int, bytes]], limit: int | None = None
) -> list[Packet]:
    """Packets from what both ends saw, each given as (nanoseconds, bytes), in the order in which they were sent. Those
    that were still under way when the captures ended are left out: nobody knows what became of them. An end that saw
    `limit` packets saw no more of them."""
    seen = [_by_content(at_client), _by_content(at_server)]
    senders = _senders(seen)
    packets: list[Packet] = []
    for content in seen[0] | seen[1]:
        there = seen[0].get(content, []), seen[1].get(content, [])
        data = (there[0] or there[1])[0].data
        origin = senders[_source(data)]
        sent, arrived = there[origin], there[1 - origin]
        if not sent:
            continue  # it came from somewhere else than the other end
        way: Way = "down" if origin else "up"
        for number, each in enumerate(sent):
            at_ns = max(arrived[number].at_ns, each.at_ns) if number < len(arrived) else None
            packets.append(_packet(way, each.at_ns, at_ns, each.data, False))
        packets += [_packet(way, sent[-1].at_ns, extra.at_ns, extra.data, True) for extra in arrived[len(sent) :]]
    ends_ns = [max((at_ns for at_ns, _ in at), default=0) for at in (at_client, at_server)]
    last_ns = [
        own if limit is not None and len(at) >= limit else max(ends_ns)
        for own, at in zip(ends_ns, (at_client, at_server), strict=True)
    ]
    return sorted(_decided(packets, {"down": last_ns[0], "up": last_ns[1]}), key=lambda packet: packet.sent_ns)


def _decided(packets: list[Packet], last_ns: dict[Way, int]) -> Iterator[Packet]:
    """Packets without those that were still under way when the capture where they would arrive ended."""
    slowest_ns: dict[Way, int] = {"up": 0, "down": 0}
    for packet in packets:
        if packet.arrived_ns is not None:
            slowest_ns[packet.way] = max(slowest_ns[packet.way], packet.arrived_ns - packet.sent_ns)
    for packet in packets:
        if packet.arrived_ns is not None or packet.sent_ns + slowest_ns[packet.way] < last_ns[packet.way]:
            yield packet


def _by_content(seen: list[tuple[int, bytes]]) -> dict[bytes, list[_Seen]]:
    found: dict[bytes, list[_Seen]] = {}
    for at_ns, data in sorted(seen, key=lambda each: each[0]):
        found.setdefault(_content(data), []).append(_Seen(at_ns, data))
    return found


def _content(data: bytes) -> bytes:
    """A packet without what routers change."""
    match data[:1] and data[0] >> 4:
        case 4:
            return data[:8] + data[9:10] + data[12:]
        case 6:
            return data[:7] + data[8:]
    return data


def _source(data: bytes) -> bytes:
    """The source address, as bytes; empty for what is not IP."""
    match data[:1] and data[0] >> 4:
        case 4:
            return data[12:16]
        case 6:
            return data[8:24]
    return b""


def _senders(seen: list[dict[bytes, list[_Seen]]]) -> dict[bytes, int]:
    """Which end each source address is at, 0 or 1: the end that sees its packets first. A client that moves has several
    addresses, so they are found here and not asked for."""
    votes: dict[bytes, int] = {}
    for content in seen[0] | seen[1]:
        here, there = seen[0].get(content), seen[1].get(content)
        data = (here or there or [])[0].data
        at_second = here is None or (there is not None and there[0].at_ns < here[0].at_ns)
        votes[_source(data)] = votes.get(_source(data), 0) + (-1 if at_second else 1)
    return {source: int(count < 0) for source, count in votes.items()}


def _is_cut(data: bytes) -> bool:
    """Whether a packet is shorter than it says, or than any IP packet."""
    if len(data) < 20:
        return True
    size = int.from_bytes(data[2:4], "big") if data[0] >> 4 == 4 else 40 + int.from_bytes(data[4:6], "big")
    return size > len(data) and data[0] >> 4 in (4, 6)


def _packet(way: Way, sent_ns: int, arrived_ns: int | None, data: bytes, duplicate: bool) -> Packet:
    protocol, source, destination, payload, segment = parse(data)
    return Packet(way, sent_ns, arrived_ns, data, protocol, source, destination, payload, segment, duplicate)


def parse(data: bytes) -> tuple[str, Endpoint, Endpoint, bytes, Segment | None]:
    """Protocol, source, destination, payload and TCP header of an IP packet. What cannot be parsed is a packet of the
    layer below: a damaged TCP segment is "ip-6", what is not even IP is "not-ip". Raises nothing."""
    nobody = Endpoint("", 0)
    try:
        ip = dpkt.ip6.IP6(data) if data[0] >> 4 == 6 else dpkt.ip.IP(data)
        if ip.v not in (4, 6):
            return "not-ip", nobody, nobody, data, None
        source, destination = str(ip_address(ip.src)), str(ip_address(ip.dst))
        number = getattr(ip, "p", data[6])  # dpkt forgets it where extension headers of IPv6 are damaged
    except _NOT_PARSED:
        return "not-ip", nobody, nobody, data, None
    above = ip.data
    if isinstance(above, dpkt.tcp.TCP):
        segment = Segment(above.seq, above.flags, _fast_open(above))
        return "tcp", Endpoint(source, above.sport), Endpoint(destination, above.dport), bytes(above.data), segment
    if isinstance(above, dpkt.udp.UDP):
        return "udp", Endpoint(source, above.sport), Endpoint(destination, above.dport), bytes(above.data), None
    payload = data[40:] if ip.v == 6 else data[4 * ip.hl :]
    return _ICMP.get(number, f"ip-{number}"), Endpoint(source, 0), Endpoint(destination, 0), payload, None


def _fast_open(tcp: dpkt.tcp.TCP) -> Literal["", "asks", "cookie"]:
    options = filter(None, dpkt.tcp.parse_opts(tcp.opts))  # None stands for what is damaged
    cookies = [value for kind, value in options if kind == _FAST_OPEN]
    return "" if not cookies else "cookie" if cookies[0] else "asks"
