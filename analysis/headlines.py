"""The answers of a run in sentences, none of which says more than its intervals support."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from analysis.compare import MARGIN, Comparison, Outcome, adjust, compare_summaries
from analysis.doubts import MEANINGS
from analysis.metrics import ACHIEVED, P99, SERVER_CPU, THROUGHPUT, Metric
from analysis.stats import MIN_TRIALS, Estimate
from analysis.summary import Contest, Group, Ladder, Summary, offered_per_s

KEPT_UP = 0.99
"""The answered share of an offered rate from which on the rate counts as kept."""

_NAMED = 3
"""So many that are level with the leader are named; of more only the number is."""


@dataclass(frozen=True)
class _Question:
    """How the answer to "which is best by this figure" is worded."""

    metric: Metric
    best: str
    value: str
    next: str
    last: str


_THROUGHPUT = _Question(
    THROUGHPUT, "answered the most requests", "{}", "{ratio} as many as {label}", "{ratio} as many as {label}, the last"
)
_CPU = _Question(
    SERVER_CPU,
    "used the least server CPU",
    "{} for a request",
    "{label} used {ratio} as much",
    "{label}, the last, {ratio} as much",
)
_P99 = _Question(
    P99, "had the lowest p99 latency", "{}", "that of {label} was {ratio} as high", "that of {label}, the last, {ratio}"
)
_DELIVERY_CPU = replace(_CPU, best="used the least server CPU for a delivery", value="{}")
_DELIVERY_P99 = replace(_P99, best="had the lowest p99 from publishing to delivery")


@dataclass(frozen=True)
class Headline:
    """A sentence or two about one comparison. `major` ones stand at the top of a report."""

    text: str
    major: bool


def headlines(group: Group) -> list[Headline]:
    """Who is best in a group of scenarios, by how much, and what cannot be told."""
    said: list[tuple[str | None, bool]] = []
    kept = _kept_by_all(group)
    for contest in group.contests:
        scenario = contest.members[0].scenario
        if scenario.is_push:
            said += [(_answer(contest, _DELIVERY_P99), True), (_answer(contest, _DELIVERY_CPU), False)]
        elif scenario.is_closed:
            said += [(_answer(contest, _THROUGHPUT), True), (_answer(contest, _CPU), False)]
        elif scenario.load in kept:
            said.append((_answer(contest, _P99), True))
    said += [(_ladder(ladder), True) for ladder in group.ladders]
    return [Headline(text, major) for text, major in said if text]


def show_estimate(estimate: Estimate | None, show: Callable[[float], str], interval: bool = True) -> str:
    """ "1.23 ms (1.20–1.30 ms)": the median and its interval; "not measured" of nothing."""
    if estimate is None:
        return "not measured"
    if not interval or estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show_interval(estimate, show)})"


def show_interval(estimate: Estimate, show: Callable[[float], str]) -> str:
    """ "1.20–1.30 ms": the unit is said once where both ends share it."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.n} round{'s' if estimate.n != 1 else ''}, no interval"
    low, high = show(estimate.low), show(estimate.high)
    if low == high:
        return low
    number, _, unit = low.rpartition(" ")
    if number and high.endswith(f" {unit}"):
        low = number
    elif low.endswith("/s") and high.endswith("/s"):
        low = low.removesuffix("/s")
    return f"{low}–{high}"


def show_ratio(ratio: Estimate | None) -> str:
    """ "1.94 times (1.88–2.01)"."""
    if ratio is None:
        return "an unknown multiple of"
    interval = (
        "" if ratio.low is None or ratio.high is None else f" ({_multiple_of(ratio.low)}–{_multiple_of(ratio.high)})"
    )
    return f"{_multiple_of(ratio.value)} times{interval}"


