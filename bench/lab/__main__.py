"""The router process of a lab: `python -m bench.lab`, with a JSON spec as the first line of standard input.

The spec has `topology` (see `bench.lab.topology`), `seed`, `kernel` (parameters set in every node), `capture` (a folder
for a pcap file of each node, or null), `capture_packets` (how many are kept, or null), `reaches` (servers on the host
that the node "server" stands for) and `backend` ("own", or "netem" to leave links to the kernel).

Events on standard output, one JSON line each: `ready` (the namespaces as descriptors of this process, whether they are
in a user namespace, the kernel's parameters as read back), `account`, `error` (one line for the user), `stopped`.
Commands: `account`; `readdress` (a node's first device gets another address); `rebind` (a router forgets its mappings,
and gives other ports); `stop`. End of input means that the starter has gone, and counts as stop.

This process holds all that a lab is made of: when it ends, however it ends, namespaces and devices are gone with it.
Programs that still run on a node then are killed.
"""

import contextlib
import json
import os
import signal
import sys
from functools import partial
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import WirebenchError
from bench.lab import namespaces, netem
from bench.lab.capture import CaptureFile
from bench.lab.kernel import CONGESTION, INITIAL_WINDOW, TOLD
from bench.lab.nat import rebind, translate
from bench.lab.netcounters import Counters, read_counters
from bench.lab.router import Router
from bench.lab.topology import SERVER, Node, Topology

if TYPE_CHECKING:
    from bench.lab.relay import RelayProcess


class Lab:
    """Nodes and links, from a spec. Raises UnsupportedError."""

    def __init__(self, spec: dict[str, Any]) -> None:
        topology = Topology.from_json(spec["topology"])
        self._relay = _relay(spec["reaches"]) if spec["reaches"] else None  # which ends when this object does
        self.in_user_namespace = namespaces.become_root()
        self._home_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._kernel: dict[str, str] = spec["kernel"]
        window, congestion = self._kernel.pop(INITIAL_WINDOW, None), self._kernel.pop(CONGESTION, None)
        self._window = int(window) if window else None
        self._congestion = congestion
        self.nodes = {node.name: self._make_node(node) for node in topology.nodes}
        folder = spec["capture"]
        limit = spec["capture_packets"] or sys.maxsize
        names = self.nodes if folder else ()
        self._captures = {name: CaptureFile(Path(folder, f"{name}.pcap"), limit) for name in names}
        self.router = Router()
        devices = dict.fromkeys(self.nodes, 0)
        is_netem = spec["backend"] == "netem"
        for number, span in enumerate(topology.spans):
            fds = []
            ends = ((span.a, span.a_address, span.link.up), (span.b, span.b_address, span.link.down))
            for name, address, way in ends:
                with self.nodes[name].entered(self._home_fd):
                    device = f"link{devices[name]}"
                    fds.append(self._make_device(device, IPv4Interface(address), span.link.mtu))
                    if is_netem:
                        netem.shape(device, way, span.link.mtu)
                devices[name] += 1
            sees = [self._captures[name].add if name in self._captures else None for name in (span.a, span.b)]
            link = netem.without_netem(span.link) if is_netem else span.link
            self.router.join(fds[0], fds[1], link, f"{spec['seed']}:{number}", sees[0], sees[1])
        for node in topology.nodes:
            with self.nodes[node.name].entered(self._home_fd):
                for destination, gateway in node.routes:
                    namespaces.add_route(IPv4Network(destination), gateway)
                if node.nat:
                    translate(node.nat)
        self._nats = {node.name: node.nat for node in topology.nodes if node.nat}
        self._rebound = dict.fromkeys(self._nats, 0)

        if self._relay is not None:
            with self.nodes[SERVER].entered(self._home_fd):
                self._relay.listen(topology.address(SERVER))

    def ready(self) -> dict[str, Any]:
        """What the starter needs to know."""
        return {
            "pid": os.getpid(),
            "user": self.in_user_namespace,
            "namespaces": {name: namespace.fd for name, namespace in self.nodes.items()},
            "kernel": {name: self._in_node(name, self._read_kernel) for name in self.nodes},
        }

    def account(self) -> dict[str, Any]:
        """What became of the packets, as the links and as each node's kernel count them."""
        for capture in self._captures.values():
            capture.flush()
        nodes: dict[str, Counters] = {name: self._in_node(name, read_counters) for name in self.nodes}
        return {**self.router.account(), "nodes": nodes}

    def readdress(self, node: str, address: str) -> None:
        """Another address for a node's first device."""
        self._in_node(node, partial(namespaces.set_address, "link0", IPv4Interface(address)))

    def rebind(self, node: str) -> None:
        """Other outside ports for what is behind a router. No packet is carried meanwhile."""
        self._in_node(node, partial(rebind, self._nats[node], self._rebound[node] + 1))
        self._rebound[node] += 1

    def close(self) -> None:
        """End what still runs on a node, and the files of captures."""
        inodes = {os.fstat(namespace.fd).st_ino for namespace in self.nodes.values()}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                    if (entry / "ns/net").stat().st_ino in inodes:
                        os.kill(int(entry.name), signal.SIGKILL)
        for capture in self._captures.values():
            capture.close()

    def _make_node(self, node: Node) -> namespaces.Namespace:
        namespace = namespaces.Namespace()
        for name, value in self._kernel.items():
            namespaces.set_kernel(name, value)
        if node.forwards:
            namespaces.set_kernel("net.ipv4.ip_forward", "1")
        return namespace

    def _read_kernel(self) -> dict[str, str]:
        told = {name: namespaces.read_kernel(name) for name in dict.fromkeys((*TOLD, *self._kernel))}
        if self._window is not None:
            told[INITIAL_WINDOW] = str(self._window)  # the kernel has acknowledged it, and hands out no copy
        if self._congestion is not None:
            told[CONGESTION] = self._congestion
        return told

    def _make_device(self, name: str, address: IPv4Interface, mtu: int) -> int:
        fd = namespaces.open_tun(name, address, mtu)
        if self._window is not None or self._congestion is not None:
            namespaces.set_route_metrics(name, address, self._window, self._congestion)
        return fd

    def _in_node(self, node: str, call: Any) -> Any:
        with self.nodes[node].entered(self._home_fd):
            return call()


def _relay(reaches: list[dict[str, Any]]) -> "RelayProcess":
    from bench.lab.relay import Reach, RelayProcess  # asyncio takes as long to import as the rest, and few labs need it

    return RelayProcess([Reach(**reach) for reach in reaches])


def _emit(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> int:
    try:
        lab = Lab(json.loads(sys.stdin.readline()))
    except WirebenchError as error:
        _emit("error", message=str(error), kind=type(error).__name__)
        return error.exit_code
    router = lab.router
    pending = b""

    def obey() -> None:
        nonlocal pending
        data = os.read(0, 65536)
        if not data:
            router.stopping = True
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            match command["ask"]:
                case "account":
                    _emit("account", **lab.account())
                case "readdress":
                    lab.readdress(command["node"], command["address"])
                    _emit("readdressed")
                case "rebind":
                    lab.rebind(command["node"])
                    _emit("rebound")
                case "stop":
                    router.stopping = True

    router.watch(0, obey)
    _emit("ready", **lab.ready())
    try:
        router.run()
        account = lab.account()
    finally:
        lab.close()
    _emit("stopped", **account)
    return 0


if __name__ == "__main__":
    sys.exit(main())
