"""One connection over two links in parallel."""

import shutil
import sys
from pathlib import Path

import pytest

from bench.errors import UnsupportedError
from bench.lab import mptcp
from bench.lab.lab import Lab
from bench.lab.link import Link, parse_link
from bench.lab.topology import two_ends, two_paths
from tests.lab.conftest import Programs

pytestmark = pytest.mark.usefixtures("links")

PATHS_BIT_PER_S = 20e6

TAKE = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))
sock.bind(("", 8000))
sock.listen()
print("listening", flush=True)
connection, _ = sock.accept()
got = 0
while data := connection.recv(1 << 16):
    if not got:
        begun = time.monotonic()
    got += len(data)
print(got, time.monotonic() - begun, flush=True)
"""
GIVE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))
sock.connect(("10.77.1.2", 8000))
sock.sendall(bytes(int(sys.argv[2])))
"""


@pytest.fixture
def lab() -> Lab:
    link = parse_link("rtt=4ms,rate=20mbit,queue=100ms", "link")
    return Lab(two_paths(link, link))


def throughput_bit_per_s(programs: Programs, lab: Lab, protocol: int, size: int) -> float:
    """Of a transfer of so many bytes, from the first of them that arrives to the last."""
    taker = programs.start(lab, "server", sys.executable, "-c", TAKE, str(protocol), until="listening")
    programs.run(lab, "client", sys.executable, "-c", GIVE, str(protocol), str(size))
    assert taker.stdout is not None
    got, took_s = taker.stdout.readline().split()
    assert int(got) == size
    return 8 * size / float(took_s)


def test_two_paths_carry_more_than_one(programs: Programs, lab: Lab) -> None:
    size = 8_000_000
    with lab:
        try:
            mptcp.join_paths(lab)
        except UnsupportedError as error:
            pytest.skip(str(error))
        tcp = throughput_bit_per_s(programs, lab, 0, size)
        before = [span["up"]["offered_bytes"] for span in lab.account()["spans"]]
        multipath = throughput_bit_per_s(programs, lab, mptcp.IPPROTO_MPTCP, size)
        after = [span["up"]["offered_bytes"] for span in lab.account()["spans"]]
    assert before[1] < 10_000  # TCP knows of no other path
    assert 0.8 < tcp / PATHS_BIT_PER_S <= 1
    assert multipath / PATHS_BIT_PER_S > 1.6
    shares = [(then - now) / size for now, then in zip(before, after, strict=True)]
    assert min(shares) > 0.3


def test_without_an_announcement_there_is_one_path(programs: Programs, lab: Lab) -> None:
    if not Path("/proc/sys/net/mptcp").exists():
        pytest.skip("the kernel has no MPTCP")
    with lab:
        assert throughput_bit_per_s(programs, lab, mptcp.IPPROTO_MPTCP, 1_000_000) <= PATHS_BIT_PER_S
        assert lab.account()["spans"][1]["up"]["offered"] == 0


def test_without_ip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Lab(two_ends(Link())) as lab:
        (tmp_path / "nsenter").symlink_to(str(shutil.which("nsenter")))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            UnsupportedError, match=r"no connections over several paths \(MPTCP\) here: .*apt-get install iproute2"
        ):
            mptcp.join_paths(lab)
