"""What a link does to packets, and how it is spelled: "rtt=40ms,loss=1%,rate=20mbit". No I/O and no clock here.

A link joins two ends. What goes from the first (the client) to the second (the server) goes up, the rest down. A key
holds for both directions; with the prefix `up.` or `down.` it holds for one, and beats the key without.

| key | meaning |
| --- | --- |
| rtt, delay | round-trip time, half of it each way; or the time of one way |
| jitter | spread of the delay: uniform within ± this, or the σ of a normal distribution (`shape=normal`) |
| loss, burst | share of packets lost; with `burst=5` losses come in runs of that mean length (Gilbert–Elliott) |
| duplicate | share of packets that arrive twice |
| reorder | share of packets that skip the delay, and so overtake what is under way (as netem has it) |
| rate, queue | bits a second, and how much may wait for its turn, in time or bytes: the rest is dropped (drop-tail) |
| mtu | largest packet of the devices at both ends |
| pmtu | largest packet that gets through; larger ones vanish without a word |
| block | what never gets through: udp, tcp, icmp, or a port as in udp:443; several with + |
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Literal

from bench.errors import UsageError
from bench.quantities import parse_duration_ns, parse_size_bytes, spell_duration, spell_size

LOOPBACK = "loopback"
"""The network that is no link: both ends on the machine's own loopback."""

BACKENDS = ("own", "netem")
"""What can make a link slow and lossy: the lab's router, or the kernel (see `bench.lab.netem`)."""

EXAMPLE = "rtt=40ms,loss=1%,rate=20mbit"

DEFAULT_QUEUE_NS = 100_000_000
"""What may wait for its turn at a rate, if nothing is said: a tenth of a second, as home routers have it at best."""

MIN_MTU, DEFAULT_MTU, MAX_MTU = 576, 1500, 65_521
"""Bytes of an IP packet: what every host must take (RFC 791), Ethernet's, and the most that a TUN device carries."""

_MAX_DELAY_NS = 60_000_000_000
_BITS = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_BLOCK = re.compile(r"icmp|(tcp|udp)(:\d{1,5})?")

Shape = Literal["uniform", "normal"]


@dataclass(frozen=True)
class Direction:
    """One way of a link. Shares are of packets, from 0 to 1."""

    delay_ns: int = 0
    jitter_ns: int = 0
    shape: Shape = "uniform"
    loss: float = 0.0
    burst: float | None = None
    """Mean length of a run of losses, in packets; None for losses that know nothing of each other."""
    duplicate: float = 0.0
    reorder: float = 0.0
    rate_bits_per_s: float | None = None
    queue_ns: int | None = None
    """How long a packet may have to wait for its turn."""
    queue_bytes: int | None = None
    pmtu: int | None = None
    block: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """Both ways of a link."""

    up: Direction = Direction()
    down: Direction = Direction()
    mtu: int = DEFAULT_MTU

    def __str__(self) -> str:
        """The shortest spelling that `parse_link` reads back."""
        up, down = _spell(self.up), _spell(self.down)
        both = {key: value for key, value in up.items() if down.get(key) == value}
        words = [f"mtu={self.mtu}B"] if self.mtu != DEFAULT_MTU else []
        if "delay" in both:
            words.insert(0, f"rtt={spell_duration(self.up.delay_ns + self.down.delay_ns)}")
            del both["delay"], up["delay"], down["delay"]
        words += [f"{key}={value}" for key, value in both.items()]
        for name, spelled in (("up", up), ("down", down)):
            words += [f"{name}.{key}={value}" for key, value in spelled.items() if key not in both]
        return ",".join(words) or "rtt=0s"


def parse_link(text: str, where: str) -> Link:
    """Reads a link. Raises UsageError that names the key, what is allowed and what contradicts what."""
    ways: dict[str, dict[str, Any]] = {"": {}, "up": {}, "down": {}}
    for word in text.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        way, dot, key = name.rpartition(".")
        if not equals:
            raise UsageError(f"{where}: {word.strip()!r} is not key=value; a link is written like {EXAMPLE}")
        if key not in _PARSERS or (dot and way not in ("up", "down")):
            keys = ", ".join(_PARSERS)
            raise UsageError(
                f"{where}: no key {name!r}; a link has {keys}, with up. or down. for one direction, like {EXAMPLE}"
            )
        if dot and key in _BOTH_WAYS:
            raise UsageError(f"{where}: {name}: {key} is of both directions together; write {key}={value}")
        if key in ways[way]:
            raise UsageError(f"{where}: {name} is given twice")
        ways[way][key] = _PARSERS[key](value, f"{where}: {name}")
    mtu = ways[""].pop("mtu", DEFAULT_MTU)
    if "rtt" in ways[""]:
        if any("delay" in given for given in ways.values()):
            raise UsageError(f"{where}: rtt and delay say the same thing twice; give one of them")
        rtt_ns = ways[""].pop("rtt")
        ways["up"]["delay"], ways["down"]["delay"] = rtt_ns // 2, rtt_ns - rtt_ns // 2
    for way in ("up", "down"):
        ways[way] = {**ways[""], **ways[way]}
    same = ways["up"] == ways["down"]
    up, down = (_direction(ways[way], where if same else f"{where}: {way}") for way in ("up", "down"))
    return Link(up, down, mtu)


