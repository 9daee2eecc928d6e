"""The network between both ends of a trial: loopback, or a lab with a link."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bench.lab.account import difference
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.relay import Reach
from bench.lab.topology import CLIENT, SERVER, SERVER_ADDRESS, two_ends
from bench.scenario import Scenario

LADDER_PACKETS = 4_000
"""So many packets of each end are kept for a ladder: many times those of a connection."""


class Network(Protocol):
    """What a trial needs of a network. Entered, it is up."""

    server_host: str
    """The address that the server listens on, and that clients know it by."""
    client: list[str]
    """What to put before a command so that it runs at the client's end; nothing if there is but one place."""
    server: list[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def account(self) -> dict[str, Any] | None:
        """What it has carried so far; None where nobody counts."""

    def carried(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any] | None:
        """What it carried between two accounts, as results hold it under "wire"."""


class Loopback:
    """The host's own network, which nobody counts the packets of: its loopback, if the server is started here."""

    def __init__(self, server_host: str = "127.0.0.1") -> None:
        self.server_host = server_host
        self.client: list[str] = []
        self.server: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def account(self) -> None:
        return None

    def carried(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        return None


class LinkedEnds:
    """Client and server in namespaces of their own, joined by a link. Entering raises UnsupportedError."""

    server_host = SERVER_ADDRESS

    def __init__(self, scenario: Scenario, link: Link, seed: int, reaches: Sequence[Reach]) -> None:
        self.client: list[str] = []
        self.server: list[str] = []
        self._scenario = scenario
        self._link = link
        self._seed = seed
        self._reaches = reaches
        self._folder: Path | None = None
        self._lab: Lab
        self._undo: contextlib.ExitStack

    def __enter__(self) -> Self:
        scenario = self._scenario
        with contextlib.ExitStack() as undo:
            if scenario.pattern == "connect":  # whose connections the ladder is of
                self._folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="wirebench-capture-")))
            lab = Lab(
                two_ends(self._link),
                self._seed,
                scenario.link_kernel,
                self._folder,
                LADDER_PACKETS,
                self._reaches,
                scenario.link_backend,
            )
            self._lab = undo.enter_context(lab)
            self.client, self.server = lab.within(CLIENT), lab.within(SERVER)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, traceback)

    def account(self) -> dict[str, Any]:
        return self._lab.account()

    def carried(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any] | None:
        assert before is not None
        assert after is not None
        span = difference(before["spans"][0], after["spans"][0])
        packets: dict[str, Any] = {}
        if self._folder is not None:
            from bench.lab.ladder import captured  # which takes a while to import, and is seldom needed

            rtt_ns = self._link.up.delay_ns + self._link.down.delay_ns
            packets = captured(self._folder, rtt_ns, limit=LADDER_PACKETS)
        return {
            **packets,
            "up": span["up"],
            "down": span["down"],
            "nodes": difference(before["nodes"], after["nodes"]),
            "router_late_ns": after["late_ns"],
            "router_cpu_s": after["cpu_s"] - before["cpu_s"],
            "router_refused": after["refused"] - before["refused"],
            "kernel": self._lab.kernel,
        }


def network(scenario: Scenario, seed: int, reaches: Sequence[Reach] = ()) -> Network:
    """The network that a scenario asks for. `reaches` are servers on the host that the server's end of a link stands
    for."""
    if scenario.link is None:
        return Loopback(*(reach.host for reach in reaches))
    return LinkedEnds(scenario, scenario.link, seed, reaches)
