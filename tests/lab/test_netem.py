"""Links by netem: how tc is told, and, where the kernel has it, that they are like the lab's own."""

import re
import sys
from pathlib import Path
from typing import get_args

import pytest
from scipy import stats

from bench.errors import UnsupportedError
from bench.lab import netem, programs
from bench.lab.lab import Lab
from bench.lab.link import Direction, Link, parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from tests.lab.conftest import Programs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtt=0s", ""),
        ("rtt=40ms", "delay 20000.000us"),
        ("delay=1ns", "delay 0.001us"),
        ("rtt=40ms,jitter=5ms", "delay 20000.000us 5000.000us"),
        ("rtt=40ms,jitter=5ms,shape=normal", "delay 20000.000us 5000.000us distribution normal"),
        ("loss=1%", "loss random 1.00000000%"),
        ("loss=20%,burst=4", "loss gemodel 6.25000000% 25.00000000%"),
        ("rtt=2ms,duplicate=2%,reorder=3%", "delay 1000.000us duplicate 2.00000000% reorder 3.00000000%"),
    ],
)
def test_what_becomes_of_packets(text: str, words: str) -> None:
    assert netem.netem_words(parse_link(text, "link").up) == ["netem", "limit", "1000000", *words.split()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate=20mbit", "rate 20000000bit burst 25000 latency 100000us"),
        ("rate=1mbit,queue=0s", "rate 1000000bit burst 3000 latency 1us"),
        ("rate=1mbit,queue=64KiB", "rate 1000000bit burst 3000 limit 65536"),
    ],
)
def test_rates(text: str, words: str) -> None:
    assert netem.tbf_words(parse_link(text, "link").up, 1500) == ["tbf", *words.split()]


def test_what_netem_has_no_word_for_is_left_to_the_router() -> None:
    link = parse_link("rtt=40ms,loss=1%,up.block=udp,down.pmtu=1300,mtu=1400", "link")
    assert netem.without_netem(link) == Link(Direction(block=("udp",)), Direction(pmtu=1300), 1400)


def test_without_tc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="no links by netem here: tc is missing; apt-get install iproute2"):
        netem.shape("link0", Direction(), 1500)


def why_no_netem() -> str | None:
    try:
        with Lab(two_ends(parse_link("rtt=1ms,rate=1gbit", "link")), backend="netem"):
            return None
    except UnsupportedError as error:
        return str(error)


@pytest.mark.usefixtures("links")
def test_a_kernel_without_netem_is_told_of_in_one_line() -> None:
    why = why_no_netem()
    if why is None:
        pytest.skip("this kernel has netem")
    assert re.fullmatch(
        "no links by netem here: tc .*; the lab's own links work without|.*apt-get install iproute2", why
    )


@pytest.fixture(scope="module")
def _has_netem(links: None) -> None:
    why = why_no_netem()
    if why is not None:
        pytest.skip(why)


SEND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(5000):
    sock.sendto(bytes(100), (sys.argv[1], 9))
"""


def lost(programs: Programs, lab: Lab, backend: str) -> int:
    """How many of 5000 datagrams do not arrive."""
    programs.run(lab, "client", sys.executable, "-c", SEND, SERVER_ADDRESS)
    if backend == "own":
        while (up := lab.account()["spans"][0]["up"])["offered"] < 5000:
            pass
        return int(up["lost"])
    shown = programs.run(lab, "client", "tc", "-s", "qdisc", "show", "dev", "link0")
    dropped = re.search(r"dropped (\d+)", shown)
    assert dropped
    return int(dropped[1])


@pytest.mark.usefixtures("_has_netem")
@pytest.mark.parametrize("link", ["rtt=20ms,jitter=4ms", "rtt=40ms,jitter=4ms,shape=normal"])
def test_both_backends_delay_alike(programs: Programs, link: str) -> None:
    times = []
    for backend in get_args(netem.Backend):
        with Lab(two_ends(parse_link(link, "link")), 1, backend=backend) as lab:
            shown = programs.run(lab, "client", "ping", "-n", "-i", "0.02", "-c", "400", SERVER_ADDRESS)
        times.append([float(time) for time in re.findall(r"time=([\d.]+) ms", shown)])
    # They need not agree to the tenth of a millisecond that a router in Python takes.
    own, kernel = (stats.describe(each) for each in times)
    assert own.mean == pytest.approx(kernel.mean, abs=1)
    shifted = [time - own.mean + kernel.mean for time in times[0]]
    assert stats.ks_2samp(shifted, times[1]).pvalue > 0.001


@pytest.mark.usefixtures("_has_netem")
def test_both_backends_lose_alike(programs: Programs) -> None:
    for backend in get_args(netem.Backend):
        with Lab(two_ends(parse_link("loss=3%,down.block=icmp", "link")), 1, backend=backend) as lab:
            assert stats.binomtest(lost(programs, lab, backend), 5000, 0.03).pvalue > 0.001, backend