def _multiple_of(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"


def enumerate_words(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def _answer(contest: Contest, question: _Question) -> str | None:
    """One paragraph: the leader, those that cannot be told from it, the next, the last, and those without a verdict."""
    metric = question.metric
    measured = [member for member in contest.members if member.estimate(metric) is not None]
    sound = [member for member in measured if not member.fatal]
    parts = [_about_sound(contest, question, sound)] if len(sound) > 1 else []
    if question.metric is not SERVER_CPU:  # said once, with what stands before it
        parts += _no_verdicts(contest, [member for member in measured if member.fatal])
    if not parts:
        return None
    return (f"{contest.work}: " if contest.work else "") + " ".join(parts)


def _no_verdicts(contest: Contest, members: Sequence[Summary]) -> list[str]:
    """A sentence for each set of reasons that keep members of a contest from a verdict."""
    by_reason: dict[tuple[str, ...], list[Summary]] = {}
    for member in members:
        by_reason.setdefault(tuple(tally.kind for tally in member.doubts if tally.fatal), []).append(member)
    return [
        f"No verdict on {enumerate_words([contest.label(member) for member in alike])}: {_reasons(alike)}."
        for alike in by_reason.values()
    ]


def _reasons(alike: Sequence[Summary]) -> str:
    """Why summaries with the same kinds of fatal doubts give no verdict."""
    fatal = [tally for tally in alike[0].doubts if tally.fatal]
    if len(alike) == 1:
        return enumerate_words([tally.words for tally in fatal])
    return enumerate_words([MEANINGS[tally.kind].short for tally in fatal]) + " in at least one round of each"


def _about_sound(contest: Contest, question: _Question, members: Sequence[Summary]) -> str:
    metric = question.metric
    ranked = sorted(members, key=lambda member: _value(member, metric), reverse=metric.better == "higher")
    leader, *others = ranked
    if any(len(member.by_round(metric)) < MIN_TRIALS for member in ranked):
        return (
            f"{enumerate_words([contest.label(member) for member in ranked])} cannot be told apart: "
            f"a comparison needs at least {MIN_TRIALS} rounds."
        )
    against = _against(leader, others, ranked, metric)
    level = [other for other in others if against[id(other)].outcome is not Outcome.BETTER]
    behind = [other for other in others if against[id(other)].outcome is Outcome.BETTER]
    words = _leaders(contest, question, leader, level, against)
    if behind:
        words += f": {_multiple(contest, question, behind[0], against, question.next)}"
        if len(behind) > 1:
            words += f", and {_multiple(contest, question, behind[-1], against, question.last)}"
    return words + "."


def _against(
    leader: Summary, others: Sequence[Summary], ranked: Sequence[Summary], metric: Metric
) -> Mapping[int, Comparison]:
    """The leader against each of the others. The leader was picked after the fact, so the family is that of all
    pairs."""
    pairs = list(combinations(ranked, 2))
    family = adjust([compare_summaries(worse, better, metric) for better, worse in pairs])
    return {id(pair[1]): comparison for pair, comparison in zip(pairs, family, strict=True) if pair[0] is leader}


def _leaders(
    contest: Contest,
    question: _Question,
    leader: Summary,
    level: Sequence[Summary],
    against: Mapping[int, Comparison],
) -> str:
    metric = question.metric
    spelled = [
        f"{contest.label(m)} ({show_estimate(m.estimate(metric), metric.show, False)})" for m in (leader, *level)
    ]
    same = all(against[id(member)].within_margin for member in level)
    if not level:
        value = question.value.format(show_estimate(leader.estimate(metric), metric.show, False))
        return f"{contest.label(leader)} {question.best}, {value}{_interval_words(leader, metric)}"
    if len(level) <= _NAMED:
        apart = f"with no difference beyond {MARGIN:.0%}" if same else "too close to tell apart (take more rounds)"
        return f"{enumerate_words(spelled)} {question.best}, {apart}"
    apart = (
        f"differ from it by no more than {MARGIN:.0%}" if same else "are too close to tell from it (take more rounds)"
    )
    return f"{spelled[0]} {question.best}, but {len(level)} others {apart}"


def _interval_words(member: Summary, metric: Metric) -> str:
    estimate = member.estimate(metric)
    return (
        "" if estimate is None or estimate.low is None else f" (95 % interval {show_interval(estimate, metric.show)})"
    )


def _multiple(
    contest: Contest, question: _Question, other: Summary, against: Mapping[int, Comparison], words: str
) -> str:
    """ "1.94 times (1.88–2.01) as many as http2"."""
    ratio = against[id(other)].ratio
    if ratio is not None and question.metric.better == "lower":
        ratio = Estimate(1 / ratio.value, ratio.high and 1 / ratio.high, ratio.low and 1 / ratio.low, ratio.n)
    return words.format(ratio=show_ratio(ratio), label=contest.label(other))


def _value(member: Summary, metric: Metric) -> float:
    estimate = member.estimate(metric)
    return 0.0 if estimate is None else estimate.value


def _reached(rung: Summary) -> bool:
    achieved = rung.estimate(ACHIEVED)
    return achieved is not None and achieved.value >= KEPT_UP


def _kept_by_all(group: Group) -> set[str]:
    """The highest rate that every ladder of a group kept up with for sure: the fair place to compare latency."""
    loads = [
        {rung.scenario.load: offered_per_s(rung) for rung in ladder.rungs if _reached(rung) and not rung.fatal}
        for ladder in group.ladders
    ]
    common = set.intersection(*(set(kept) for kept in loads)) if len(loads) > 1 else set()
    return {max(common, key=lambda load: loads[0][load])} if common else set()


def _ladder(ladder: Ladder) -> str:
    """Which offered rates a ladder kept up with, what became of the first that it did not, and where that is unsure."""
    kept = [rung for rung in ladder.rungs if _reached(rung) and not rung.fatal]
    unsure = [rung for rung in ladder.rungs if _reached(rung) and rung.fatal]
    missed = [rung for rung in ladder.rungs if not _reached(rung)]
    parts = []
    if len(kept) == len(ladder.rungs):
        parts.append(f"kept up with every offered rate, up to {_rate(kept[-1])}")
    elif kept:
        parts.append(f"kept up with {enumerate_words([_rate(rung) for rung in kept])}")
    if missed:
        parts.append(_missed(missed[0]))
    if unsure:
        kinds = dict.fromkeys(tally.kind for rung in unsure for tally in rung.doubts if tally.fatal)
        reasons = enumerate_words([MEANINGS[kind].short for kind in kinds])
        parts.append(f"no verdict at {enumerate_words([_rate(rung) for rung in unsure])} ({reasons} in some rounds)")
    return f"{ladder.label}: " + "; ".join(parts) + "."


def _missed(rung: Summary) -> str:
    achieved, answered = rung.estimate(ACHIEVED), rung.estimate(THROUGHPUT)
    if achieved is None or answered is None:
        return f"no figures at {_rate(rung)}"
    return f"of {_rate(rung)} it answered {THROUGHPUT.show(answered.value)} ({ACHIEVED.show(achieved.value)})"


def _rate(rung: Summary) -> str:
    return THROUGHPUT.show(offered_per_s(rung))
