"""A transfer over two links in parallel, by TCP, which uses one of them, or by Multipath TCP (RFC 8684)."""

import subprocess

from bench.errors import LabFailedError
from bench.lab import mptcp
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import CLIENT, SERVER, two_paths
from bench.probes.on_nodes import PROGRAM

_SIZE_BYTES = 6_000_000
_LINK = "rtt=4ms,rate=20mbit,queue=100ms"
_LINK_BITS_PER_S = 20e6
_SERVER_ADDRESS = "10.77.1.2"
_TIMEOUT_S = 40.0


def measure(transport: str) -> dict[str, float]:
    """What arrives in a second, as a multiple of what one link carries. Raises UnsupportedError."""
    link = parse_link(_LINK, "link")
    protocol = str(mptcp.IPPROTO_MPTCP if transport == "mptcp" else 0)
    with Lab(two_paths(link, link)) as lab:
        mptcp.join_paths(lab)
        bytes_per_s = transfer(lab, protocol, _SERVER_ADDRESS, _SIZE_BYTES)
    return {"links_used_ratio": 8 * bytes_per_s / _LINK_BITS_PER_S}


def transfer(lab: Lab, protocol: str, server_address: str, size_bytes: int) -> float:
    """Send so many bytes from the client to the server, by the socket's protocol. Gives what arrives in a second."""
    taker = subprocess.Popen([*lab.within(SERVER), *PROGRAM, "take", protocol], stdout=subprocess.PIPE, text=True)
    try:
        assert taker.stdout is not None
        taker.stdout.readline()
        given = [*lab.within(CLIENT), *PROGRAM, "give", protocol, server_address, str(size_bytes)]
        subprocess.run(given, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
        got, took_s = taker.stdout.readline().split()
    except (subprocess.SubprocessError, ValueError) as error:
        raise LabFailedError(f"the transfer did not end: {error}") from None
    finally:
        taker.kill()
        taker.wait()
    return int(got) / float(took_s)
