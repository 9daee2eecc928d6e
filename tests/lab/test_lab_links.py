"""Links in use: what ping, iperf3, curl and wget, which nobody here wrote, find behind them."""

import hashlib
import json
import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from tests.lab.conftest import Programs

pytestmark = pytest.mark.usefixtures("links")

Need = Callable[[str], str]


def a_lab(link: str, seed: int = 1, **options: Any) -> Lab:
    return Lab(two_ends(parse_link(link, "link")), seed, **options)


def ping_ms(programs: Programs, lab: Lab, count: int, to: str = SERVER_ADDRESS) -> list[float]:
    """The round-trip times that ping shows."""
    shown = programs.run(lab, "client", "ping", "-n", "-i", "0.01", "-c", str(count), to)
    return [float(time) for time in re.findall(r"time=([\d.]+) ms", shown)]


def iperf3(programs: Programs, lab: Lab, *options: str) -> dict[str, Any]:
    """What iperf3 says at its end, from the client to the server unless options say otherwise."""
    programs.start(lab, "server", "iperf3", "-s", "-1", "--forceflush", until="listening")
    shown = programs.run(lab, "client", "iperf3", "-c", SERVER_ADDRESS, "--json", *options)
    end: dict[str, Any] = json.loads(shown)["end"]
    return end