def _direction(given: dict[str, Any], where: str) -> Direction:
    values = {_FIELDS.get(key, key): value for key, value in given.items()}
    queue = values.pop("queue", None)
    if queue is not None:
        values["queue_ns" if queue[0] == "time" else "queue_bytes"] = queue[1]
    way = Direction(**values)
    if way.queue_ns is None and way.queue_bytes is None and way.rate_bits_per_s is not None:
        way = replace(way, queue_ns=DEFAULT_QUEUE_NS)
    for wrong, why in (
        (way.jitter_ns > way.delay_ns and way.shape == "uniform", "jitter is at most the delay (half the rtt)"),
        (way.shape != "uniform" and not way.jitter_ns, "shape is that of a jitter, and there is none"),
        (way.reorder and not way.delay_ns, "reorder needs a delay: what skips none overtakes nothing"),
        (queue is not None and way.rate_bits_per_s is None, "queue needs a rate: without one nothing waits"),
        (way.burst is not None and not way.loss, "burst needs a loss: there is nothing to come in runs"),
        (
            way.burst is not None and way.loss / (way.burst * (1 - way.loss)) > 1,
            f"runs of {way.burst or 1:g} are too short for a loss of {way.loss:.0%}",
        ),
    ):
        if wrong:
            raise UsageError(f"{where}: {why}")
    return way


def _parse_delay(text: str, where: str) -> int:
    value = parse_duration_ns(text, where)
    if value > _MAX_DELAY_NS:
        raise UsageError(f"{where}: {text!r} is longer than a minute, the most that a link delays")
    return value


def _parse_rtt(text: str, where: str) -> int:
    value = parse_duration_ns(text, where)
    if value > 2 * _MAX_DELAY_NS:
        raise UsageError(f"{where}: {text!r} is longer than two minutes, the most that a link delays there and back")
    return value


def _parse_share(text: str, where: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if match is None or (share := float(Decimal(match[1]) / 100)) >= 1:
        raise UsageError(f"{where}: {text!r} is not a share below 100 %, like 1% or 0.05%")
    return share


def _parse_burst(text: str, where: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or (length := float(text)) < 1:
        raise UsageError(f"{where}: {text!r} is not a mean length in packets from 1 up, like 5")
    return length


def _parse_rate(text: str, where: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(bit|kbit|mbit|gbit)", text)
    rate = float(Decimal(match[1]) * _BITS[match[2]]) if match else 0.0
    if not 1_000 <= rate <= 100e9:
        raise UsageError(f"{where}: {text!r} is not a rate from 1kbit to 100gbit (bits a second), like 20mbit")
    return rate


def _parse_queue(text: str, where: str) -> tuple[Literal["time", "bytes"], int]:
    if text.lower().endswith("b"):
        return "bytes", parse_size_bytes(text, where)
    return "time", parse_duration_ns(text, where)


def _parse_mtu(text: str, where: str) -> int:
    size = int(text) if re.fullmatch(r"\d{1,6}", text) else parse_size_bytes(text, where)
    if not MIN_MTU <= size <= MAX_MTU:
        raise UsageError(f"{where}: {text!r} is impossible; an IP packet has from {MIN_MTU} to {MAX_MTU} bytes here")
    return size


def _parse_shape(text: str, where: str) -> Shape:
    match text:
        case "uniform" | "normal":
            return text
    raise UsageError(f"{where}: {text!r} is neither uniform nor normal")


def _parse_block(text: str, where: str) -> tuple[str, ...]:
    blocked = tuple(sorted(set(text.split("+"))))
    for what in blocked:
        if not _BLOCK.fullmatch(what) or not 1 <= int(what.partition(":")[2] or 1) <= 65535:
            raise UsageError(f"{where}: {what!r} cannot be blocked; write udp, tcp, icmp, or a port as in udp:443")
    return blocked


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "rtt": _parse_rtt,
    "delay": _parse_delay,
    "jitter": _parse_delay,
    "shape": _parse_shape,
    "loss": _parse_share,
    "burst": _parse_burst,
    "duplicate": _parse_share,
    "reorder": _parse_share,
    "rate": _parse_rate,
    "queue": _parse_queue,
    "mtu": _parse_mtu,
    "pmtu": _parse_mtu,
    "block": _parse_block,
}
_BOTH_WAYS = ("rtt", "mtu")
_FIELDS = {"delay": "delay_ns", "jitter": "jitter_ns", "rate": "rate_bits_per_s"}


def _spell(way: Direction) -> dict[str, str]:
    """Key to value of what differs from the defaults."""
    spelled = {}
    for field in fields(way):
        value = getattr(way, field.name)
        if value == field.default or (field.name == "queue_ns" and value == DEFAULT_QUEUE_NS):
            continue
        match field.name:
            case "delay_ns" | "jitter_ns" | "queue_ns":
                spelled[field.name.removesuffix("_ns")] = spell_duration(value)
            case "queue_bytes" | "pmtu":
                spelled[field.name.removesuffix("_bytes")] = spell_size(value)
            case "rate_bits_per_s":
                spelled["rate"] = _spell_rate(value)
            case "loss" | "duplicate" | "reorder":
                spelled[field.name] = f"{_spell_number(Decimal(repr(value)) * 100)}%"
            case "burst":
                spelled["burst"] = _spell_number(Decimal(repr(value)))
            case "block":
                spelled["block"] = "+".join(value)
            case _:
                spelled[field.name] = str(value)
    return spelled


def _spell_rate(bits_per_s: float) -> str:
    unit = next(unit for unit in ("gbit", "mbit", "kbit") if bits_per_s >= _BITS[unit])
    return f"{_spell_number(Decimal(repr(bits_per_s)) / _BITS[unit])}{unit}"


def _spell_number(number: Decimal) -> str:
    """Without an exponent, and exact: what is spelled is what the other end of the line reads."""
    return f"{number.normalize():f}"
