"""What two endpoints said to each other, packet by packet in plain words, and how long the first answer took."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header

from bench.lab.packets import ACK, FIN, RST, SYN, Endpoint, Packet, Way
from bench.lab.readers import reader_of
from bench.lab.streams import DataReader, Item, StreamReader

_SEQUENCE = 1 << 32


@dataclass(frozen=True)
class Line:
    """A packet and what it carries, in words. `is_data` if that is of a request or an answer, and not of a
    handshake."""

    packet: Packet
    words: str
    is_data: bool = False
    retransmission: bool = False
    """All or some of what it carries was sent before (for TCP; QUIC hides it)."""


@dataclass(frozen=True)
class Conversation:
    """The packets between two endpoints, in the order in which they were sent: one TCP connection, or all datagrams
    between two ports. The client is who began."""

    protocol: str
    """tcp, quic, udp, icmp, or what `Packet.protocol` says of others."""
    client: Endpoint
    server: Endpoint
    lines: tuple[Line, ...]
    handshake: bool
    """Both ends took part in one: a SYN/ACK came for the SYN, or a server's QUIC packets for the client's Initial."""
    first_answer_ns: int | None
    """When the first byte of an answer arrived, in nanoseconds since the epoch; None if there was none. An answer is
    data that was sent after the first data of the client had arrived: what a server says by itself is none."""

    @property
    def begin_ns(self) -> int:
        """When its first packet was sent."""
        return self.lines[0].packet.sent_ns

    def first_byte_rtts(self, rtt_ns: int) -> float | None:
        """Round trips from the first packet to the first byte of the answer; None without an answer or a delay."""
        if self.first_answer_ns is None or not rtt_ns:
            return None
        return (self.first_answer_ns - self.begin_ns) / rtt_ns


def conversations(packets: Iterable[Packet]) -> list[Conversation]:
    """The conversations that packets belong to, in the order in which they began. Whatever packets hold, there is no
    error: what cannot be read is "data"."""
    return [_conversation(members) for members in _apart(packets)]


def _apart(packets: Iterable[Packet]) -> Iterator[list[Packet]]:
    """Packets by the endpoints that they are between. A TCP connection that is opened anew between the same ports is
    another conversation."""
    found: list[list[Packet]] = []
    current: dict[object, list[Packet]] = {}
    opened: dict[object, int] = {}
    for packet in packets:
        key = (packet.protocol, frozenset((packet.source, packet.destination)))
        anew = False
        if packet.tcp is not None and packet.tcp.flags & (SYN | ACK) == SYN:
            anew = opened.get(key, packet.tcp.seq) != packet.tcp.seq
            opened[key] = packet.tcp.seq
        if key not in current or anew:
            current[key] = []
            found.append(current[key])
        current[key].append(packet)
    yield from found


def _conversation(packets: list[Packet]) -> Conversation:
    first = packets[0]
    protocol = first.protocol
    match protocol:
        case "tcp":
            lines, answer_ns = _TcpConversation(packets).read()
            handshake = any(line.words.startswith("SYN/ACK") for line in lines)
        case "udp" if _begins_quic(first.payload):
            protocol = "quic"
            lines = [_quic_line(packet) for packet in packets]
            answer_ns = _first_answer(lines, first.way)
            handshake = any(_is_long(line.packet.payload) for line in lines if line.packet.way != first.way)
        case _:
            lines = [_plain_line(packet) for packet in packets]
            answer_ns = _first_answer(lines, first.way)
            handshake = False
    return Conversation(protocol, first.source, first.destination, tuple(lines), handshake, answer_ns)


def _plain_line(packet: Packet) -> Line:
    if packet.protocol == "icmp":
        return Line(packet, _ICMP.get(packet.payload[0], "ICMP") if packet.payload else "ICMP", True)
    return Line(packet, "datagram" if packet.protocol == "udp" else packet.protocol, True)


_ICMP = {
    0: "echo reply",
    3: "unreachable",
    8: "echo request",
    11: "time exceeded",
    128: "echo request",
    129: "echo reply",
}
"""Types of ICMP (RFC 792) and, from 128, of ICMPv6 (RFC 4443)."""


def _first_answer(lines: Iterable[Line], client: Way) -> int | None:
    """When the first answer arrived in a conversation of datagrams."""
    asked_ns: int | None = None
    answers: list[int] = []
    for line in lines:
        arrived_ns = line.packet.arrived_ns
        if not line.is_data or arrived_ns is None:
            continue
        if line.packet.way == client:
            asked_ns = arrived_ns if asked_ns is None else min(asked_ns, arrived_ns)
        elif asked_ns is not None and line.packet.sent_ns >= asked_ns:
            answers.append(arrived_ns)
    return min(answers, default=None)


# QUIC

_VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
_MIN_INITIAL_BYTES = 1200
"""What a client pads its first datagrams to (RFC 9000, section 14.1)."""

_LONG, _FIXED = 0x80, 0x40
_GREASE_MASK, _GREASE = 0x0F0F0F0F, 0x0A0A0A0A
_QUIC = {
    QuicPacketType.INITIAL: "Initial",
    QuicPacketType.ZERO_RTT: "0-RTT",
    QuicPacketType.HANDSHAKE: "Handshake",
    QuicPacketType.RETRY: "Retry",
    QuicPacketType.VERSION_NEGOTIATION: "Version Negotiation",
    QuicPacketType.ONE_RTT: "1-RTT",
}


def quic_packets(datagram: bytes) -> list[str]:
    """The QUIC packets that are coalesced in a datagram, by type (RFC 9000, sections 12.2 and 17); empty if there is
    none. What follows a packet and is none is padding."""
    found: list[str] = []
    while datagram:
        if not datagram[0] & _LONG:
            if datagram[0] & _FIXED or not found:  # the fixed bit may be greased (RFC 9287), but padding is zeros
                found.append("1-RTT")
            break
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=0)
        except ValueError:  # aioquic's own, and that of a buffer which ends too early
            break
        found.append(_QUIC[header.packet_type])
        if header.packet_length <= 0:
            break
        datagram = datagram[header.packet_length :]
    return found


def _is_long(datagram: bytes) -> bool:
    return bool(datagram and datagram[0] & _LONG)


def _begins_quic(datagram: bytes) -> bool:
    """Whether a conversation begins as QUIC does: a padded Initial of a version that is known, or that is meant to be
    refused (RFC 9000, section 15)."""
    if len(datagram) < _MIN_INITIAL_BYTES or datagram[0] & (_LONG | _FIXED) != _LONG | _FIXED:
        return False
    version = int.from_bytes(datagram[1:5], "big")
    known = version in _VERSIONS or version & _GREASE_MASK == _GREASE
    return known and quic_packets(datagram)[:1] in (["Initial"], ["0-RTT"])


def _quic_line(packet: Packet) -> Line:
    found = quic_packets(packet.payload)
    return Line(packet, _joined(found) or "datagram", "1-RTT" in found or "0-RTT" in found)


# TCP


@dataclass(frozen=True)
class _Span:
    """What of its stream a packet carries: offsets count from the SYN, which has the first."""

    packet: Packet
    data_at: int
    fresh_at: int
    """From where on its data was not sent before."""
    end: int
    """The end of its data; a FIN would follow."""
    again: bool
    """Some of it was sent before."""


@dataclass(frozen=True)
class _Part:
    """Bytes of a stream that were sent at a time."""

    offset: int
    data: bytes
    now_ns: int

    def joined(self, following: "_Part") -> "_Part":
        return _Part(self.offset, self.data + following.data, following.now_ns)


class _TcpConversation:
    """One TCP connection. What is new in each segment goes to a reader of streams in the order in which it was sent;
    since captures are the senders', nothing needs to be put in order."""

    def __init__(self, packets: list[Packet]) -> None:
        self._client = packets[0].way
        self._spans = list(_spans(packets))
        self._items: dict[Way, list[Item]] = {"up": [], "down": []}
        self._arrived_ns = cache(self._find_arrival)

    def read(self) -> tuple[list[Line], int | None]:
        """Its lines, and when the first answer arrived."""
        reader: StreamReader | None = None
        waiting: dict[Way, _Part] = {}
        for span in self._spans:
            fresh = span.packet.payload[span.fresh_at - span.data_at :]
            if not fresh:
                continue
            way = span.packet.way
            part = _Part(span.fresh_at, fresh, span.packet.sent_ns)
            if reader is None:  # the client decides what is spoken, once it has said enough
                waiting[way] = waiting[way].joined(part) if way in waiting else part
                if self._client not in waiting:
                    continue
                reader = reader_of(waiting[self._client].data, self._client, self._arrived_ns)
                if reader is not None:
                    self._feed(reader, waiting)
            else:
                self._feed(reader, {way: part})
        if reader is None:
            self._feed(DataReader(), waiting)
        labels: dict[tuple[Way, int], str] = {}
        return [self._line(span, labels) for span in self._spans], self._first_answer()

    def _feed(self, reader: StreamReader, parts: Mapping[Way, _Part]) -> None:
        for way, part in parts.items():
            self._items[way] += reader.feed(way, part.offset, part.data, part.now_ns)

    def _find_arrival(self, way: Way, offset: int) -> int | None:
        """When the byte at an offset first arrived."""
        times = (
            span.packet.arrived_ns
            for span in self._spans
            if span.packet.way == way and span.data_at <= offset < span.end and span.packet.arrived_ns is not None
        )
        return min(times, default=None)

    def _first_answer(self) -> int | None:
        asked = next((item.offset for item in self._items[self._client] if item.is_data), None)
        asked_ns = None if asked is None else self._arrived_ns(self._client, asked)
        if asked_ns is None:
            return None
        server: Way = "down" if self._client == "up" else "up"
        data = [item.offset for item in self._items[server] if item.is_data]
        for span in self._spans:
            if span.packet.way == server and span.packet.sent_ns >= asked_ns:
                at = bisect_left(data, span.fresh_at)
                if at < len(data) and data[at] < span.end:
                    return self._arrived_ns(server, data[at])
        return None

    def _line(self, span: _Span, labels: dict[tuple[Way, int], str]) -> Line:
        packet = span.packet
        assert packet.tcp is not None
        flags, words = packet.tcp.flags, []
        if flags & SYN:
            words.append("SYN/ACK" if flags & ACK else "SYN")
            if packet.tcp.fast_open:
                words.append("asks for a cookie" if packet.tcp.fast_open == "asks" else "cookie")
        items: Sequence[Item] = ()
        if packet.payload:
            every = self._items[packet.way]
            first = bisect_left(every, span.data_at, key=attrgetter("offset"))
            items = every[first : bisect_left(every, span.end, key=attrgetter("offset"))]
            continued = f"… {every[first - 1].words}" if first else "data"
            said = _joined(item.words for item in items) or continued
            words.append(labels.setdefault((packet.way, span.data_at), said))
        if flags & FIN:
            words.append("FIN")
        if flags & RST:
            words.append("RST")
        is_data = any(item.is_data for item in items)
        return Line(packet, ", ".join(words) or "ACK", is_data, span.again and not packet.duplicate)


