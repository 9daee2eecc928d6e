"""The load engine: connections, and what decides when each of them sends.

Closed: an answer makes room, and room is filled at once. Open: due times come from the schedule, whether or not there
are answers; a request that finds no room waits, its wait counts as latency, and past the limit it is dropped and
counted.
"""

import asyncio
import errno
import ssl
import time
from abc import ABC, abstractmethod
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench import registry
from bench.contract import Security
from bench.errors import NoPortError, ProtocolError, TargetError
from bench.load.client import Client, Session
from bench.load.link import Line, Link
from bench.load.pacing import make_timer
from bench.load.recorder import Recorder
from bench.load.security import describe
from bench.load.spec import LoadSpec
from bench.schedule import Closed, Concurrency, Load, due_times

CONNECT_TIMEOUT_S = 5.0
_TICK_S = 0.05
CONNECTS_AT_ONCE = 256
RETRY_S = (0.0, 0.01, 0.05, 0.2, 1.0)
_AHEAD = 1 << 20
"""Due times that are worked out before the run. What a longer run needs it works out on the way, a few at a time."""

_LEAD_NS = 50_000
"""How long before a due time the loop stops sleeping: a core that has gone idle wakes up late."""

_SPARSE_NS = 190_000
"""Due times closer than this keep the core awake by themselves; staying awake between them too would take all of it."""

_TAKE_AT_ONCE = 64
"""Requests taken up before the loop gets to read answers again, when the schedule is ahead of us."""

NO_PORT = (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE)
"""What connect(2) and socket(2) say where this machine has no port or no file descriptor left."""

_clock = time.monotonic_ns


_MEANING = {
    "refused": "refuses connections",
    "no-port": "was not connected to: this machine has no port or file descriptor left",
    "closed": "closed the connection before it answered",
    "unprocessed": "said that it takes no requests",
    "reset": "cancelled the request",
    "protocol": "answered with something that is not the protocol that was asked for",
    "status": "answered with a status that says the request failed",
    "content": "answered with a body that is not the expected one",
    "timeout": "gave no answer in time",
    "not-resumed": "answered, and would not resume a handshake: does it give tickets?",
    "not-early": "answered, and would not take early data (0-RTT): does it offer it?",
    "not-fast-open": "answered, and would not take data with the SYN: does it have TCP Fast Open?",
}


class Runnable(Protocol):
    """What a load process runs."""

    makes_cycles: bool
    """Whether what it does leaves cycles of objects behind, so that the collector has to run meanwhile."""
    recorder: Recorder
    tally: Counter[str]
    """What the pattern counts beside exchanges (see `bench.patterns`)."""

    async def connect(self) -> None:
        """Open what is needed, and see that it works. Raises TargetError."""

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        """Send from `start_ns`, measure from `measure_ns` to `end_ns`, then wait for what is in flight."""

    def stop(self) -> None:
        """End the run now: what was measured until now is the result."""

    def delivery(self) -> dict[str, Any] | None:
        """What patterns with events count of those; None for others."""

    def close(self) -> None:
        """Close what the load has left open."""


