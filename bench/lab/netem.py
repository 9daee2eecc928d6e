"""Links by the kernel's own emulation, netem (tc-netem(8)), where there is one: what each end of a link sends is held
up and lost by queueing disciplines on its device, and the router adds nothing but what netem has no word for (block,
pmtu).

What differs from the lab's own links: chance is the kernel's and not the seed's; packets with a jitter overtake each
other; a rate is tbf's (tc-tbf(8)), behind the delay, and lets a few packets through at once; and the account of packets
counts what came out of netem, so what was lost there is not in it.
"""

from dataclasses import replace

from bench.lab.link import Direction, Link
from bench.lab.programs import run

_HELD_PACKETS = 1_000_000
"""What netem may hold under way, so that nothing overflows but a queue that was asked for: it drops from 1000 on."""

_TICK_S = 1 / 100
"""A token bucket holds as much as flows between two ticks of the slowest kernel (tc-tbf(8), burst)."""


def without_netem(link: Link) -> Link:
    """What of a link is left to the router."""
    up, down = (Direction(pmtu=way.pmtu, block=way.block) for way in (link.up, link.down))
    return replace(link, up=up, down=down)


def shape(device: str, way: Direction, mtu: int) -> None:
    """Have a device of the current network namespace send like this. Raises UnsupportedError."""
    _tc("qdisc", "add", "dev", device, "root", "handle", "1:", *netem_words(way))
    if way.rate_bits_per_s is not None:
        _tc("qdisc", "add", "dev", device, "parent", "1:1", "handle", "10:", *tbf_words(way, mtu))


def netem_words(way: Direction) -> list[str]:
    """How tc spells what becomes of packets, but for the rate."""
    words = ["netem", "limit", str(_HELD_PACKETS)]
    if way.delay_ns:
        words += ["delay", f"{way.delay_ns / 1000:.3f}us"]
        if way.jitter_ns:
            words += [f"{way.jitter_ns / 1000:.3f}us", *(["distribution", "normal"] if way.shape == "normal" else [])]
    if way.loss and way.burst is None:
        words += ["loss", "random", _percent(way.loss)]
    elif way.loss and way.burst is not None:
        ends = 1 / way.burst
        words += ["loss", "gemodel", _percent(ends * way.loss / (1 - way.loss)), _percent(ends)]
    if way.duplicate:
        words += ["duplicate", _percent(way.duplicate)]
    if way.reorder:
        words += ["reorder", _percent(way.reorder)]
    return words


def tbf_words(way: Direction, mtu: int) -> list[str]:
    """How tc spells a rate and its queue."""
    assert way.rate_bits_per_s is not None
    at_once = max(2 * mtu, int(way.rate_bits_per_s / 8 * _TICK_S))
    words = ["tbf", "rate", f"{way.rate_bits_per_s:.0f}bit", "burst", str(at_once)]
    if way.queue_bytes is not None:
        return [*words, "limit", str(max(way.queue_bytes, mtu))]
    return [*words, "latency", f"{max(1, (way.queue_ns or 0) / 1000):.0f}us"]


def _percent(share: float) -> str:
    return f"{share * 100:.8f}%"


def _tc(*words: str) -> None:
    needs = "sch_netem and sch_tbf (modprobe sch_netem sch_tbf); the lab's own links work without"
    run("tc", *words, what="links by netem", package="iproute2", needs=needs)
