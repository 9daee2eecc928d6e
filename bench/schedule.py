"""Load models: how many requests are in flight (closed), or when each one is due (open). No clock and no I/O here.

An open load is a rate over time and a way of arriving. Arrivals are a point process of rate one (0, 1, 2 … for constant
arrivals, sums of unit exponentials for Poisson ones), and the inverse of the cumulative rate turns each point into its
due time. So every due time is a closed form of the start, never the one before plus a step: nothing drifts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.quantities import (
    MAX_RATE_PER_S,
    parse_duration_ns,
    parse_rate_per_s,
    parse_whole,
    spell_duration,
    spell_rate,
)

MAX_CONNECTIONS = 20_000
MAX_IN_FLIGHT = 65_536
_CHUNK = 1024

FORMS = (
    "closed:64, closed:8x16, open:5000/s, poisson:5000/s, burst:10/1s, ramp:100-5000/s@60s or "
    "stages:1000/s@10s,5000/s@30s"
)
MAX_BURST = 100_000


@dataclass(frozen=True)
class Concurrency:
    """So many connections, with so many exchanges in flight on each."""

    connections: int
    in_flight: int = 1

    def __str__(self) -> str:
        return f"{self.connections}x{self.in_flight}" if self.in_flight > 1 else str(self.connections)

    @property
    def total(self) -> int:
        return self.connections * self.in_flight

    def share(self, index: int, of: int) -> "Concurrency":
        """The part of the connections that process `index` of `of` opens."""
        return Concurrency(self.connections // of + (index < self.connections % of), self.in_flight)


@dataclass(frozen=True)
class Closed:
    """A fixed number of requests in flight: the next one is sent when one is answered."""

    concurrency: Concurrency

    def __str__(self) -> str:
        return f"closed:{self.concurrency}"


@dataclass(frozen=True)
class Stage:
    """A rate that goes linearly from one value to another. `duration_ns` is None for as long as the scenario lasts."""

    from_per_s: float
    to_per_s: float
    duration_ns: int | None

    def __str__(self) -> str:
        return f"{spell_rate(self.to_per_s)}@{spell_duration(self.duration_ns or 0)}"


@dataclass(frozen=True)
class Open:
    """Requests that are due at given times, answered or not."""

    stages: tuple[Stage, ...]
    arrivals: Literal["constant", "poisson"]
    burst: int = 1
    """How many are due at once; the rate counts each of them."""

    def __str__(self) -> str:
        first = self.stages[0]
        if self.burst > 1:
            return f"burst:{self.burst}/{spell_duration(round(self.burst / first.from_per_s * 1e9))}"
        if first.duration_ns is None:
            return f"{'open' if self.arrivals == 'constant' else 'poisson'}:{spell_rate(first.from_per_s)}"
        if first.from_per_s != first.to_per_s:
            return f"ramp:{first.from_per_s:.12g}-{first}"
        return "stages:" + ",".join(str(stage) for stage in self.stages)

    @property
    def duration_ns(self) -> int | None:
        """How long the stages last together; None if the scenario says it."""
        durations = [stage.duration_ns for stage in self.stages]
        return sum(d for d in durations if d is not None) if None not in durations else None


Load = Closed | Open


def parse_concurrency(text: str, where: str) -> Concurrency:
    """Reads "64" or "8x16"."""
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text.strip())
    if match is None:
        raise UsageError(
            f"{where}: {text!r} is not a number of connections; write 64, or 8x16 for 16 in flight on each of 8"
        )
    concurrency = Concurrency(int(match[1]), int(match[2] or 1))
    if not (1 <= concurrency.connections <= MAX_CONNECTIONS and 1 <= concurrency.in_flight <= MAX_IN_FLIGHT):
        raise UsageError(
            f"{where}: {text!r} is out of range; allowed are 1 to {MAX_CONNECTIONS} connections "
            f"and 1 to {MAX_IN_FLIGHT} in flight"
        )
    return concurrency


def parse_load(text: str, where: str) -> Load:
    """Reads a load as users spell it (see FORMS)."""
    kind, colon, rest = text.strip().partition(":")
    match kind if colon else "":
        case "closed":
            return Closed(parse_concurrency(rest, where))
        case "open" | "poisson":
            rate = parse_rate_per_s(rest, where)
            return Open((Stage(rate, rate, None),), "constant" if kind == "open" else "poisson")
        case "burst":
            size, slash, period = rest.partition("/")
            if slash:
                burst = parse_whole(size, 2, MAX_BURST, where)
                rate = burst / (_stage_duration(period, where) / 1e9)
                if rate > MAX_RATE_PER_S:
                    raise UsageError(f"{where}: {text!r} is more than {MAX_RATE_PER_S:.0f}/s")
                return Open((Stage(rate, rate, None),), "constant", burst)
        case "ramp":
            rates, at, duration = rest.partition("@")
            low, dash, high = rates.partition("-")
            if at and dash:
                unit = high.partition("/")[2]
                ramp = Stage(
                    parse_rate_per_s(low if "/" in low else f"{low}/{unit}", where),
                    parse_rate_per_s(high, where),
                    _stage_duration(duration, where),
                )
                return Open((ramp,), "constant")
        case "stages":
            stages = []
            for part in rest.split(","):
                spelled, at, duration = part.partition("@")
                if not at:
                    break
                rate = parse_rate_per_s(spelled, where)
                stages.append(Stage(rate, rate, _stage_duration(duration, where)))
            else:
                return Open(tuple(stages), "constant")
    raise UsageError(f"{where}: {text!r} is not a load; write one like {FORMS}")


def _stage_duration(text: str, where: str) -> int:
    duration_ns = parse_duration_ns(text, where)
    if duration_ns == 0:
        raise UsageError(f"{where}: a stage must last longer than {text!r}")
    return duration_ns


def due_times(
    load: Open, warmup_ns: int, duration_ns: int, seed: int, share: tuple[int, int] = (0, 1)
) -> Iterator[NDArray[np.int64]]:
    """Due times in nanoseconds after the start of the warm-up, ascending, in chunks.

    The warm-up runs at the rate that the load begins with. `share` = (index, of) gives every `of`-th due time, from the
    `index`-th on: the shares of all processes together are the schedule, whatever their number.
    """
    warmup = Stage(load.stages[0].from_per_s, load.stages[0].from_per_s, warmup_ns)
    stages = [warmup, *load.stages]
    lengths_s = np.array([(duration_ns if s.duration_ns is None else s.duration_ns) / 1e9 for s in stages])
    begin_s = np.concatenate([[0.0], np.cumsum(lengths_s)])
    arrivals = np.array([(s.from_per_s + s.to_per_s) / 2 for s in stages]) * lengths_s
    begin_count = np.concatenate([[0.0], np.cumsum(arrivals)])
    rate = np.array([s.from_per_s for s in stages])
    slope = np.array([s.to_per_s - s.from_per_s for s in stages]) / np.where(lengths_s > 0, lengths_s, 1.0)
    index, of = share
    for chunk in _unit_arrivals(load, seed):
        points = chunk[(chunk[:, 0] % of) == index, 1]
        points = points[points < begin_count[-1]]
        stage = np.searchsorted(begin_count, points, side="right") - 1
        x, r, a = points - begin_count[stage], rate[stage], slope[stage]
        # Solve r·t + a·t²/2 = x for t in the form that stays exact as a goes to 0.
        t_s = begin_s[stage] + 2 * x / (r + np.sqrt(np.maximum(r * r + 2 * a * x, 0.0)))
        yield np.rint(t_s * 1e9).astype(np.int64)
        if chunk[-1, 1] >= begin_count[-1]:
            return


def _unit_arrivals(load: Open, seed: int) -> Iterator[NDArray[np.float64]]:
    """Rows of (number, point) of a process of rate one, without end."""
    generator = np.random.default_rng(seed)
    first, last_point = 0, 0.0
    while True:
        numbers = np.arange(first, first + _CHUNK, dtype=np.float64)
        if load.arrivals == "constant":
            points = numbers // load.burst * load.burst
        else:
            points = last_point + np.cumsum(generator.exponential(size=_CHUNK))
            last_point = float(points[-1])
        yield np.column_stack([numbers, points])
        first += _CHUNK
