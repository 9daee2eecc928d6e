"""The trials of a run, put together by scenario and by group of the suite."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from analysis import doubts, stats
from analysis.labels import CONTESTANT_FIELDS, FIELDS, label, varying
from analysis.load_results import Run, Scenario, Trial, Unsupported
from analysis.matching import all_but, are_matched, show_conditions, show_tls, varying_matters
from analysis.metrics import OFFERED, Metric
from analysis.stats import Estimate

# The order in which readers meet names; those that are not listed follow in alphabetical order.
_KNOWN = {
    "protocol": (
        "http1",
        "http2",
        "http2-upgrade",
        "http3",
        "grpc",
        "websocket",
        "sse",
        "sse-http2",
        "sse-http3",
        "tcp",
        "udp",
        "webrtc",
        "webrtc-unreliable",
    ),
    "tier": ("lean", "library"),
    "stack": ("lean",),
    "tls": ("off", "1.2", "1.3", "dtls1.2"),
    "execution": (
        "single",
        "threads",
        "dispatch",
        "accept-threads",
        "thread-per-connection",
        "prefork",
        "process-per-connection",
        "reuseport",
        "reuseport-threads",
    ),
}


@dataclass(frozen=True)
class Summary:
    """A scenario and its trials, in the order of their rounds."""

    scenario: Scenario
    trials: tuple[Trial, ...]

    def by_round(self, metric: Metric) -> dict[int, float]:
        """A figure of each trial that has it. Trials in doubt are among them, so that nothing is hidden; see
        `fatal`."""
        values = ((trial.round, metric.of(trial)) for trial in self.trials)
        return {number: value for number, value in values if value is not None}

    def valid_by_round(self, metric: Metric) -> dict[int, float]:
        """The same without trials that no verdict may rest on."""
        valid = {trial.round for trial in self.trials if trial.valid}
        return {number: value for number, value in self.by_round(metric).items() if number in valid}

    def estimate(self, metric: Metric) -> Estimate | None:
        """The median over the trials with its interval; None if no trial has the figure."""
        if metric.name not in self._estimates:
            self._estimates[metric.name] = stats.estimate(list(self.by_round(metric).values()))
        return self._estimates[metric.name]

    @cached_property
    def _estimates(self) -> dict[str, Estimate | None]:
        return {}

    @cached_property
    def doubts(self) -> tuple[doubts.Tally, ...]:
        """The doubts of its trials by kind, the fatal ones first."""
        return doubts.tally(self.trials)

    @property
    def fatal(self) -> bool:
        """Whether no verdict may rest on it."""
        return any(tally.fatal for tally in self.doubts)

    def doubtful_rounds(self, despite: Sequence[str] = ()) -> frozenset[int]:
        """The rounds whose trial is in serious doubt, of another kind than those."""
        return frozenset(
            trial.round
            for trial in self.trials
            if any(doubt.fatal and doubt.kind not in despite for doubt in trial.doubts)
        )

    @property
    def why_no_verdict(self) -> str | None:
        """Why no verdict may rest on it; None if one may."""
        reasons = [tally.words for tally in self.doubts if tally.fatal]
        return f"{self.scenario.name}: {' and '.join(reasons)}" if reasons else None

    @property
    def failures(self) -> tuple[Trial, ...]:
        """The trials that gave no figures."""
        return tuple(trial for trial in self.trials if trial.error is not None)


@dataclass(frozen=True)
class Part:
    """Scenarios that may be compared with one another; `words` says what sets them apart from the other parts of a
    group, and is empty where there are none."""

    words: str
    summaries: tuple[Summary, ...]


@dataclass(frozen=True)
class Group:
    """The scenarios that a suite puts side by side to answer one question."""

    name: str
    summaries: tuple[Summary, ...]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Its scenarios by what has to be the same to compare them: one part, if all of them may be compared. Each
        holds different protocols if there are any, else different stacks."""
        scenarios = [summary.scenario for summary in self.summaries]
        if are_matched(scenarios):
            return (Part("", self.summaries),)
        matter, *_ = varying_matters(scenarios)
        return tuple(
            Part(_shared_words(matter, [member.scenario for member in members], scenarios), members)
            for members in _by(self.summaries, partial(_all_but, matter))
        )

    def part(self, summary: Summary) -> str:
        """The words of the part that a scenario is in."""
        return next(part.words for part in self.parts if summary in part.summaries)

    @property
    def is_push(self) -> bool:
        """Whether what counts here is deliveries of events, and not answers to requests."""
        return all(summary.scenario.is_push for summary in self.summaries)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What differs between its scenarios."""
        return varying(summary.scenario for summary in self.summaries)

    def label(self, summary: Summary) -> str:
        """What a scenario is called inside this group."""
        return label(summary.scenario, self.fields)

    @cached_property
    def contests(self) -> tuple["Contest", ...]:
        """The scenarios that were asked to do the same, side by side, as far as they may be compared."""
        fields = [field for field in FIELDS if field not in CONTESTANT_FIELDS]
        apart = [field for field in self.fields if field not in CONTESTANT_FIELDS]
        made = []
        for members in _by(self.summaries, lambda s: (s.scenario.is_push, *(getattr(s.scenario, f) for f in fields))):
            work = label(members[0].scenario, apart) if apart else ""
            for words, comparable in _comparable(members):
                if len(comparable) > 1:
                    made.append(Contest(", ".join(filter(None, (work, words))), comparable))
        return tuple(made)

    @cached_property
    def ladders(self) -> tuple["Ladder", ...]:
        """The scenarios that differ in nothing but the rate of an open load, lowest rate first."""
        rungs: dict[tuple[object, ...], list[Summary]] = {}
        fields = [field for field in FIELDS if field != "load"]
        for summary in self.summaries:
            if summary.scenario.load_kind in ("open", "poisson") and summary.estimate(OFFERED) is not None:
                key = (summary.scenario.load_kind, *(getattr(summary.scenario, field) for field in fields))
                rungs.setdefault(key, []).append(summary)
        ladders = [sorted(members, key=offered_per_s) for members in rungs.values() if len(members) > 1]
        apart = varying((members[0].scenario for members in ladders), [f for f in FIELDS if f != "load"])
        return tuple(
            Ladder(label(m[0].scenario, apart) if apart else m[0].scenario.protocol, tuple(m)) for m in ladders
        )


def _comparable(members: Sequence[Summary]) -> Iterator[tuple[str, tuple[Summary, ...]]]:
    """The sets of these that may be compared, each with what it is called: all of them if they are matched, else those
    that differ in one matter alone."""
    scenarios = [member.scenario for member in members]
    if are_matched(scenarios):
        yield "", tuple(members)
        return
    for matter in varying_matters(scenarios):
        for alike in _by(members, partial(_all_but, matter)):
            if matter in varying_matters(member.scenario for member in alike):
                yield _shared_words(matter, [member.scenario for member in alike], scenarios), alike


def _all_but(matter: str, summary: Summary) -> object:
    return all_but(matter, summary.scenario)


def _shared_words(matter: str, alike: Sequence[Scenario], among: Sequence[Scenario]) -> str:
    """What scenarios share that differ in one matter, as far as others differ in it too."""
    if matter == "protocol":
        return show_conditions(alike[0])
    fields = [other for other in varying_matters(among) if other != matter]
    return show_tls(alike[0].tls) if fields == ["tls"] else label(alike[0], fields)


def _by(members: Iterable[Summary], key: Callable[[Summary], object]) -> Iterable[tuple[Summary, ...]]:
    """Summaries with the same key together, in the order in which the keys come."""
    found: dict[object, list[Summary]] = {}
    for member in members:
        found.setdefault(key(member), []).append(member)
    return map(tuple, found.values())


@dataclass(frozen=True)
class Contest:
    """Scenarios of a group that did the same work; `work` says which, if the group holds several."""

    work: str
    members: tuple[Summary, ...]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return varying((member.scenario for member in self.members), CONTESTANT_FIELDS)

    def label(self, member: Summary) -> str:
        """What a contestant is called beside the others."""
        return label(member.scenario, self.fields)


@dataclass(frozen=True)
class Ladder:
    """One thing under test at several offered rates."""

    label: str
    rungs: tuple[Summary, ...]


def offered_per_s(summary: Summary) -> float:
    """The rate that was offered, the median over the trials; 0 for a closed load, which offers none."""
    offered = summary.estimate(OFFERED)
    return 0.0 if offered is None else offered.value


def summaries(run: Run) -> tuple[Summary, ...]:
    """The scenarios of a run that have trials, in an order that does not depend on how rounds were shuffled."""
    trials: dict[Scenario, list[Trial]] = {}
    for trial in run.trials:
        trials.setdefault(trial.scenario, []).append(trial)
    made = [
        Summary(scenario, tuple(sorted(members, key=lambda trial: trial.round))) for scenario, members in trials.items()
    ]
    return tuple(sorted(made, key=_order))


def groups(run: Run) -> tuple[Group, ...]:
    """The groups of a run: pushed events last, closed loads before open ones, one execution model before several, echo
    before the other operations, the few-sided before the many-sided."""
    made = [
        _parts_together(Group(members[0].scenario.group, members))
        for members in _by(summaries(run), lambda summary: summary.scenario.group)
    ]
    return tuple(sorted(made, key=_group_order))


def _parts_together(group: Group) -> Group:
    if len(group.parts) == 1:
        return group
    ordered = Group(group.name, tuple(sorted(group.summaries, key=lambda s: _conditions_order(s.scenario))))
    return Group(group.name, tuple(summary for part in ordered.parts for summary in part.summaries))


def _conditions_order(scenario: Scenario) -> tuple[object, ...]:
    fields = ("tier", "stack", "tls")
    return (*(_rank(field, getattr(scenario, field)) for field in fields), scenario.client)


def unsupported(run: Run) -> tuple[Unsupported, ...]:
    """What could not be run, in the order of scenarios."""
    return tuple(sorted(run.unsupported, key=lambda item: (item.scenario.group, *_scenario_order(item.scenario))))


def _order(summary: Summary) -> tuple[object, ...]:
    return (*_scenario_order(summary.scenario)[:-1], offered_per_s(summary), _natural(summary.scenario.name))


def _scenario_order(scenario: Scenario) -> tuple[object, ...]:
    return (
        _rank("protocol", scenario.protocol),
        _conditions_order(scenario),
        scenario.operation,
        scenario.payload_bytes,
        _rank("execution", scenario.execution),
        scenario.workers,
        scenario.load_kind,
        _natural(scenario.name),
    )


def _natural(text: str) -> tuple[tuple[str, int], ...]:
    """Sorts "closed:8" before "closed:64"."""
    return tuple((word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d{0,18})", text))


def _rank(field: str, name: str) -> tuple[int, str]:
    known = _KNOWN[field]
    return (known.index(name), name) if name in known else (len(known), name)


def _group_order(group: Group) -> tuple[object, ...]:
    scenarios: Sequence[Scenario] = [summary.scenario for summary in group.summaries]
    return (
        group.is_push,
        not all(scenario.is_closed for scenario in scenarios),
        len({scenario.execution for scenario in scenarios}) > 1,
        {scenario.operation for scenario in scenarios} != {"echo"},
        len(group.fields),
        group.name,
    )
