"""Two peers behind routers that translate addresses, of every kind with every kind: who reaches whom."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from bench.errors import LabFailedError
from bench.lab import nat
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.topology import with_relay
from bench.probes.on_nodes import PROGRAM

_RELAY_ADDRESS = "10.77.13.1"
_TIMEOUT_S = 30.0
_AT_ONCE = 8

_CANNOT = {("symmetric", "symmetric"), ("symmetric", "port-restricted"), ("port-restricted", "symmetric")}
"""The pairs that cannot reach each other by what a relay has seen of them: a symmetric router has another mapping for
the peer than for the relay, and a router that filters by port lets nothing in from that one."""


def measure(how: str) -> dict[str, float]:
    """All sixteen pairs: how many were connected, and how many of them as the kinds say. Raises UnsupportedError."""
    pairs = list(product(nat.KINDS, nat.KINDS))
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # most of the time they wait
        connected = dict(zip(pairs, pool.map(lambda pair: _connected(pair[0], pair[1], how), pairs), strict=True))
    expected = {pair: how == "turn" or pair not in _CANNOT for pair in pairs}
    return {
        "connected_pairs": sum(connected.values()),
        "expected_pairs": sum(connected[pair] == expected[pair] for pair in pairs),
    }


def _connected(nat_a: str, nat_b: str, how: str) -> bool:
    started: list[subprocess.Popen[str]] = []
    with Lab(with_relay(Link(), Link(), nat_a, nat_b)) as lab:

        def start(node: str, *words: str) -> subprocess.Popen[str]:
            process = subprocess.Popen([*lab.within(node), *PROGRAM, *words], stdout=subprocess.PIPE, text=True)
            started.append(process)
            return process

        try:
            relay = start("relay", "relay")
            assert relay.stdout is not None
            relay.stdout.readline()
            peers = [start(node, "peer", node, _RELAY_ADDRESS, how) for node in ("a", "b")]
            said = [peer.communicate(timeout=_TIMEOUT_S)[0].strip() for peer in peers]
        except subprocess.TimeoutExpired:
            raise LabFailedError(f"two peers behind {nat_a} and {nat_b} did not end") from None
        finally:
            for process in started:
                process.kill()
                process.communicate()
    if any(line not in ("reached", "not reached") for line in said):
        raise LabFailedError(f"two peers behind {nat_a} and {nat_b}: {said}")
    return said == ["reached", "reached"]