class Engine(ABC):
    """Drives one server from one event loop (a Runnable)."""

    is_closed: bool
    makes_cycles = False

    def __init__(
        self,
        make_client: Callable[[], Client | Session],
        host: str,
        port: int,
        security: Security | None,
        concurrency: Concurrency,
        timeout_ns: int,
    ) -> None:
        self._make_client = make_client
        self._security = security
        self._address = (host, port)
        self._concurrency = concurrency
        self._timeout_ns = timeout_ns
        self.recorder = Recorder(is_open=not self.is_closed)
        self.tally: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._failed_connects = 0
        self._running = False
        self.end_ns = 0
        """When sending ends; nothing is sent before the run has begun, nor after it."""

    # What the two kinds of load differ in

    @abstractmethod
    def ready(self, link: Link, count: int, now_ns: int) -> None:
        """`count` exchanges of a connection are over: there is room for others."""

    @abstractmethod
    def unprocessed(self, intended_ns: int, now_ns: int) -> None:
        """An exchange was sent, and not looked at by the server, which takes no more on that connection: another is to
        be sent in its place."""

    @abstractmethod
    def _begin(self, start_ns: int, measure_ns: int) -> None:
        """Start sending: due times count from `start_ns`, measuring begins at `measure_ns`."""

    @abstractmethod
    def _idle(self) -> bool:
        """Nothing waits to be sent any more."""

    @abstractmethod
    def _finish(self) -> None:
        """Whatever still waits is given up."""

    # The run

    async def connect(self) -> None:
        """Open all connections and check that the first gets a right answer. Raises TargetError."""
        remaining = self._concurrency.connections
        while remaining:
            batch = min(remaining, CONNECTS_AT_ONCE)
            await asyncio.gather(*(self._open() for _ in range(batch)))
            remaining -= batch
        link = next(iter(self._links), None)
        if link is None:
            host, port = self._address
            raise TargetError(f"{host} port {port} closed the connection as soon as it was made")
        await self._check(link)

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        """Send from `start_ns`, measure from `measure_ns` to `end_ns`, then wait for what is in flight.

        Connections at rest stay open, so that what the server has for each of them can still be looked at.
        """
        self.recorder.set_window(measure_ns, end_ns, intervals)
        await asyncio.sleep(max(0.0, (start_ns - _clock()) / 1e9 - 0.002))
        self._running = True
        self.end_ns = end_ns
        self._begin(start_ns, measure_ns)
        while (now := _clock()) < self.end_ns or (not self._is_quiet() and now < self.end_ns + self._timeout_ns):
            await asyncio.sleep(_TICK_S)
            now = _clock()
            for link in list(self._links):
                link.expire(now - self._timeout_ns, now)
            self.recorder.digest_if_due()
        self._running = False
        self._finish()
        for task in self._retries:
            task.cancel()
        for link in [link for link in self._links if link.sent]:
            link.fail_all("timeout")
            link.close()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """End the run now: what was measured until now is the result."""
        self.end_ns = min(self.end_ns, _clock())
        self.recorder.stop(self.end_ns)

    def delivery(self) -> dict[str, Any] | None:
        """What patterns with events count of those; None for others."""
        return None

    def close(self) -> None:
        """Close the connections at rest."""
        for link in list(self._links):
            link.close()

    def lost(self, link: Any) -> None:
        """A connection has ended. While the load runs, another takes its place."""
        if link not in self._links:
            return  # it never stood: whoever opens it knows
        self._links.remove(link)
        if self._running and ((now := _clock()) < self.end_ns or not self._idle()):
            self._replace(now)

    def _replace(self, since_ns: int) -> None:
        """Open a connection in the place of one that is missing since then."""
        task = self._loop.create_task(self._reopen(since_ns))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    def _replace_missing(self) -> None:
        """Open those that have ended before the load began: many servers close behind the first answer."""
        for _ in range(self._concurrency.connections - len(self._links)):
            self._replace(_clock())

    def _is_quiet(self) -> bool:
        return self._idle() and not any(link.sent for link in self._links)

    def _make_link(self) -> Link:
        return Link(self, self._make_client(), self._concurrency.in_flight)

    async def _open(self) -> Link:
        link = self._make_link()
        await self._connect(link)
        self._links.add(link)
        return link

    async def _connect(self, line: Line) -> None:
        """Open a connection. Raises TargetError."""
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._open_line(line)
        except TimeoutError:
            raise TargetError(
                f"cannot connect to {host} port {port}: no answer within {CONNECT_TIMEOUT_S:.0f} s"
            ) from None
        except ssl.SSLError as error:
            raise TargetError(f"no TLS with {host} port {port}: {describe(error)}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in NO_PORT:
                raise NoPortError(
                    f"cannot connect to {host} port {port}: {reason}: this machine has no port "
                    "(net.ipv4.ip_local_port_range), address or file descriptor (ulimit -n) left to connect from"
                ) from None
            raise TargetError(f"cannot connect to {host} port {port}: {reason}; is the server running?") from None
        except ProtocolError as error:
            raise TargetError(f"{host} port {port} {_MEANING['protocol']}: {error}") from None
        if not line.opened:
            raise TargetError(f"{host} port {port} closed the connection as soon as it was made")

    async def _open_line(self, line: Line) -> None:
        host, port = self._address
        await line.connect(host, port, self._security)

    async def _reopen(self, since_ns: int) -> None:
        while self._running:
            await asyncio.sleep(RETRY_S[min(self._failed_connects, len(RETRY_S) - 1)])
            try:
                link = await self._open()
            except TargetError as error:
                self._failed_connects += 1
                since_ns = now = _clock()
                self.recorder.error("no-port" if isinstance(error, NoPortError) else "refused", now, now)
                continue
            self._failed_connects = 0
            self._reopened(link, since_ns)
            return

    def _reopened(self, link: Link, since_ns: int) -> None:
        """A connection stands in the place of one; since when it was missing."""
        self.ready(link, self._concurrency.in_flight, _clock())

    async def _check(self, link: Link) -> None:
        """One exchange before any load: correctness before speed."""
        now = _clock()
        give_up_ns = now + min(self._timeout_ns, int(CONNECT_TIMEOUT_S * 1e9))
        link.send(1, now, now)
        while link.sent and _clock() < give_up_ns:
            await asyncio.sleep(0.001)
        host, port = self._address
        if link.sent:
            raise TargetError(
                f"{host} port {port} took a request and gave no answer within {(give_up_ns - now) / 1e9:.0f} s"
            )
        if self.recorder.last_error is not None:
            raise TargetError(f"{host} port {port} {_MEANING[self.recorder.last_error]}")


class ClosedEngine(Engine):
    """Keeps every connection full."""

    is_closed = True

    def __init__(self, **target: Any) -> None:
        super().__init__(**target)
        self._owed: deque[int] = deque()
        """Since when exchanges wait for a connection in the place of one that takes no more."""

    def ready(self, link: Link, count: int, now_ns: int) -> None:
        if now_ns < self.end_ns:
            room = link.room()
            if room > 0:
                link.send(room, now_ns, now_ns)
            elif link.client.closing:
                self._owed.extend(repeat(now_ns, count))

    def unprocessed(self, intended_ns: int, now_ns: int) -> None:
        self._owed.append(intended_ns)

    def _reopened(self, link: Link, since_ns: int) -> None:
        # What is sent now has waited for the connection, which a server that closes connections costs its requests.
        while self._owed and link.room() > 0:
            owed_ns = self._owed.popleft()
            link.send(1, owed_ns, owed_ns)
        self.ready(link, 0, since_ns)

    def _begin(self, start_ns: int, measure_ns: int) -> None:
        for link in list(self._links):
            self.ready(link, 0, _clock())
        self._replace_missing()

    def _idle(self) -> bool:
        return True

    def _finish(self) -> None:
        pass


class OpenEngine(Engine):
    """Sends when requests are due. `due_times` gives ascending nanoseconds after the start of the run, in chunks."""

    is_closed = False

    def __init__(self, due_times: Iterator[NDArray[np.int64]], queue_limit: int, **target: Any) -> None:
        super().__init__(**target)
        self._due_times = due_times
        self._queue_limit = queue_limit
        self._due = array("q")  # nanoseconds after the start
        self._next = 0
        self._last_due = 0
        self._awake = False
        self._load_ahead(_AHEAD)
        self._waiting: deque[int] = deque()
        self._free: deque[Link] = deque()  # a connection stands here once for each exchange it has room for
        self._timer = make_timer(self._loop, self._wake)
        self._start_ns = self._measure_ns = 0

    def ready(self, link: Link, count: int, now_ns: int) -> None:
        if not self._running:
            return
        waiting = self._waiting
        while count and waiting and link.room() > 0:
            link.send(1, waiting.popleft(), now_ns)
            count -= 1
        self._free.extend(repeat(link, count))

    def unprocessed(self, intended_ns: int, now_ns: int) -> None:
        if not self._place(intended_ns, now_ns):
            self._waiting.appendleft(intended_ns)

    def stop(self) -> None:
        super().stop()
        self._due_times = iter(())
        self._load_ahead(0)
        self._waiting.clear()

    def _begin(self, start_ns: int, measure_ns: int) -> None:
        self._start_ns, self._measure_ns = start_ns, measure_ns
        self._free.extend(link for _ in range(self._concurrency.in_flight) for link in self._links)
        self._replace_missing()
        self._wake()

    def _load_ahead(self, count: int) -> bool:
        """Replace the due times at hand, which are used up, by the next ones. False if there are none."""
        self._next = 0
        del self._due[:]
        for chunk in self._due_times:
            self._due.frombytes(chunk.tobytes())
            if len(self._due) >= count:
                break
        return bool(self._due)

    def _wake(self) -> None:
        """Take up what is due, then sleep until the next is."""
        now = _clock()
        for _ in range(_TAKE_AT_ONCE):
            if self._next == len(self._due) and not self._load_ahead(1):
                return
            due = self._start_ns + self._due[self._next]
            if due > now:
                now = _clock()
                if due > now:
                    break
            self._next += 1
            self._last_due = due
            self._take(due, now)
        if due - self._last_due > _SPARSE_NS and due - now > _LEAD_NS:
            self._timer.arm(due - _LEAD_NS)
            return
        self._timer.arm(due)
        if due - self._last_due > _SPARSE_NS and not self._awake:
            self._awake = True
            self._stay_awake()

    def _stay_awake(self) -> None:
        """Let the loop go round without sleeping until the next request is due, and read what comes meanwhile."""
        self._awake = self._next < len(self._due) and _clock() < self._start_ns + self._due[self._next]
        if self._awake:
            self._loop.call_soon(self._stay_awake)
        else:
            self._wake()

    def _take(self, due: int, now: int) -> None:
        if due >= self._measure_ns:
            self.recorder.lateness.append(now - due)
        if self._place(due, now):
            return
        if len(self._waiting) < self._queue_limit:
            self._waiting.append(due)
        else:
            self.recorder.drop(due)

    def _place(self, due: int, now: int) -> bool:
        """Send a request, if there is room for it."""
        free = self._free
        while free:
            link = free.popleft()
            if link.opened and link.room() > 0:
                link.send(1, due, now)
                return True
        return False

    def _idle(self) -> bool:
        return self._next == len(self._due) and not self._waiting

    def _finish(self) -> None:
        self._timer.close()
        for due in self._waiting:
            self.recorder.drop(due)


E = TypeVar("E", bound=Engine)


def closed_or_open(
    closed: Callable[..., E], opened: Callable[..., E], spec: LoadSpec, load: Load, target: dict[str, Any]
) -> E:
    """The engine that suits a load, made with the target; an open one also with this process's share of the due times,
    and of the queue."""
    if isinstance(load, Closed):
        return closed(**target)
    share = (spec.process, spec.processes)
    times = due_times(load, spec.warmup_ns, spec.duration_ns, spec.seed, share)
    if spec.since_ns:
        times = (chunk[chunk >= spec.since_ns] for chunk in times)
    return opened(**target, due_times=times, queue_limit=-(-spec.queue_limit // spec.processes))


def make_client(spec: LoadSpec) -> Callable[[], Client | Session]:
    """What makes a client that sends the spec's request over and over."""
    exchange = replace(spec.request.exchange(), scheme=spec.scheme)
    return partial(registry.load(spec.client), exchange, spec.called, spec.request.check_content)


def make_engine(spec: LoadSpec, load: Load, target: dict[str, Any]) -> Engine:
    """The engine of a load process; `target` is what every engine is given."""
    return closed_or_open(ClosedEngine, OpenEngine, spec, load, {**target, "make_client": make_client(spec)})
