"""Nothing is left of a lab, however it ends, and the host never notices that there was one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.errors import LabFailedError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends, with_relay
from tests.lab.conftest import Programs

pytestmark = pytest.mark.usefixtures("links")

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
MARK = "WIREBENCH_TEST_MARK"

HARNESS = """
import subprocess, sys
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import two_ends

with Lab(two_ends(parse_link("rtt=1ms", "link")), 1, {"net.ipv4.tcp_sack": "0"}) as lab:
    stubborn = ["sh", "-c", "trap '' INT TERM HUP; echo there; exec sleep 1000"]
    program = subprocess.Popen([*lab.within("server"), *stubborn], stdout=subprocess.PIPE)
    program.stdout.readline()
    print(lab.inode("client"), lab.inode("server"), flush=True)
    if sys.argv[1] == "error":
        raise SystemExit("something went wrong")
    if sys.argv[1] == "wait":
        sys.stdin.read()
"""


class Harness:
    """A process that has a lab, with a program in it that ends for nobody. All of its family bear its mark."""

    def __init__(self, how: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-c", HARNESS, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), MARK: self.mark},
            process_group=0,
        )
        assert self.process.stdout is not None
        self.inodes = {int(word) for word in self.process.stdout.readline().split()}
        self.family = self._family()

    def _family(self) -> list[psutil.Process]:
        """Who bears the mark. By the environment, since whose parent has died is nobody's child."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(psutil.Process(int(entry.name)))
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def await_family(self, size: int) -> None:
        """Wait until so many bear the mark: one that is just being started has no environment yet."""
        until = time.monotonic() + DEADLINE_S
        while len(self.family) < size:
            assert time.monotonic() < until, self.family
            self.family = self._family()

    def left(self) -> list[psutil.Process]:
        """Who is left a while after the process itself has ended."""
        self.process.communicate(timeout=DEADLINE_S)
        psutil.wait_procs(self.family, timeout=10)
        return self._family()

    def close(self) -> None:
        for process in [*self._family(), *self.family]:
            if process.is_running():
                process.kill()
        self.process.communicate()


def network_of_host() -> dict[str, str]:
    """The host's parameters, devices, addresses, routes, named namespaces, and what is mounted."""
    seen = {}
    for path in Path("/proc/sys/net").rglob("*"):
        try:
            seen[str(path)] = path.read_text(encoding="ascii") if path.is_file() else ""
        except OSError:  # what may only be written
            continue
    seen.pop("/proc/sys/net/netfilter/nf_conntrack_count", None)
    seen["devices"] = str(sorted(name for _, name in socket.if_nameindex()))
    for name in ("net/route", "net/fib_trie", "self/mountinfo"):
        seen[name] = Path("/proc", name).read_text(encoding="ascii")
    named = Path("/run/netns")
    seen["namespaces"] = str(sorted(path.name for path in named.iterdir())) if named.exists() else ""
    return seen


@pytest.fixture
def host_unchanged() -> Iterator[None]:
    before = network_of_host()
    yield
    assert network_of_host() == before


@pytest.mark.usefixtures("host_unchanged")
@pytest.mark.parametrize("how", ["success", "error", "interrupt", "kill"])
def test_nothing_is_left(how: str) -> None:
    harness = Harness({"interrupt": "wait", "kill": "wait"}.get(how, how))
    try:
        assert len(harness.inodes) == 2
        if how in ("interrupt", "kill"):
            harness.await_family(3)  # itself, the router, and the program
        if how == "interrupt":
            os.killpg(harness.process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        if how == "kill":
            harness.process.kill()
        # A namespace without a name and without a process is gone: nothing else could hold it.
        assert harness.left() == []
        assert harness.process.returncode == {"success": 0, "error": 1, "interrupt": -2, "kill": -9}[how]
    finally:
        harness.close()


@pytest.mark.parametrize("how", ["ends", "is ended by an error"])
def test_programs_on_nodes_end_with_a_lab_that(how: str) -> None:
    with contextlib.suppress(KeyError), Lab(two_ends(parse_link("rtt=1ms", "link"))) as lab:
        command = [*lab.within("client"), "sh", "-c", "echo up; exec sleep 1000"]
        program = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"  # it is on the node
        if how != "ends":
            raise KeyError
    assert program.wait(DEADLINE_S) == -signal.SIGKILL
    program.stdout.close()


def test_a_router_that_is_killed_is_an_error_and_not_a_hang() -> None:
    with Lab(two_ends(parse_link("rtt=1ms", "link"))) as lab:
        os.kill(lab.pid, signal.SIGKILL)
        with pytest.raises(LabFailedError, match="the lab's router was killed by SIGKILL"):
            lab.account()


@pytest.mark.usefixtures("host_unchanged")
def test_parameters_of_the_kernel_are_the_nodes_own(programs: Programs) -> None:
    name = "net.ipv4.tcp_slow_start_after_idle"
    path = Path("/proc/sys", *name.split("."))
    other = str(1 - int(path.read_text(encoding="ascii")))
    with Lab(two_ends(parse_link("rtt=1ms", "link")), kernel={name: other}) as lab:
        assert [lab.kernel[node][name] for node in ("client", "server")] == [other, other]
        assert programs.run(lab, "client", "cat", str(path)).strip() == other
        assert path.read_text(encoding="ascii").strip() != other


def test_a_node_has_nothing_but_its_links(programs: Programs) -> None:
    with Lab(two_ends(parse_link("rtt=1ms", "link"))) as lab:
        devices = programs.run(lab, "client", "cat", "/proc/net/dev").splitlines()[2:]
        assert {line.partition(":")[0].strip() for line in devices} >= {"lo", "link0"}
        routes = programs.run(lab, "client", "cat", "/proc/net/route").splitlines()[1:]
        assert [line.split()[0] for line in routes] == ["link0"]
        reach = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
        refused = programs.run(
            lab,
            "client",
            *(sys.executable, "-c", reach),
            check=False,
            capture_output=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert "Network is unreachable" in refused


def test_set_up_and_tear_down_do_not_take_long() -> None:
    """Loosely: what it takes on a quiet machine is a tenth of a second or two."""
    link = parse_link("rtt=1ms", "link")
    for topology in (two_ends(link), with_relay(link, link)):
        begun = time.monotonic()
        with Lab(topology):
            pass
        assert time.monotonic() - begun < 5


def test_a_node_can_get_another_address(programs: Programs) -> None:
    ping = ["ping", "-n", "-c", "1", "-W", "1"]
    with Lab(two_ends(parse_link("rtt=1ms", "link"))) as lab:
        programs.run(lab, "client", *ping, SERVER_ADDRESS)
        lab.readdress("client", "10.77.0.9/24")
        programs.run(lab, "client", *ping, "-I", "10.77.0.9", SERVER_ADDRESS)
        programs.run(lab, "server", *ping, "10.77.0.9")
        assert "100% packet loss" in programs.run(lab, "server", *ping, "10.77.0.1", check=False)
