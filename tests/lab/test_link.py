"""How links are spelled: what is read, what is written back, and what is said of what cannot be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.lab.link import DEFAULT_QUEUE_NS, Direction, Link, parse_link

DELAYS = st.integers(0, 60_000_000_000)
SHARES = st.integers(0, 99_999_999).map(lambda parts: f"{parts / 1e6:.6f}%")
SIZES = st.integers(576, 65_521)
BLOCKS = st.lists(st.sampled_from(["udp", "tcp", "icmp", "udp:443", "tcp:80", "udp:65535", "tcp:1"]), min_size=1)


@st.composite
def directions(draw: st.DrawFn) -> dict[str, str]:
    """Keys of one direction, none of which contradicts another."""
    delay = draw(DELAYS)
    given = {"delay": f"{delay}ns"}
    if draw(st.booleans()):
        given["jitter"] = f"{draw(st.integers(1, max(1, delay)))}ns"
        given["shape"] = "normal" if int(given["jitter"][:-2]) > delay else draw(st.sampled_from(["uniform", "normal"]))
    if draw(st.booleans()):
        loss = draw(st.integers(1, 499_999))
        given["loss"] = f"{loss / 1e4:.4f}%"
        if draw(st.booleans()):
            given["burst"] = f"{draw(st.integers(10_000, 99_999_999)) / 1e4:.4f}"
    for key in ("duplicate", *(["reorder"] if delay else [])):
        if draw(st.booleans()):
            given[key] = draw(SHARES)
    if draw(st.booleans()):
        given["rate"] = draw(st.integers(1, 100_000_000_000 // 1000)).__str__() + "kbit"
        if draw(st.booleans()):
            given["queue"] = draw(st.one_of(DELAYS.map("{}ns".format), st.integers(0, 10**9).map("{}B".format)))
    if draw(st.booleans()):
        given["pmtu"] = str(draw(SIZES))
    if draw(st.booleans()):
        given["block"] = "+".join(draw(BLOCKS))
    return given


@settings(deadline=None)
@given(directions(), st.one_of(st.none(), directions()), SIZES)
def test_what_is_written_is_read_as_the_same_link(up: dict[str, str], down: dict[str, str] | None, mtu: int) -> None:
    if down is None:
        words = [f"{key}={value}" for key, value in up.items()]
    else:
        words = [f"up.{key}={value}" for key, value in up.items()] + [f"down.{key}={down[key]}" for key in down]
    link = parse_link(",".join([*words, f"mtu={mtu}"]), "here")
    assert parse_link(str(link), "here") == link
    assert str(parse_link(str(link), "here")) == str(link)
    assert link.mtu == mtu
    if down is None:
        assert link.up == link.down


PIECES = [
    "rtt",
    "delay",
    "jitter",
    "shape",
    "loss",
    "burst",
    "duplicate",
    "reorder",
    "rate",
    "queue",
    "mtu",
    "pmtu",
    "block",
    "up.",
    "down.",
    "=",
    ",",
    "%",
    ".",
    "-",
    "0",
    "1",
    "40",
    "1e9",
    "1e999",
    "99.9",
    "ns",
    "us",
    "ms",
    "s",
    "m",
    "h",
    "B",
    "kB",
    "MiB",
    "kbit",
    "mbit",
    "gbit",
    "uniform",
    "normal",
    "udp",
    "tcp",
    ":443",
    "+",
    "\n",
]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=2)), max_size=20).map("".join))
def test_any_text_is_a_link_or_one_line_that_says_why_not(text: str) -> None:
    problem = None
    try:
        link = parse_link(text, "here")
    except UsageError as error:
        problem = str(error)
    if problem is None:
        assert parse_link(str(link), "here") == link
    else:
        assert problem.startswith("here: ")
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("rtt=40ms", Link(Direction(20_000_000), Direction(20_000_000))),
        ("rtt=3ns", Link(Direction(1), Direction(2))),
        ("delay=5ms", Link(Direction(5_000_000), Direction(5_000_000))),
        ("delay=5ms,up.delay=7ms", Link(Direction(7_000_000), Direction(5_000_000))),
        ("loss=7%,down.loss=0%", Link(Direction(loss=0.07), Direction())),
        ("up.rate=1.5mbit", Link(Direction(rate_bits_per_s=1.5e6, queue_ns=DEFAULT_QUEUE_NS), Direction())),
        ("up.rate=1mbit,up.queue=64KiB", Link(Direction(rate_bits_per_s=1e6, queue_bytes=65536), Direction())),
        ("up.block=udp:443+tcp+tcp", Link(Direction(block=("tcp", "udp:443")), Direction())),
        ("mtu=1280,up.pmtu=1KiB", Link(Direction(pmtu=1024), Direction(), 1280)),
        (" rtt = 1ms , loss = 0.00001% ", Link(Direction(500_000, loss=1e-7), Direction(500_000, loss=1e-7))),
    ],
)
def test_meanings(text: str, link: Link) -> None:
    assert parse_link(text, "here") == link


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("delay=20ms", "rtt=40ms"),
        ("rtt=0s", "rtt=0s"),
        ("loss=1%,rtt=40ms,rate=20000kbit", "rtt=40ms,loss=1%,rate=20mbit"),
        ("delay=60s", "rtt=120s"),
        ("loss=0.00001%", "loss=0.00001%"),
        ("rate=1mbit,queue=100ms", "rate=1mbit"),
        ("loss=1%,up.loss=2%,mtu=9000", "mtu=9000B,up.loss=2%,down.loss=1%"),
    ],
)
def test_spellings(text: str, spelled: str) -> None:
    assert str(parse_link(text, "here")) == spelled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not key=value; a link is written like rtt=40ms,loss=1%,rate=20mbit"),
        ("rtt=40ms,", "'' is not key=value"),
        ("rtt", "'rtt' is not key=value"),
        ("speed=1mbit", "no key 'speed'; a link has rtt, delay, .*, with up. or down. for one direction, like rtt="),
        ("left.loss=1%", "no key 'left.loss'; a link has .* up. or down."),
        ("up.rtt=4ms", "up.rtt: rtt is of both directions together; write rtt=4ms"),
        ("down.mtu=1400", "down.mtu: mtu is of both directions together; write mtu=1400"),
        ("loss=1%,loss=1%", "loss is given twice"),
        ("up.loss=1%,up.loss=1%", "up.loss is given twice"),
        ("mtu=1500,mtu=1400", "mtu is given twice"),
        ("rtt=40ms,delay=20ms", "rtt and delay say the same thing twice; give one of them"),
        ("rtt=40ms,up.delay=20ms", "rtt and delay say the same thing twice"),
        ("rtt=40", "rtt: '40' is not a duration; write a number with ns, us, ms, s"),
        ("rtt=121s", "rtt: '121s' is longer than two minutes"),
        ("delay=61s", "delay: '61s' is longer than a minute"),
        ("up.jitter=x", "up.jitter: 'x' is not a duration"),
        ("rtt=10ms,jitter=6ms", "jitter is at most the delay"),
        ("delay=10ms,up.delay=1ms,jitter=6ms", "up: jitter is at most the delay"),
        ("rtt=10ms,shape=normal", "shape is that of a jitter, and there is none"),
        ("rtt=10ms,jitter=1ms,shape=square", "shape: 'square' is neither uniform nor normal"),
        ("loss=1", "loss: '1' is not a share below 100 %, like 1% or 0.05%"),
        ("loss=100%", "loss: '100%' is not a share below 100 %"),
        ("loss=-1%", "loss: '-1%' is not a share"),
        ("duplicate=x%", "duplicate: 'x%' is not a share"),
        ("rtt=1ms,reorder=1", "reorder: '1' is not a share"),
        ("reorder=1%", "reorder needs a delay"),
        ("burst=5", "burst needs a loss"),
        ("loss=1%,burst=0.5", "burst: '0.5' is not a mean length in packets from 1 up, like 5"),
        ("loss=80%,burst=2", "runs of 2 are too short for a loss of 80%"),
        ("rate=20", "rate: '20' is not a rate from 1kbit to 100gbit .* like 20mbit"),
        ("rate=1bit", "rate: '1bit' is not a rate from 1kbit"),
        ("rate=101gbit", "rate: '101gbit' is not a rate from 1kbit to 100gbit"),
        ("queue=10ms", "queue needs a rate: without one nothing waits"),
        ("queue=10ms,up.rate=1mbit", "down: queue needs a rate"),
        ("rate=1mbit,queue=10", "queue: '10' is not a duration"),
        ("rate=1mbit,queue=1.5B", "queue: '1.5B' is not a whole number of bytes"),
        ("mtu=575", "mtu: '575' is impossible; an IP packet has from 576 to 65521 bytes here"),
        ("mtu=65522", "mtu: '65522' is impossible"),
        ("mtu=big", "mtu: 'big' is not a size"),
        ("pmtu=100", "pmtu: '100' is impossible"),
        ("block=quic", "block: 'quic' cannot be blocked; write udp, tcp, icmp, or a port as in udp:443"),
        ("block=udp:0", "block: 'udp:0' cannot be blocked"),
        ("block=udp:65536", "block: 'udp:65536' cannot be blocked"),
        ("block=", "block: '' cannot be blocked"),
    ],
)
def test_what_is_wrong_is_said_with_the_key_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_link(text, "--link")
    assert re.match(f"--link: {words}", str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
