"""Several paths for one connection: Multipath TCP (RFC 8684) between the ends of `bench.lab.topology.two_paths`.

A program takes part by its socket: `socket.socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)`.
"""

import subprocess

from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.topology import CLIENT, SERVER

IPPROTO_MPTCP = 262
"""The protocol of a socket (linux/in.h); Python 3.11 has no name for it."""


def join_paths(lab: Lab) -> None:
    """Have connections between client and server use every link between them: the server announces its further
    addresses (ADD_ADDR), and the client adds a subflow to each. Raises UnsupportedError where ip or the kernel knows no
    MPTCP."""
    further = [
        span.b_address.partition("/")[0] for span in lab.topology.spans[1:] if (span.a, span.b) == (CLIENT, SERVER)
    ]
    limit = str(len(further))
    _ip(lab, SERVER, "limits", "set", "subflows", limit)
    _ip(lab, CLIENT, "limits", "set", "subflows", limit, "add_addr_accepted", limit)
    for address in further:
        _ip(lab, SERVER, "endpoint", "add", address, "signal")


def _ip(lab: Lab, node: str, *words: str) -> None:
    """`ip mptcp` on a node (ip-mptcp(8))."""
    done = subprocess.run([*lab.within(node), "ip", "mptcp", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise UnsupportedError(
            f"no connections over several paths (MPTCP) here: {why}; it needs Linux 5.6 and iproute2 5.8 or newer "
            "(apt-get install iproute2)"
        )
