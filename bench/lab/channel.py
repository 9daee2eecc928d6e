"""One way of a link: what becomes of each packet, and when it arrives. The clock is the caller's, and so is the I/O.

A packet meets, in this order: what is blocked, loss, the queue for its turn at the rate, the delay with its jitter,
duplication. Chance comes from seeds, one for each thing that happens by chance, with a draw for each packet: what
befalls the packet with a given index depends on the seed and the index alone. So two runs that send different packets
meet the same losses at the same indices, and to turn on a jitter does not move the losses.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

from bench.lab.link import Direction

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}

MAX_LOST_LISTED = 10_000
"""So many indices of lost packets are kept."""


@dataclass
class Counts:
    """What became of the packets of one way. Bytes are those of IP packets."""

    offered: int = 0
    """Packets that were sent into the link, but for blocked ones: what the indices count."""
    offered_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    lost: int = 0
    overflowed: int = 0
    """Found no room in the queue."""
    oversized: int = 0
    """Larger than the path takes."""
    blocked: int = 0
    duplicated: int = 0
    reordered: int = 0
    lost_indices: list[int] = field(default_factory=list)
    """The indices of the lost packets, the first of them."""


class Channel:
    """One way. `queue` holds what is under way: (due, packet) in the order of arrival; who delivers takes from its left
    and counts in `counts`."""

    def __init__(self, way: Direction, seed: str) -> None:
        """`seed` is the link's, with the direction in it."""
        self.counts = Counts()
        self.queue: deque[tuple[int, bytes]] = deque()
        self._delay_ns = way.delay_ns
        self._jitter = _jitter(way, random.Random(f"{seed}:jitter")) if way.jitter_ns else None
        self._is_lost = _losses(way, random.Random(f"{seed}:loss")).__next__ if way.loss else None
        self._duplicate = way.duplicate
        self._duplicate_draw = random.Random(f"{seed}:duplicate").random
        self._reorder = way.reorder
        self._reorder_draw = random.Random(f"{seed}:reorder").random
        self._ns_per_byte = 8e9 / way.rate_bits_per_s if way.rate_bits_per_s else 0.0
        self._counts_own = way.queue_bytes is not None
        """A packet takes room in a queue of bytes itself; its own time at the rate is no time that it waits."""
        self._queue_ns = float(way.queue_ns or 0) if way.queue_bytes is None else way.queue_bytes * self._ns_per_byte
        self._free_ns = 0.0
        """When the rate has a turn for the next packet."""
        self._last_ns = 0
        self._pmtu = way.pmtu
        self._blocks = tuple(_block(what) for what in way.block)
        self._is_plain = not (
            way.block or way.pmtu or way.loss or way.rate_bits_per_s or way.jitter_ns or way.duplicate or way.reorder
        )

    def offer(self, packet: bytes, now_ns: int) -> None:
        """Take an IPv4 packet, and put it into `queue` unless it gets lost here."""
        counts = self.counts
        if self._is_plain:
            counts.offered += 1
            counts.offered_bytes += len(packet)
            self.queue.append((now_ns + self._delay_ns, packet))
            return
        if self._blocks and any(blocks(packet) for blocks in self._blocks):
            counts.blocked += 1
            return
        index, size = counts.offered, len(packet)
        counts.offered += 1
        counts.offered_bytes += size
        # All draws for a packet, whatever becomes of it: else what happens to one would move the chances of the next.
        is_lost = self._is_lost is not None and self._is_lost()
        jitter_ns = self._jitter() if self._jitter is not None else 0
        is_twice = self._duplicate and self._duplicate_draw() < self._duplicate
        is_ahead = self._reorder and self._reorder_draw() < self._reorder
        if is_lost:
            counts.lost += 1
            if counts.lost <= MAX_LOST_LISTED:
                counts.lost_indices.append(index)
            return
        if self._pmtu and size > self._pmtu:
            counts.oversized += 1
            return
        due = now_ns
        if self._ns_per_byte:
            free = max(self._free_ns, now_ns)
            takes = size * self._ns_per_byte
            waits = free - now_ns
            if waits and waits + (takes if self._counts_own else 0.0) > self._queue_ns:
                counts.overflowed += 1
                return
            self._free_ns = free + takes
            due = int(self._free_ns)
        copies = 1
        if is_twice:
            counts.duplicated += 1
            copies = 2
        if is_ahead:
            counts.reordered += 1
            for _ in range(copies):
                self._overtake(due, packet)
            return
        due += self._delay_ns
        if self._jitter is not None:
            due = max(self._last_ns, due + jitter_ns)
            self._last_ns = due
        self.queue.extend(repeat((due, packet), copies))

    def _overtake(self, due_ns: int, packet: bytes) -> None:
        queue = self.queue
        place = next((place for place, (other_ns, _) in enumerate(queue) if other_ns > due_ns), len(queue))
        queue.insert(place, (due_ns, packet))


def _jitter(way: Direction, chance: random.Random) -> Callable[[], int]:
    spread, least = way.jitter_ns, -way.delay_ns
    if way.shape == "normal":
        return lambda: max(least, int(chance.gauss(0.0, spread)))
    return lambda: int(chance.uniform(-spread, spread))


def _losses(way: Direction, chance: random.Random) -> Iterator[bool]:
    """Whether each packet in turn is lost. In runs: a chain of two states, one that loses everything and one that
    loses nothing (Gilbert, Bell System Technical Journal 39, 1960), whose means are those that were asked for."""
    draw = chance.random
    if way.burst is None:
        while True:
            yield draw() < way.loss
    ends = 1 / way.burst
    begins = ends * way.loss / (1 - way.loss)
    is_bad = draw() < way.loss
    while True:
        yield is_bad
        is_bad = draw() >= ends if is_bad else draw() < begins


def _block(what: str) -> Callable[[bytes], bool]:
    name, _, port_text = what.partition(":")
    protocol = _PROTOCOLS[name]
    if not port_text:
        return lambda packet: packet[9] == protocol
    port = int(port_text).to_bytes(2, "big")

    def is_blocked(packet: bytes) -> bool:
        if packet[9] != protocol or packet[6] & 0x1F or packet[7]:  # a later fragment has no ports
            return False
        ports = (packet[0] & 0x0F) * 4
        return port in (packet[ports : ports + 2], packet[ports + 2 : ports + 4])

    return is_blocked
