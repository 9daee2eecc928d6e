"""Groups whose members talk to each other: each straight to each over WebRTC data channels, or all through a server."""

import contextlib
import statistics
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from bench.childprocess import ChildProcess, heard
from bench.errors import LabFailedError
from bench.lab.lab import Lab
from bench.lab.link import Link, parse_link
from bench.lab.topology import Topology, star, with_relay
from bench.serverprocess import ServerProcess

_DIRECT, _TO_RELAY = parse_link("rtt=40ms", "link"), parse_link("rtt=60ms", "link")
_TIMEOUT_S = 20.0
_AGAIN_S = 0.02


def direct(how: str) -> dict[str, float]:
    """One of two peers talks to the other, 20 ms away; a server is 30 ms from both. `how` is "direct" or "relay".
    Raises UnsupportedError."""
    messages, message_bytes = 50, 1000
    with Lab(with_relay(_DIRECT, _TO_RELAY)) as lab, _Group(lab, ("a", "b"), "relay", how) as group:
        group.connect()
        cpu_ns = group.server_cpu_ns()
        before = _server_bytes(lab)
        group.speak(("a",), messages, message_bytes, every_s=0.02)
        delays_ns = group.heard("b", messages)
        return {
            "delay_ns": statistics.median(delays_ns),
            "server_bytes": (_server_bytes(lab) - before) / messages,
            "server_cpu_ns": (group.server_cpu_ns() - cpu_ns) / messages,
        }


def mesh(how: str, peers: int) -> dict[str, float]:
    """So many peers, who all talk to all others. `how` is "mesh" or "relay". Raises UnsupportedError."""
    messages, message_bytes = 5, 16_000
    names = [f"peer{number}" for number in range(peers)]
    with Lab(star([*names, "server"], Link())) as lab, _Group(lab, names, "server", how) as group:
        connections = group.connect()
        before = _sent_bytes(lab)
        group.speak(names, messages, message_bytes, every_s=0.2)
        for name in names:
            group.heard(name, messages * (peers - 1))
        *of_peers, of_server = (after - earlier for earlier, after in zip(before, _sent_bytes(lab), strict=True))
        said_bytes = messages * message_bytes * peers
        return {
            "peer_copies": sum(of_peers) / said_bytes,
            "server_copies": of_server / said_bytes,
            "connections": connections,
        }


class _Group:
    """The members of a group, each a process on a node of its own, and a server on another. They talk through that if
    `how` is "relay", else straight to each other."""

    def __init__(self, lab: Lab, names: Sequence[str], server: str, how: str) -> None:
        self._lab = lab
        self._by_relay = how == "relay"
        self._names = names
        self._server_node = server
        self._stack = contextlib.ExitStack()
        self._members: dict[str, ChildProcess] = {}

    def __enter__(self) -> "_Group":
        lab = self._lab
        try:
            self._server = self._stack.enter_context(
                ServerProcess("websocket", within=lab.within(self._server_node), host="0.0.0.0")
            )
            kind = "bench.probes.relay_member" if self._by_relay else "bench.probes.peer_member"
            for name in self._names:
                member = self._members[name] = ChildProcess(kind, lab.within(name))
                self._stack.callback(member.kill)
                member.send({"name": name, "address": lab.topology.address(name)})
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self) -> int:
        """Connect all members, each with each or with the server. Gives how many connections that took."""
        if not self._by_relay:
            pairs = list(combinations(self._names, 2))
            for one, other in pairs:
                self._introduce(one, other)
            return len(pairs)
        for name in self._names:
            host = _server_address(self._lab.topology, name, self._server_node)
            self._members[name].send({"ask": "join", "url": f"ws://{host}:{self._server.port}/topics/talk"})
            self._await(name, "joined")
        return len(self._names)

    def server_cpu_ns(self) -> int:
        """What the server has used."""
        return sum(counts.cpu_ns or 0 for counts in self._server.stats()[0])

    def speak(self, names: Sequence[str], messages: int, message_bytes: int, every_s: float) -> None:
        """Have members begin to talk."""
        for name in names:
            told = {"ask": "speak", "messages": messages, "message_bytes": message_bytes, "every_s": every_s}
            self._members[name].send(told)

    def heard(self, name: str, count: int) -> list[int]:
        """How long each message took to a member, once it has so many."""
        until_s = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < until_s:
            self._members[name].send({"ask": "listen"})
            delays_ns: list[int] = self._await(name, "heard")["delays_ns"]
            if len(delays_ns) >= count:
                return delays_ns
            time.sleep(_AGAIN_S)
        raise LabFailedError(f"{name} heard {len(delays_ns)} of {count} messages in {_TIMEOUT_S:g} s")

    def _introduce(self, one: str, other: str) -> None:
        """Carry an offer and its answer from one to the other, as signalling does, until they are connected."""
        self._members[one].send({"ask": "offer", "to": other})
        offer = self._await(one, "offer")["description"]
        self._members[other].send({"ask": "answer", "to": one, "description": offer})
        answer = self._await(other, "answer")["description"]
        self._members[one].send({"ask": "meet", "to": other, "description": answer})
        for name in (one, other):
            self._await(name, "joined")

    def _await(self, name: str, event: str) -> dict[str, Any]:
        return heard(self._members[name], event, f"the member {name}", _TIMEOUT_S)


def _server_bytes(lab: Lab) -> int:
    """What went to the relay of `with_relay` and came from it, so far."""
    return sum(span[way]["offered_bytes"] for span in lab.account()["spans"][1:] for way in ("up", "down"))


def _sent_bytes(lab: Lab) -> list[int]:
    """What each node of a star has sent so far."""
    return [span["up"]["offered_bytes"] for span in lab.account()["spans"]]


def _server_address(topology: Topology, name: str, server: str) -> str:
    """The server's address on its link with that member, or on its first."""
    for span in topology.spans:
        if {span.a, span.b} == {name, server}:
            return (span.a_address if span.a == server else span.b_address).partition("/")[0]
    return topology.address(server)
