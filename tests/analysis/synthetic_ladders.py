"""A made-up run of the ways to HTTPS over a link with a round-trip time of 100 ms, with the packets of each trial."""

from dataclasses import dataclass
from typing import Any

from synthetic_run import Plan, build_run

RTT_NS = 100_000_000


@dataclass(frozen=True)
class Way:
    """A way, and what is sent in turn: flights of the client, then of the server, and so on."""

    protocol: str
    tls: str
    handshake: str
    fast_open: str
    flights: tuple[tuple[str, ...], ...]


_SYN = (("SYN",), ("SYN/ACK",))
_LONG_ANSWER = ("application data", *["… application data"] * 5)
_FLIGHT_1_3 = ("ServerHello, ChangeCipherSpec, encrypted handshake ×3, Finished",)
_FLIGHT_PSK = ("ServerHello (PSK), ChangeCipherSpec, encrypted handshake, Finished",)

WAYS = (
    Way("http1", "off", "full", "off", (*_SYN, ("GET /hello",), ("answer 200",))),
    Way(
        "http1",
        "1.2",
        "full",
        "off",
        (
            *_SYN,
            ("ClientHello",),
            ("ServerHello, Certificate, ServerKeyExchange, ServerHelloDone", "… ServerHelloDone"),
            ("ClientKeyExchange, ChangeCipherSpec, Finished",),
            ("NewSessionTicket, ChangeCipherSpec, Finished",),
            ("application data",),
            _LONG_ANSWER,
        ),
    ),
    Way(
        "http1",
        "1.3",
        "full",
        "off",
        (*_SYN, ("ClientHello",), _FLIGHT_1_3, ("ChangeCipherSpec, Finished", "application data"), _LONG_ANSWER),
    ),
    Way(
        "http1",
        "1.3",
        "resumed",
        "off",
        (*_SYN, ("ClientHello (PSK)",), _FLIGHT_PSK, ("ChangeCipherSpec, Finished", "application data"), _LONG_ANSWER),
    ),
    Way(
        "http1",
        "1.3",
        "early-data",
        "off",
        (*_SYN, ("ClientHello (PSK, early data), ChangeCipherSpec, early data",), (*_FLIGHT_PSK, *_LONG_ANSWER)),
    ),
    Way(
        "http1",
        "1.3",
        "full",
        "on",
        (
            ("SYN, cookie, ClientHello",),
            ("SYN/ACK", *_FLIGHT_1_3),
            ("ChangeCipherSpec, Finished", "application data"),
            _LONG_ANSWER,
        ),
    ),
    Way(
        "http1",
        "1.3",
        "early-data",
        "on",
        (("SYN, cookie, ClientHello (PSK, early data), early data",), ("SYN/ACK", *_FLIGHT_PSK, *_LONG_ANSWER)),
    ),
    Way(
        "http3",
        "1.3",
        "full",
        "off",
        (("Initial",), ("Initial, Handshake", "Handshake"), ("Initial, Handshake, 1-RTT", "1-RTT"), ("1-RTT",) * 4),
    ),
    Way("http3", "1.3", "early-data", "off", (("Initial, 0-RTT",), ("Initial, Handshake, 1-RTT", "1-RTT", "1-RTT"))),
)


def https_run(rounds: int = 3, **extra_rtts: float) -> dict[str, Any]:
    """A result file. `extra_rtts` are round trips by which a way is late, under its number, like way2=0.5."""
    plans = [
        Plan("https", way.protocol, load="closed:1", payload_bytes=number, tls=way.tls, pattern="connect")
        for number, way in enumerate(WAYS)
    ]
    data = build_run(plans=plans, rounds=rounds, name="https")
    for trial in data["trials"]:
        number = trial["scenario"]["payload_bytes"]
        way = WAYS[number]
        trial["scenario"] |= {
            "payload_bytes": 64,
            "handshake": way.handshake,
            "fast_open": way.fast_open,
            "link": "rtt=100ms",
        }
        ladder = ladder_of(way, late_ns=int(extra_rtts.get(f"way{number}", 0) * RTT_NS) + trial["round"] * 500_000)
        rtts = ladder["first_byte_rtts"]
        trial["wire"] = {
            "captured": {
                "up": {"tcp": {"packets": 9, "bytes": 900, "lost": 0, "retransmissions": 0}},
                "down": {},
                "conversations": 20,
                "handshakes": {"tcp": 20},
                "first_byte_rtts": {"count": 20, "min": rtts, "p50": rtts, "max": rtts},
            },
            "ladder": ladder,
        }
    return data


def ladder_of(way: Way, late_ns: int = 0) -> dict[str, Any]:
    """The ladder as a result file holds it. Each flight is answered at once, but for the last, which is late."""
    steps: list[dict[str, Any]] = []
    now_ns = 0
    for turn, flight in enumerate(way.flights):
        up = turn % 2 == 0
        now_ns += late_ns if turn == len(way.flights) - 1 else 0
        for index, label in enumerate(flight):
            steps.append(step(up, now_ns + index * 50_000, label))
        if not up:
            steps.append(step(True, now_ns + RTT_NS // 2 + 60_000, "ACK"))
        now_ns += RTT_NS // 2 + 200_000
    first_byte_ns = now_ns - 200_000
    steps += [step(True, first_byte_ns + 300_000, "FIN"), step(False, first_byte_ns + RTT_NS // 2 + 400_000, "FIN")]
    return {
        "protocol": "quic" if way.protocol == "http3" else "tcp",
        "rtt_ns": RTT_NS,
        "packets": len(steps),
        "bytes": sum(each["bytes"] for each in steps),
        "retransmissions": 0,
        "first_byte_ns": first_byte_ns,
        "first_byte_rtts": first_byte_ns / RTT_NS,
        "steps": sorted(steps, key=lambda each: int(each["sent_ns"])),
        "left_out": 0,
    }


def step(up: bool, sent_ns: int, label: str, lost: bool = False, again: bool = False) -> dict[str, Any]:
    """A packet of a ladder."""
    ends = ("client", "server") if up else ("server", "client")
    return {
        "from": ends[0],
        "to": ends[1],
        "sent_ns": sent_ns,
        "arrived_ns": None if lost else sent_ns + RTT_NS // 2,
        "label": label,
        "bytes": 52 if label == "ACK" else 700,
        "retransmission": again,
    }
