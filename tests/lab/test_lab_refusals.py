"""What a lab says where it cannot be: one line with what is missing, how to get it, and what works without."""

import os
import shutil
import subprocess
import sys
from ipaddress import IPv4Interface
from pathlib import Path

import dpkt
import pytest

from bench.errors import UnsupportedError
from bench.lab import namespaces
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.topology import two_ends

ROOT = Path(__file__).resolve().parents[2]
TUN = Path("/dev/net/tun")

TRY = """
from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.topology import two_ends

try:
    with Lab(two_ends(Link())):
        print("no refusal")
except UnsupportedError as error:
    print(error)
"""


AGAIN = (
    "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; assert sys.version_info >= (3, 11)'])"
)


def refusal(*before: str, python: str = sys.executable) -> str:
    """What the lab says in a process that is started so."""
    path = os.pathsep.join([str(ROOT), str(Path(dpkt.__file__).parents[1])])
    done = subprocess.run(
        [*before, python, "-B", "-c", TRY],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return line


def test_a_device_that_only_root_may_open() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else, with setpriv (Debian package: util-linux)")
    if not TUN.exists() or TUN.stat().st_mode & 0o006:
        pytest.skip(f"{TUN} is open to everybody here, or is not there")
    somebody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        if not subprocess.run([*somebody, python, "-c", AGAIN], capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip("Python is for root alone here")
    line = refusal(*somebody, python=python)
    assert line.startswith("no links here: ")
    if "namespace" not in line:  # which this kernel may not allow to everybody either
        assert line == (
            "no links here: /dev/net/tun cannot be opened (Permission denied); as root: chmod 666 /dev/net/tun, or run "
            "as root; loopback works without"
        )


def test_no_network_namespaces() -> None:
    none = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    limit = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    if subprocess.run([*none, limit, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here to forbid network namespaces in")
    line = refusal(*none, limit, "sh")
    assert line.startswith("no links here: the kernel allows us no user namespace (No space left on device); as root: ")
    assert line.endswith("; loopback works without")


def test_no_tun_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(namespaces, "_TUN_PATH", str(tmp_path / "tun"))
    with pytest.raises(
        UnsupportedError, match=r"tun cannot be opened \(No such file or directory\); mkdir -p /dev/net"
    ):
        namespaces.open_tun("link0", IPv4Interface("10.0.0.1/24"), 1500)


def test_a_device_that_is_no_tun_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_TUN_PATH", "/dev/null")
    with pytest.raises(UnsupportedError, match=r"a TUN device cannot be made .*; the kernel may lack it: modprobe tun"):
        namespaces.open_tun("link0", IPv4Interface("10.0.0.1/24"), 1500)


def test_no_nsenter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="nsenter is missing; apt-get install util-linux"), Lab(two_ends(Link())):
        pass


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize(
    ("name", "value"),
    [("net.ipv4.no_such_thing", "1"), ("net.ipv4.tcp_sack", "maybe"), ("net.core.netdev_budget", "300")],
)
def test_parameters_that_the_kernel_does_not_take(name: str, value: str) -> None:
    """The last is the host's alone."""
    with pytest.raises(UnsupportedError) as caught, Lab(two_ends(Link()), kernel={name: value}):
        pass
    assert f"the kernel takes no {name}={value} in a network namespace: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("links")
def test_a_congestion_control_that_the_kernel_does_not_have() -> None:
    kernel = {"net.ipv4.tcp_congestion_control": "nonsense"}
    with pytest.raises(UnsupportedError, match=r"nonsense.*reno"), Lab(two_ends(Link()), kernel=kernel):
        pass
