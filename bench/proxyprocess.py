"""The hops of a path as processes: each in front of the next, the last one in front of the server."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.certificates import certificates
from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import ServerFailedError
from bench.peers.process import pinned
from bench.programhost import hosted
from bench.proxies import Hop, Leg, legs_of

_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where a hop is, and what it is in front of."""

    host: str
    """The address that it listens on, which is that of the next hop or of the server too."""
    port: int
    """Of what it is in front of."""
    leg: Leg
    """What its clients speak."""
    next_leg: Leg | None = None
    """What it speaks itself; None for the same."""
    cpus: tuple[int, ...] = ()
    within: tuple[str, ...] = ()
    """As for ChildProcess."""
    seed: int = 0
    """Whatever is left to chance comes from it."""


@dataclass(frozen=True)
class RunningHop:
    """A hop that answers."""

    hop: str
    host: str
    port: int
    pids: tuple[int, ...]
    """Its processes, the main one first."""
    begin_to_lose: Callable[[], None] = lambda: None
    """Of a hop that loses answers: none is lost before."""


@contextlib.contextmanager
def running_hops(hops: Sequence[Hop], place: Place) -> Iterator[list[RunningHop]]:
    """The hops of a path while the context lasts, from the client to the server. `place` is that of the last one, and
    its leg what client and server speak. Raises ServerFailedError, UnsupportedError."""
    running: list[RunningHop] = []
    with contextlib.ExitStack() as stack:
        legs = legs_of(hops, place.leg)
        for number, hop in enumerate(reversed(hops)):
            port = running[0].port if running else place.port
            next_leg = legs.pop()
            at = replace(place, port=port, leg=legs[-1], next_leg=next_leg, seed=place.seed + number)
            running.insert(0, stack.enter_context(running_hop(hop, at)))
        yield running


@contextlib.contextmanager
def running_hop(hop: Hop, place: Place) -> Iterator[RunningHop]:
    """One hop while the context lasts. Raises ServerFailedError, UnsupportedError."""
    if hop.kind.start is None:
        with EmbeddedProxy(hop, place) as proxy:
            yield proxy.running
        return
    leg, next_leg = place.leg, place.next_leg or place.leg
    arguments: dict[str, Any] = {"host": place.host, "upstream_port": place.port, "cpus": list(place.cpus)}
    arguments |= {"http": leg.http, "next_http": next_leg.http}
    if hop.kind.layer == 7 and leg.tls != "off":
        arguments |= _certificate()
    with hosted(f"the hop {hop}", hop.kind.start, arguments, place.within) as gave:
        yield RunningHop(str(hop), place.host, gave["port"], tuple(gave["pids"]))


class EmbeddedProxy:
    """A proxy of this project as a child process that runs while the context lasts. Every method raises
    ServerFailedError when it finds that the proxy has ended by itself, and so does leaving the context."""

    running: RunningHop

    def __init__(self, hop: Hop, place: Place, **changes: Any) -> None:
        """`changes` are fields of `servers.proxies.spec.ProxySpec` that a hop of a path leaves as they are."""
        self._hop = hop
        self._place = place
        self._changes = changes

    def __enter__(self) -> "EmbeddedProxy":
        place, hop = self._place, self._hop
        leg, next_leg = place.leg, place.next_leg or place.leg
        with pinned(place.cpus):
            self._child = ChildProcess("servers.proxies", place.within)
        try:
            self._child.send(
                {
                    "layer": hop.kind.layer,
                    "upstreams": [[place.host, place.port]],
                    "host": place.host,
                    "seed": place.seed,
                    **(self._layer4(leg) if hop.kind.layer == 4 else self._layer7(leg, next_leg)),
                    **self._changes,
                }
            )
            ready = self._await("ready", _START_TIMEOUT_S)
        except BaseException:
            self._child.kill()
            raise
        self.running = RunningHop(str(hop), place.host, ready["port"], (ready["pid"],), self._begin_to_lose)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        try:
            if error is None:
                self._child.send({"ask": "stop"})
                self._await("stopped", _STOP_TIMEOUT_S)
        finally:
            self._child.kill()

    def _layer4(self, leg: Leg) -> dict[str, str]:
        return {"transport": leg.transport}

    def _layer7(self, leg: Leg, next_leg: Leg) -> dict[str, str]:
        spec = {"http": leg.http, "upstream_http": next_leg.http, "tls": leg.tls, "upstream_tls": next_leg.tls}
        if leg.tls != "off":
            spec |= _certificate()
        if next_leg.tls != "off":
            spec["authorities"] = str(certificates().authority)
        return spec

    def _begin_to_lose(self) -> None:
        if self._hop.lose_share:
            self._child.send({"ask": "lose", "share": self._hop.lose_share})

    def counts(self) -> dict[str, int]:
        """What it has done so far (see `servers.proxies.spec.Counts`)."""
        self._child.send({"ask": "stats"})
        found: dict[str, int] = self._await("stats", _ANSWER_TIMEOUT_S)["counts"]
        return found

    def _await(self, name: str, timeout_s: float) -> dict[str, Any]:
        try:
            event = self._child.next_event(timeout_s)
        except ChildEndedError as error:
            raise ServerFailedError(f"the hop {self._hop} {error}") from None
        if event is None:
            raise ServerFailedError(f"the hop {self._hop} gave no answer for {timeout_s:g} s (waited for: {name})")
        if event["event"] != name:
            raise ServerFailedError(f"the hop {self._hop}: {event.get('message', event['event'])}")
        return event


def _certificate() -> dict[str, str]:
    made = certificates()
    return {"certificate": str(made.certificate), "private_key": str(made.private_key)}
