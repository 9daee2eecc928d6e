"""Mixes: the exchanges of a load are requests of several names, drawn by weight, and recorded by name too.

An exchange's id says its name: `id % names` is the number of its request. So the hot path keeps nothing more for each
exchange than one number.
"""

import itertools
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bench import registry
from bench.contract import Exchange
from bench.errors import TargetError
from bench.load.client import Client, Session
from bench.load.engine import ClosedEngine, Engine, OpenEngine, closed_or_open
from bench.load.histogram import Histogram
from bench.load.link import Link
from bench.load.recorder import Recorder
from bench.load.spec import LoadSpec
from bench.mix import Checks, Mix, NamedRequest, decode_mix
from bench.schedule import Load

FIRST_TRIES = 3
"""How often a request may be answered wrongly before the load, for a service that fails now and then."""

_DRAWN_AT_ONCE = 4096

Form = TypeVar("Form")
"""What a client makes of a request beforehand."""


class MixedClient(Client, Protocol):
    """A client whose exchanges are those of a mix; ids are whole numbers."""

    complaints: dict[Hashable, str]
    """Why exchanges among `failures` have failed, as far as there is more to say than their kind. The link takes it."""

    def __init__(self, asks: "Asks[Any]", authority: str) -> None: ...

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> Any:
        """What the client needs of a request when it sends it: done once for each exchange, before the load. `varies`
        if the request has others beside it that differ in their data."""


class Asks(Generic[Form]):
    """What is to be sent next, for all connections of a load process: (number of the request, what `encode` made)."""

    def __init__(self, mix: Mix, forms: Sequence[Sequence[Form]], seed: int, process: int) -> None:
        """Processes draw differently, and begin at different rows."""
        self.checks: list[Checks] = [request.checks for request in mix]
        self.bodiless: list[bool] = [request.exchanges[0].method == "HEAD" for request in mix]
        """Whether answers to a request have no body."""
        self.any_form: Form = forms[0][0]
        """One of the requests, for what all of them share."""
        self.first: deque[int] = deque()
        """The numbers of requests that come before any that is drawn."""
        draw = random.Random(f"{seed} {process}")
        self._numbers = _numbers(mix, draw)
        self._forms = [_rows(request, rows, draw, process) for request, rows in zip(mix, forms, strict=True)]

    def __len__(self) -> int:
        """How many requests the mix has."""
        return len(self.checks)

    def __next__(self) -> tuple[int, Form]:
        number = self.first.popleft() if self.first else next(self._numbers)
        return number, next(self._forms[number])


def _numbers(mix: Mix, draw: random.Random) -> Iterator[int]:
    if len(mix) == 1:
        return itertools.repeat(0)
    drawn = iter(
        partial(
            draw.choices,
            range(len(mix)),
            cum_weights=list(itertools.accumulate(r.weight for r in mix)),
            k=_DRAWN_AT_ONCE,
        ),
        [],
    )
    return itertools.chain.from_iterable(drawn)


def _rows(request: NamedRequest, forms: Sequence[Form], draw: random.Random, process: int) -> Iterator[Form]:
    if len(forms) == 1:
        return itertools.repeat(forms[0])
    if request.order == "random":
        return iter(partial(draw.choice, forms), None)  # no form is None
    begin = process * 7919 % len(forms)
    return itertools.cycle([*forms[begin:], *forms[:begin]])