def _spans(packets: list[Packet]) -> Iterator[_Span]:
    """Where in its stream each segment is. Sequence numbers wrap (RFC 9293, section 3.4), offsets do not."""
    base: dict[Way, int] = {}
    following: dict[Way, int] = {}
    for packet in packets:
        segment = packet.tcp
        assert segment is not None
        way, opens = packet.way, bool(segment.flags & SYN)
        if way not in base:
            base[way] = segment.seq if opens else segment.seq - 1
            following[way] = 0 if opens else 1
        expected = following[way]
        ahead = (segment.seq - base[way] - expected) % _SEQUENCE
        begin = expected + (ahead if ahead < _SEQUENCE // 2 else ahead - _SEQUENCE)
        data_at = begin + opens
        end = data_at + len(packet.payload)
        after = end + bool(segment.flags & FIN)
        again = begin < expected and after > begin and not (begin == expected - 1 and packet.payload == b"\0")
        yield _Span(packet, data_at, min(end, max(data_at, expected)), end, again)
        following[way] = max(expected, after)


def _joined(words: Iterable[str]) -> str:
    """ "HEADERS, DATA ×3": what follows itself is counted."""
    told: list[tuple[str, int]] = []
    for word in words:
        if told and told[-1][0] == word:
            told[-1] = (word, told[-1][1] + 1)
        else:
            told.append((word, 1))
    return ", ".join(f"{word} ×{count}" if count > 1 else word for word, count in told)
