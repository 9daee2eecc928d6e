"""What each kind of doubt means, in plain words, and how often it was raised."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.load_results import Trial


@dataclass(frozen=True)
class Meaning:
    """`short` names the doubt in a sentence; `words` says what it does to the figures and what to do."""

    short: str
    words: str


MEANINGS = {
    "generator-saturated": Meaning(
        "the load generator was at its limit or the offered rate was not reached",
        "The load generator used over 85 % of a core, or less than 99 % of the offered rate was answered. The "
        "figures may be the generator's own, and latency may be that of a growing backlog. The true throughput of "
        "the server can be higher. Use more load processes, cores of their own for them, or a lower rate.",
    ),
    "no-ports": Meaning(
        "the load's machine ran out of ports",
        "Every connection has a port of its own on the machine that opens it, and keeps it for a minute after it was "
        "closed (TIME_WAIT), so a server that closes connections uses them up. Use fewer new connections, a wider "
        "net.ipv4.ip_local_port_range, or several machines; see also the limit of open files (ulimit -n).",
    ),
    "pacing-late": Meaning(
        "requests were sent late",
        "Requests left the generator noticeably after they were due. Latency counts from when they were due, so part "
        "of it is the generator's. Use a lower rate or a quieter machine.",
    ),
    "little-law-violated": Meaning(
        "the figures contradict each other",
        "Requests in flight, throughput and mean latency do not fit together (Little's law says that the first is the "
        "product of the others), so at least one of them is wrong.",
    ),
    "not-steady": Meaning(
        "the figures drifted during the trial",
        "Throughput changed between the start and the end of the measured phase: the trial shows a passage, not a "
        "steady state. Use a longer warm-up or a longer trial.",
    ),
    "too-few-samples": Meaning(
        "there are too few requests for the high percentiles",
        "The trial holds too few requests for its highest percentiles to mean much. Measure for longer, or at a "
        "higher rate.",
    ),
    "noisy-host": Meaning(
        "the machine was busy with something else",
        "Other work took CPU time during the trial (stolen time or a long run queue). Stop it, or take more rounds.",
    ),
    "errors": Meaning(
        "requests failed",
        "Some requests failed. Failed requests are in no latency figure, so a server that fails can look fast.",
    ),
    "server-restarted": Meaning(
        "a worker of the server died",
        "A worker ended by itself during the trial; the figures hold the time without it and its return.",
    ),
    "link-late": Meaning(
        "the link was late with its packets",
        "What carries packets over the link had more to do than it could, so packets were later than the link's delay "
        "or got lost where the link loses none. Use a lighter load, or a machine with more cores.",
    ),
    "worker-lost": Meaning(
        "a worker of the load was lost or did not come",
        "The load was offered by several workers, and not by all of them all the time. What a lost one had reported "
        "counts, what it had not is counted as dropped, and until others took up its part less was offered. Run it "
        "again, with workers that stay.",
    ),
    "worker-late": Meaning(
        "a worker began its load after the others",
        "A worker heard of the start when it had passed already, so the load began with less than was asked for. Look "
        "at what keeps that machine or the network to it busy.",
    ),
    "clocks-apart": Meaning(
        "the clocks of two machines are not known well enough",
        "Delays from one machine to another are told by both their clocks, whose distance is measured over the network "
        "and known to half a round trip. Here that is much of the delay itself. Use machines that are nearer to each "
        "other, or one for both ends.",
    ),
    "stopped-early": Meaning(
        "the run was stopped before its time",
        "Somebody, or a policy, ended the load early. The figures hold what was done until then.",
    ),
    "unmatched-stacks": Meaning(
        "they differ in more than one of protocol, stack and TLS",
        "Scenarios side by side here differ in more than one of protocol, stack (whose code speaks it) and TLS. Nobody "
        "can tell which of these makes the difference between them.",
    ),
}
"""By kind, in the words of result files."""


@dataclass(frozen=True)
class Tally:
    """One kind of doubt among the trials of a scenario. `details` are the distinct sentences of the trials."""

    kind: str
    fatal: bool
    rounds: tuple[int, ...]
    of: int
    details: tuple[str, ...]

    @property
    def words(self) -> str:
        """ "the load generator was at its limit in 3 of 5 rounds"."""
        return f"{MEANINGS[self.kind].short} in {len(self.rounds)} of {self.of} round{'s' if self.of != 1 else ''}"


def tally(trials: Sequence[Trial]) -> tuple[Tally, ...]:
    """The doubts of a scenario's trials by kind, the fatal ones first."""
    raised = {(doubt.kind, doubt.fatal) for trial in trials for doubt in trial.doubts}
    return tuple(
        Tally(
            kind,
            fatal,
            tuple(trial.round for trial in trials if _has(trial, kind, fatal)),
            len(trials),
            tuple(_distinct(d.detail for t in trials for d in t.doubts if (d.kind, d.fatal) == (kind, fatal))),
        )
        for kind, fatal in sorted(raised, key=lambda item: (not item[1], list(MEANINGS).index(item[0])))
    )


def _has(trial: Trial, kind: str, fatal: bool) -> bool:
    return any((doubt.kind, doubt.fatal) == (kind, fatal) for doubt in trial.doubts)


def _distinct(details: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(details))
