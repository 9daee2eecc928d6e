"""Queues of requests that arrive independently of each other and wait in one line for c equal servers. Beside them,
what was measured shows where a service is no longer such a queue.

With exponential service times that is M/M/c (Kleinrock, "Queueing Systems", volume 1, 1975, section 3.5; A. K. Erlang,
1917, for the probability of waiting). With others (M/G/c; fixed ones: M/D/c) the mean wait is that of M/M/c times
(1 + v) / 2, where v is the variance of the service times over their squared mean. With one server that is exact
(Pollaczek and Khinchine); with more it is Allen's and Cunneen's approximation, for two servers of fixed service times
6 % too short at half their limit and 1 % at 90 % of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEAVES = 0.25
"""Reality has left the model where the mean latency is that far from it, relative to it."""
FIXED = 0.05
"""Service times that vary less count as fixed. What is seen at a tenth of the limit has waits of 0.04 in it."""
ALONE = 0.1
"""Up to that share of the limit hardly a request waits."""
_MOST_SERVERS = 10_000


@dataclass(frozen=True)
class Queue:
    """A queue that has the throughput and the unloaded latency of a service: `servers` is c, each takes `service_s` on
    average, and `besides_s` is what a request takes beside service. `variability` is the variance of the service times
    over their squared mean: 1 for exponential ones."""

    servers: int
    service_s: float
    besides_s: float
    variability: float = 1.0

    @property
    def name(self) -> str:
        """ "M/D/1"."""
        kind = "M" if self.variability == 1 else "D" if self.variability < FIXED else "G"
        return f"M/{kind}/{self.servers}"

    @property
    def formula(self) -> str:
        """Which one gives its mean wait."""
        if self.variability == 1:
            return "Erlang's C formula, exact"
        if self.servers == 1:
            return "the formula of Pollaczek and Khinchine, exact"
        return "the approximation of Allen and Cunneen"

    @property
    def limit_per_s(self) -> float:
        """The rate at which all servers are always busy."""
        return self.servers / self.service_s

    def latency_s(self, rate_per_s: float) -> float:
        """Mean latency at a rate below the limit; infinite from there on."""
        if rate_per_s >= self.limit_per_s:
            return float("inf")
        waits = erlang_c(self.servers, rate_per_s * self.service_s)
        wait_s = (1 + self.variability) / 2 * waits / (self.limit_per_s - rate_per_s)
        return self.besides_s + self.service_s + wait_s


@dataclass(frozen=True)
class Departure:
    """The lowest rate from which on measured mean latencies are all beyond LEAVES of the model, on the same side."""

    rate_per_s: float
    measured_s: float
    model_s: float


def erlang_c(servers: int, load: float) -> float:
    """The probability that a request has to wait, where `load` servers are busy on average (in erlangs, below
    `servers`). By the recursion of Erlang's B formula, which does not overflow."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def queue_like(unloaded_s: float, limit_per_s: float, variability: float = 1.0) -> Queue:
    """The queue with that latency of a request alone, that limit and such service times. How many servers it has is
    the whole number nearest to what the limit keeps busy (Little's law)."""
    servers = min(_MOST_SERVERS, max(1, round(unloaded_s * limit_per_s)))
    service_s = min(unloaded_s, servers / limit_per_s)
    return Queue(servers, servers / limit_per_s, max(0.0, unloaded_s - service_s), variability)


def departure(queue: Queue, measured: Sequence[tuple[float, float]]) -> Departure | None:
    """Where reality leaves the queue. `measured` are pairs of a rate and a mean latency in seconds; None if it does
    not below the limit."""
    left: Departure | None = None
    for rate, latency_s in sorted(measured, reverse=True):
        if rate >= queue.limit_per_s:
            continue
        model_s = queue.latency_s(rate)
        beyond = abs(latency_s / model_s - 1) > LEAVES
        same_side = left is None or (latency_s > model_s) == (left.measured_s > left.model_s)
        if not (beyond and same_side):
            break
        left = Departure(rate, latency_s, model_s)
    return left