@pytest.mark.parametrize("rtt_ms", [0.2, 1, 20, 200])
def test_ping_sees_the_round_trip_time(programs: Programs, need: Need, rtt_ms: float) -> None:
    need("ping")
    with a_lab(f"rtt={rtt_ms}ms") as lab:
        times = ping_ms(programs, lab, 50)
    assert len(times) == 50
    assert min(times) >= rtt_ms * 0.99  # ping shows three digits
    assert statistics.median(times) < rtt_ms + 5  # on a machine that does other things too


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("rtt_ms", [0.2, 1, 20, 100, 200])
def test_a_quiet_machine_is_on_time(programs: Programs, need: Need, rtt_ms: float) -> None:
    """The best of five attempts: what is measured is the link, not its neighbours."""
    need("ping")
    seen = []
    for _ in range(5):
        with a_lab(f"rtt={rtt_ms}ms") as lab:
            times = sorted(ping_ms(programs, lab, 300))
        late = times[len(times) // 2] - rtt_ms, times[len(times) * 99 // 100] - rtt_ms
        seen.append(late)
        if late[0] <= 0.5 and late[1] <= 1.5:
            return
    pytest.fail(f"p50 and p99 beyond {rtt_ms} ms: {seen}")


def test_each_direction_has_its_own_delay(programs: Programs, need: Need) -> None:
    need("ping")
    with a_lab("up.delay=1ms,down.delay=30ms") as lab:
        times = ping_ms(programs, lab, 20)
    assert 31 <= min(times) <= 41


def test_jitter_stays_within_its_bounds(programs: Programs, need: Need) -> None:
    need("ping")
    with a_lab("rtt=60ms,jitter=20ms") as lab:
        times = ping_ms(programs, lab, 100)
    assert min(times) >= 20
    assert max(times) - min(times) > 10
    assert statistics.median(times) < 100


def test_iperf3_loses_as_many_datagrams_as_was_asked(programs: Programs, need: Need) -> None:
    need("iperf3")
    with a_lab("rtt=2ms,up.loss=5%") as lab:
        end = iperf3(programs, lab, "-u", "-b", "8M", "-l", "200", "-t", "2")
        up = lab.account()["spans"][0]["up"]
    assert end["sum"]["packets"] > 5_000
    assert stats.binomtest(end["sum"]["lost_packets"], end["sum"]["packets"], 0.05).pvalue > 0.001
    assert stats.binomtest(up["lost"], up["offered"], 0.05).pvalue > 0.001
    assert len(up["lost_indices"]) == up["lost"]


@pytest.mark.parametrize("reverse", [[], ["-R"]])
def test_iperf3_gets_no_more_than_the_rate(programs: Programs, need: Need, reverse: list[str]) -> None:
    need("iperf3")
    with a_lab("rtt=4ms,rate=20mbit,queue=20ms") as lab:
        end = iperf3(programs, lab, "-t", "2", *reverse)
    assert 10e6 < end["sum_received"]["bits_per_second"] < 20.5e6


def test_iperf3_datagrams_beyond_the_rate_overflow(programs: Programs, need: Need) -> None:
    need("iperf3")
    with a_lab("rate=10mbit,queue=10ms") as lab:
        end = iperf3(programs, lab, "-u", "-b", "20M", "-l", "1000", "-t", "1")
        up = lab.account()["spans"][0]["up"]
    assert up["overflowed"] > 0
    assert end["sum"]["lost_percent"] == pytest.approx(100 * up["overflowed"] / up["offered"], abs=5)


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_download_is_whole_whatever_the_link_does(
    programs: Programs, need: Need, tmp_path: Path, program: str
) -> None:
    need(program)
    content = os.urandom(1_000_000)
    (tmp_path / "file").write_bytes(content)
    with a_lab("rtt=8ms,loss=3%,reorder=10%,duplicate=5%") as lab:
        serve = [sys.executable, "-u", "-m", "http.server", "-d", str(tmp_path), "8000"]
        programs.start(lab, "server", *serve, until="Serving")
        url = f"http://{SERVER_ADDRESS}:8000/file"
        got = tmp_path / "got"
        to = ["curl", "-sS", "-o", str(got)] if program == "curl" else ["wget", "-q", "-O", str(got)]
        programs.run(lab, "client", *to, url)
        account = lab.account()
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(content).digest()
    down = account["spans"][0]["down"]
    assert min(down["lost"], down["reordered"], down["duplicated"]) > 0
    assert account["nodes"]["server"]["tcp_segments_retransmitted"] > 0


DATAGRAMS = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(2000):
    sock.sendto(bytes(int(sys.argv[1])), (sys.argv[2], 9))
"""


def lost_of_2000(programs: Programs, seed: int, link: str, size: int) -> list[int]:
    with a_lab(link, seed) as lab:
        programs.run(lab, "client", sys.executable, "-c", DATAGRAMS, str(size), SERVER_ADDRESS)
        while (up := lab.account()["spans"][0]["up"])["offered"] < 2000:
            pass
    assert up["offered"] == 2000
    lost: list[int] = up["lost_indices"]
    return lost


def test_the_same_seed_drops_the_same_packets(programs: Programs) -> None:
    first = lost_of_2000(programs, 7, "loss=5%,down.block=icmp", 100)
    assert stats.binomtest(len(first), 2000, 0.05).pvalue > 0.001
    assert lost_of_2000(programs, 7, "loss=5%,down.block=icmp", 100) == first
    assert lost_of_2000(programs, 7, "rtt=10ms,jitter=1ms,loss=5%,duplicate=10%,down.block=icmp", 300) == first
    assert lost_of_2000(programs, 8, "loss=5%,down.block=icmp", 100) != first


def test_what_is_blocked_does_not_arrive(programs: Programs, need: Need, tmp_path: Path) -> None:
    need("curl")
    with a_lab("block=udp+tcp:8001") as lab:
        for port in ("8000", "8001"):
            serve = [sys.executable, "-u", "-m", "http.server", "-d", str(tmp_path), port]
            programs.start(lab, "server", *serve, until="Serving")
        curl = ["curl", "-sS", "--max-time", "2", "-o", os.devnull, "-w", "%{http_code}"]
        assert programs.run(lab, "client", *curl, f"http://{SERVER_ADDRESS}:8000/") == "200"
        assert programs.run(lab, "client", *curl, f"http://{SERVER_ADDRESS}:8001/", check=False) == "000"
        programs.run(lab, "client", sys.executable, "-c", DATAGRAMS, "10", SERVER_ADDRESS)
        up = lab.account()["spans"][0]["up"]
    assert up["blocked"] >= 2000


@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65_521])
def test_packets_up_to_the_mtu_get_through(programs: Programs, need: Need, mtu: int) -> None:
    need("ping")
    ping = ["ping", "-n", "-M", "do", "-c", "1", "-W", "2", SERVER_ADDRESS, "-s"]
    with a_lab(f"mtu={mtu}") as lab:
        programs.run(lab, "client", *ping, str(min(mtu, 65_535) - 28))
        shown = programs.run(lab, "client", *ping, str(mtu - 27), check=False)
    assert " 0 received" in shown


def test_what_is_larger_than_the_path_vanishes_without_a_word(programs: Programs, need: Need) -> None:
    need("ping")
    ping = ["ping", "-n", "-M", "do", "-c", "1", "-W", "1", SERVER_ADDRESS, "-s"]
    with a_lab("up.pmtu=1300") as lab:
        programs.run(lab, "client", *ping, str(1300 - 28))
        shown = programs.run(lab, "client", *ping, str(1301 - 28), check=False)
        up = lab.account()["spans"][0]["up"]
    assert "100% packet loss" in shown
    assert "needed" not in shown  # as in "Frag needed": a black hole says nothing
    assert up["oversized"] == 1


def test_two_labs_at_once_know_nothing_of_each_other(programs: Programs, need: Need) -> None:
    need("ping")
    with a_lab("rtt=20ms") as one, a_lab("rtt=60ms") as other:
        assert one.inode("client") != other.inode("client")
        for lab, low, high in ((one, 20, 60), (other, 60, 100), (one, 20, 60)):
            assert low <= min(ping_ms(programs, lab, 5)) < high
        assert one.account()["spans"][0]["up"]["offered"] == 10
        assert other.account()["spans"][0]["up"]["offered"] == 5


def test_accounts_of_links_and_kernels_agree(programs: Programs, need: Need) -> None:
    need("iperf3")
    with a_lab("rtt=4ms,loss=1%") as lab:
        iperf3(programs, lab, "-n", "2M")
    account = lab.account()
    up, down = account["spans"][0]["up"], account["spans"][0]["down"]
    client, server = account["nodes"]["client"], account["nodes"]["server"]
    # The kernel counts a segment that segmentation splits up as those that it becomes.
    resets = client["tcp_resets_sent"] + server["tcp_resets_sent"]
    assert abs(client["tcp_segments_sent"] + client["tcp_segments_retransmitted"] - up["offered"]) <= 2 + resets
    assert abs(server["tcp_segments_sent"] + server["tcp_segments_retransmitted"] - down["offered"]) <= 2 + resets
    assert client["link_packets_dropped"] == 0
    assert account["refused"] == 0
    assert client["tcp_connects"] == server["tcp_accepts"] == 2