class MixRecorder(Recorder):
    """Records by name beside those of all."""

    def __init__(self, is_open: bool, names: Sequence[str]) -> None:
        super().__init__(is_open)
        self.numbers = array("H")
        """The number of the request of each record."""
        self._names = names
        self._by_name = [Histogram() for _ in names]
        self._errors_by_name: list[Counter[str]] = [Counter() for _ in names]
        self.complaints: dict[int, str] = {}
        """Why an answer to a request was wrong, by its number: the first such of the measured window, or before it the
        latest."""

    def set_window(self, start_ns: int, end_ns: int, intervals: int) -> None:
        super().set_window(start_ns, end_ns, intervals)
        del self.numbers[:]
        self.complaints.clear()

    def failed(self, number: int, kind: str, complaint: str | None, intended_ns: int) -> None:
        """An exchange of a request has failed; `error` is told too."""
        if self._start_ns <= intended_ns < self._end_ns:
            self._errors_by_name[number][kind] += 1
            if complaint is not None:
                self.complaints.setdefault(number, complaint)
        elif complaint is not None and not self._intervals:
            self.complaints[number] = complaint

    def digest(self) -> None:
        numbers, done, intended = (np.array(a, np.int64) for a in (self.numbers, self.done, self.intended))
        del self.numbers[:]
        super().digest()
        measured = (intended >= self._start_ns) & (intended < self._end_ns)
        latency = done - intended
        for number, histogram in enumerate(self._by_name):
            histogram.record(latency[measured & (numbers == number)])

    def result(self) -> dict[str, Any]:
        of_all = super().result()
        return {
            **of_all,
            "requests": {
                name: {
                    "completed": int(self._by_name[number].counts.sum()),
                    "errors": dict(self._errors_by_name[number]),
                    "complaint": self.complaints.get(number),
                    "latency": self._by_name[number].encode(),
                }
                for number, name in enumerate(self._names)
            },
        }


class MixLink(Link):
    """A connection that carries a mix."""

    def __init__(self, engine: "_MixEngine", client: Any, in_flight: int) -> None:
        super().__init__(engine, client, in_flight)
        self._names = len(engine.names)
        self._recorder = engine.recorder
        self._record_number = engine.recorder.numbers.append

    def _complete(self, ids: Sequence[Any], now: int) -> None:
        for exchange_id in ids:
            self._record_number(exchange_id % self._names)
        super()._complete(ids, now)

    def _forget(self, exchange_id: Any, kind: str, now: int) -> None:
        intended_ns = self.intended.get(exchange_id)
        if intended_ns is not None:
            complaint = self.client.complaints.pop(exchange_id, None)
            self._recorder.failed(exchange_id % self._names, kind, complaint, intended_ns)
        super()._forget(exchange_id, kind, now)


class _MixEngine(Engine):
    """What closed and open loads have in common."""

    recorder: MixRecorder

    def __init__(self, names: Sequence[str], asks: Asks[Any], **options: Any) -> None:
        super().__init__(**options)
        self.names = names
        self._asks = asks
        self.recorder = MixRecorder(not self.is_closed, names)

    def _make_link(self) -> Link:
        return MixLink(self, self._make_client(), self._concurrency.in_flight)

    async def _check(self, link: Link) -> None:
        """One right answer to each request before any load."""
        for number, name in enumerate(self.names):
            for tries_left in reversed(range(FIRST_TRIES)):
                if not link.opened or link.client.closing:
                    link = await self._open()
                self._asks.first.append(number)
                self.recorder.last_error = None
                try:
                    await super()._check(link)
                except TargetError as error:
                    if unanswered := bool(link.sent):
                        link.expire(now := time.monotonic_ns(), now)  # the client may know more
                    if unanswered or not tries_left:
                        complaint = self.recorder.complaints.get(number)
                        host, port = self._address
                        why = f"{host} port {port} answered with {complaint}" if complaint else str(error)
                        raise TargetError(f"request {name!r}: {why}") from None
                else:
                    break
        if not link.opened or link.client.closing:
            await self._open()


class _ClosedMix(_MixEngine, ClosedEngine):
    """Keeps every connection full."""


class _OpenMix(_MixEngine, OpenEngine):
    """Sends when requests are due."""


def make_engine(spec: LoadSpec, load: Load, target: dict[str, Any]) -> Engine:
    """The engine of a load process; `target` is what every engine is given."""
    mix = decode_mix(spec.mix)
    kind: Any = registry.load(spec.client)
    forms = [
        [
            kind.encode(replace(exchange, scheme=spec.scheme), spec.called, len(request.exchanges) > 1)
            for exchange in request.exchanges
        ]
        for request in mix
    ]
    asks: Asks[Any] = Asks(mix, forms, spec.seed, spec.process)
    make_client: Callable[[], Client | Session] = partial(kind, asks, spec.called)
    names = [request.name for request in mix]
    return closed_or_open(
        _ClosedMix, _OpenMix, spec, load, {**target, "make_client": make_client, "names": names, "asks": asks}
    )
