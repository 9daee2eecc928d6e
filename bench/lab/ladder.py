"""The ladder of a conversation, and the account of a capture: packets as result files hold them.

A ladder is the packets between two ends in the order of time, for a diagram with a line for each end and an arrow for
each packet. results/README.md documents the records.
"""

import base64
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from bench.lab.capture import pcap_of
from bench.lab.conversations import Conversation, Line, conversations
from bench.lab.packets import Way, read_packets
from bench.lab.topology import CLIENT, SERVER

MAX_STEPS = 200
"""So many packets of a conversation are kept; an exchange has a few dozen."""
MAX_PCAP_BYTES = 200 * 1024
"""What a pcap file of a conversation may have, to be kept beside its ladder."""


@dataclass(frozen=True)
class Step:
    """A packet. Times are nanoseconds since the first packet was sent, sizes those of IP."""

    origin: str
    to: str
    sent_ns: int
    arrived_ns: int | None
    """None if it was lost."""
    label: str
    """What it carries, in words; "ACK" alone is an acknowledgement and nothing else."""
    bytes: int
    retransmission: bool = False

    def record(self) -> dict[str, Any]:
        """As result files hold it: `origin` is called "from" there."""
        fields = asdict(self)
        return {"from": fields.pop("origin"), **fields}


@dataclass(frozen=True)
class Ladder:
    """The packets of one conversation."""

    protocol: str
    rtt_ns: int
    """The link's own round-trip time, 0 if it has no delay."""
    packets: int
    bytes: int
    retransmissions: int
    first_byte_ns: int | None
    """When the first byte of the answer arrived; None without an answer."""
    first_byte_rtts: float | None
    """The same in round trips; None too if the link has no delay."""
    steps: tuple[Step, ...]
    left_out: int
    """Packets after those of `steps`."""
    pcap: str | None
    """All packets as the client's end saw them: a pcap file, compressed by zlib, in base64 (as histograms are). None if
    the file has over MAX_PCAP_BYTES."""

    def record(self) -> dict[str, Any]:
        """As result files hold it."""
        return {**vars(self), "steps": [step.record() for step in self.steps]}


def ladder(conversation: Conversation, rtt_ns: int) -> Ladder:
    """The ladder of a conversation over a link with that round-trip time (0 if it has none)."""
    begin_ns, answer_ns = conversation.begin_ns, conversation.first_answer_ns
    rtts = conversation.first_byte_rtts(rtt_ns)
    return Ladder(
        protocol=conversation.protocol,
        rtt_ns=rtt_ns,
        packets=len(conversation.lines),
        bytes=sum(line.packet.size_bytes for line in conversation.lines),
        retransmissions=sum(line.retransmission for line in conversation.lines),
        first_byte_ns=None if answer_ns is None else answer_ns - begin_ns,
        first_byte_rtts=None if rtts is None else round(rtts, 4),
        steps=tuple(_step(line, begin_ns) for line in conversation.lines[:MAX_STEPS]),
        left_out=max(0, len(conversation.lines) - MAX_STEPS),
        pcap=_pcap(conversation),
    )


def _pcap(conversation: Conversation) -> str | None:
    packets = [line.packet for line in conversation.lines]
    seen = [(packet.sent_ns if packet.way == "up" else packet.arrived_ns, packet) for packet in packets]
    at_client = [
        (at_ns, packet.data)
        for at_ns, packet in seen
        if at_ns is not None and not (packet.duplicate and packet.way == "up")
    ]
    file = pcap_of(sorted(at_client, key=lambda each: each[0]))
    return base64.b64encode(zlib.compress(file, 9)).decode() if len(file) <= MAX_PCAP_BYTES else None


def _step(line: Line, begin_ns: int) -> Step:
    packet = line.packet
    origin, to = (CLIENT, SERVER) if packet.way == "up" else (SERVER, CLIENT)
    arrived_ns = None if packet.arrived_ns is None else packet.arrived_ns - begin_ns
    return Step(origin, to, packet.sent_ns - begin_ns, arrived_ns, line.words, packet.size_bytes, line.retransmission)


def typical(found: Sequence[Conversation]) -> Conversation | None:
    """The conversation that stands for others like it: the one whose first answer took the median time, the earlier of
    two in the middle. Without answers it is the first one, and None if there are none at all."""
    answered = [each for each in found if each.first_answer_ns is not None]
    if not answered:
        return found[0] if found else None
    took_ns = [(each.first_answer_ns or 0) - each.begin_ns for each in answered]
    return answered[took_ns.index(median_low(took_ns))]


def summary(found: Sequence[Conversation], rtt_ns: int) -> dict[str, Any]:
    """Conversations in figures: by direction and protocol `packets`, `bytes`, `lost` and `retransmissions`; how many
    `conversations` there were and how many `handshakes`, by protocol; and the round trips to the first byte of their
    answers, or None if none had an answer or the link has no delay."""
    rtts = sorted(each for each in (one.first_byte_rtts(rtt_ns) for one in found) if each is not None)
    handshakes = Counter(each.protocol for each in found if each.handshake)
    return {
        "up": _by_protocol(found, "up"),
        "down": _by_protocol(found, "down"),
        "conversations": len(found),
        "handshakes": dict(handshakes),
        "first_byte_rtts": {
            "count": len(rtts),
            "min": round(rtts[0], 4),
            "p50": round(median_low(rtts), 4),
            "max": round(rtts[-1], 4),
        }
        if rtts
        else None,
    }


def _by_protocol(found: Sequence[Conversation], way: Way) -> dict[str, dict[str, int]]:
    counted: dict[str, Counter[str]] = {}
    for conversation in found:
        counts = counted.setdefault(conversation.protocol, Counter(packets=0, bytes=0, lost=0, retransmissions=0))
        for line in conversation.lines:
            if line.packet.way == way and not line.packet.duplicate:
                counts["packets"] += 1
                counts["bytes"] += line.packet.size_bytes
                counts["lost"] += line.packet.arrived_ns is None
                counts["retransmissions"] += line.retransmission
    return {protocol: dict(counts) for protocol, counts in counted.items() if counts["packets"]}


def captured(folder: Path, rtt_ns: int, port: int | None = None, limit: int | None = None) -> dict[str, Any]:
    """What a lab's capture in `folder` adds to a trial's "wire": `captured`, its figures, and `ladder`, that of a
    typical conversation (None if there is none). With a `port`, of the conversations with that port of the server
    alone. `limit` is how many packets each end has kept at most, if not all. Raises CaptureError."""
    found = [each for each in conversations(read_packets(folder, limit=limit)) if port in (None, each.server.port)]
    shown = typical(found)
    return {
        "captured": summary(found, rtt_ns),
        "ladder": None if shown is None else ladder(shown, rtt_ns).record(),
    }
