"""What the lab can do here, found out by doing it."""

import shutil
import subprocess
import time
from collections.abc import Iterator

from bench.doctor.check import Check
from bench.doctor.machine import read
from bench.errors import LabFailedError, UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.programs import PATH
from bench.lab.topology import two_ends


def lab() -> Iterator[Check]:
    """All of it."""
    links = _links()
    yield links
    if links.state == "ok":
        yield _program("nft", "links with address translation (NAT)", "nftables")
        yield _program("ip", "connections over several paths (MPTCP)", "iproute2")
        yield _multipath()


def _links() -> Check:
    begun = time.monotonic()
    try:
        with Lab(two_ends(Link())):
            took_s = time.monotonic() - begun
    except UnsupportedError as error:
        found, _, fix = str(error).partition("; ")
        return Check("lab", "links", "warn", found, fix)
    except LabFailedError as error:
        return Check("lab", "links", "warn", str(error), "start it again with WIREBENCH_DEBUG=1 wirebench lab -- true")
    return Check("lab", "links", "ok", f"delay, loss, rate and captures without netem; up in {took_s * 1000:.0f} ms")


def _program(name: str, what: str, package: str) -> Check:
    if shutil.which(name, path=PATH) is None:
        return Check("lab", name, "warn", f"missing: no {what}", f"apt-get install {package}")
    return Check("lab", name, "ok", what)


def _multipath() -> Check:
    enabled = read("/proc/sys/net/mptcp/enabled")
    if enabled is None:
        return Check("lab", "mptcp", "warn", "the kernel has no MPTCP", "use Linux 5.6 or newer")
    if shutil.which("ip") and subprocess.run(["ip", "mptcp", "limits"], capture_output=True, check=False).returncode:
        return Check("lab", "mptcp", "warn", "ip knows nothing of MPTCP", "use iproute2 5.8 or newer")
    return Check("lab", "mptcp", "ok", "MPTCP")
