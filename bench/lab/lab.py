"""A lab that lasts as long as its context: nodes that processes are started in, links between them, and an account of
every packet.

The other end of the line is `bench.lab.__main__`, which documents what goes over it.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import LabFailedError, UnsupportedError
from bench.lab.relay import Reach
from bench.lab.topology import Topology

_START_TIMEOUT_S = 15.0
_ANSWER_TIMEOUT_S = 10.0


class Lab:
    """A topology, up. Entering raises UnsupportedError where the machine cannot have it, every method LabFailedError
    when the router process has ended by itself. Not to be shared between threads."""

    def __init__(
        self,
        topology: Topology,
        seed: int = 0,
        kernel: Mapping[str, str] | None = None,
        capture: Path | None = None,
        capture_packets: int | None = None,
        reaches: Sequence[Reach] = (),
        backend: str = "own",
    ) -> None:
        """`kernel` are parameters (sysctls) set in every node; `capture` is a folder for NODE.pcap of every node,
        with its first `capture_packets` (None for all);
        `reaches` are servers on the host that the node "server" stands for; `backend` is what makes links slow and
        lossy, see `bench.lab.netem`."""
        self.topology = topology
        self.kernel: dict[str, dict[str, str]] = {}
        """Parameters of each node's kernel as read back."""
        self.pid = 0
        self._spec = {
            "topology": topology.to_json(),
            "seed": seed,
            "kernel": dict(kernel or {}),
            "capture": str(capture) if capture else None,
            "capture_packets": capture_packets,
            "reaches": [asdict(reach) for reach in reaches],
            "backend": backend,
        }
        self._namespaces: dict[str, int] = {}
        self._in_user_namespace = False
        self._last_account: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        if shutil.which("nsenter") is None:
            raise UnsupportedError("no links here: nsenter is missing; apt-get install util-linux")
        self._child = ChildProcess("bench.lab")
        try:
            self._child.send(self._spec)
            event = self._await("ready", _START_TIMEOUT_S)
        except BaseException:
            self._child.kill()
            raise
        self.pid, self._namespaces, self.kernel = event["pid"], event["namespaces"], event["kernel"]
        self._in_user_namespace = event["user"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not self._child.closed:
                self._child.send({"ask": "stop"})  # after an error too: only the router ends what still runs on nodes
                self._last_account = self._await("stopped", _ANSWER_TIMEOUT_S)
        except LabFailedError:
            if error is None:
                raise
        finally:
            self._child.kill()

    def within(self, node: str) -> list[str]:
        """What to put before a command so that it runs on a node."""
        user = [f"--user=/proc/{self.pid}/ns/user", "--preserve-credentials"] if self._in_user_namespace else []
        return ["nsenter", *user, f"--net=/proc/{self.pid}/fd/{self._namespaces[node]}", "--"]

    def inode(self, node: str) -> int:
        """What tells a node's network namespace from others: the inode of /proc/PID/ns/net of its processes."""
        return Path(f"/proc/{self.pid}/fd/{self._namespaces[node]}").stat().st_ino

    def account(self) -> dict[str, Any]:
        """What became of the packets: of each link by direction (`spans`), how late the router was (`late_ns`), and
        what each node's kernel counted (`nodes`). After the end it is the last account."""
        if self._child.closed and self._last_account is not None:
            return self._last_account
        return self._ask("account", "account")

    def readdress(self, node: str, address: str) -> None:
        """Give a node's first device another address, like "10.77.0.9/24", in the place of its own."""
        self._ask("readdress", "readdressed", node=node, address=address)

    def rebind(self, node: str) -> None:
        """Have a router with address translation forget its mappings, and give other ports from then on, as a home
        router does that was started anew. What the node behind it sends next comes from another port."""
        self._ask("rebind", "rebound", node=node)

    def _ask(self, command: str, answer: str, **fields: str) -> dict[str, Any]:
        """Give the router a command, and wait for what it says to that."""
        self._child.send({"ask": command, **fields})
        return self._await(answer, _ANSWER_TIMEOUT_S)

    def _await(self, name: str, timeout_s: float) -> dict[str, Any]:
        while True:
            try:
                event = self._child.next_event(timeout_s)
            except ChildEndedError as error:
                raise LabFailedError(f"the lab's router {error}") from None
            if event is None:
                raise LabFailedError(f"the lab's router gave no answer for {timeout_s:g} s (waited for: {name})")
            if event["event"] == "error":
                self._child.kill()
                raise (UnsupportedError if event["kind"] == "UnsupportedError" else LabFailedError)(event["message"])
            if event.pop("event") == name:  # and not the answer to a question whose asker was interrupted
                return event
