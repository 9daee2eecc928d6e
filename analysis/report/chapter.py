"""What a report says about one run, as data for the template."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analysis import summary as grouping
from analysis.doubts import MEANINGS, Meaning, Tally
from analysis.headlines import Headline, headlines
from analysis.labels import shared
from analysis.load_results import Run, Unsupported
from analysis.mixes import COLUMNS, RequestRow, ThresholdRow, request_rows, threshold_rows
from analysis.properties import PropertyTable, property_table
from analysis.report.ladders import DrawLadder, Way, lead, ways
from analysis.report.picture import Picture, in_columns
from analysis.stats import MIN_TRIALS
from analysis.summary import Group, Summary
from analysis.tables import Table, table


@dataclass(frozen=True)
class MixFigures:
    """What each request of a scenario's mix came to, and the thresholds on it."""

    label: str
    columns: Sequence[str]
    """The heads of the latencies of each request."""
    requests: Sequence[RequestRow]
    thresholds: Sequence[ThresholdRow]


@dataclass(frozen=True)
class Section:
    """A group of the suite: what its scenarios share, the answers in words, the plots and the table; `mixes` has the
    scenarios whose requests have names."""

    anchor: str
    title: str
    shared: str
    headlines: Sequence[Headline]
    pictures: Sequence[Picture]
    table: Table
    mixes: Sequence[MixFigures]

    @property
    def columns(self) -> tuple[list[Picture], list[Picture]]:
        """The plots in two columns of about one height, for pages that are wide enough."""
        return in_columns(self.pictures)


@dataclass(frozen=True)
class Doubted:
    """One kind of doubt with the scenarios that it was raised about."""

    kind: str
    meaning: Meaning
    scenarios: Sequence[tuple[Summary, Tally]]

    @property
    def fatal(self) -> bool:
        return any(tally.fatal for _, tally in self.scenarios)


@dataclass(frozen=True)
class Failed:
    """The requests of a scenario that were not answered, over all rounds, and what else went wrong."""

    summary: Summary
    offered: int
    kinds: Mapping[str, int]
    notes: Sequence[str]


@dataclass(frozen=True)
class Chapter:
    """A run in a report."""

    anchor: str
    run: Run
    command: str
    lead: str
    warning: str
    sections: Sequence[Section]
    doubts: Sequence[Doubted]
    failures: Sequence[Failed]
    unsupported: Sequence[Unsupported]
    ways: Sequence[Way]
    protocols: PropertyTable | None
    environment: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    facts: Sequence[tuple[str, str]]

    @property
    def ways_lead(self) -> str:
        """What the ladders say together."""
        return lead(self.ways)

    @property
    def pictures(self) -> list[Picture]:
        """Every picture of it."""
        plots = [picture for section in self.sections for picture in section.pictures]
        return plots + [way.picture for way in self.ways]


def chapter(run: Run, number: int, draw: Callable[[Group, str], list[Picture]], draw_ladder: DrawLadder) -> Chapter:
    """The chapter of a run; `draw` makes the plots of a group, with names that begin with a prefix, and `draw_ladder`
    one ladder."""
    anchor = f"run-{number}"
    groups = grouping.groups(run)
    every = [summary for group in groups for summary in group.summaries]
    return Chapter(
        anchor=anchor,
        run=run,
        command=shlex.join(run.command),
        lead=_lead(run, every),
        warning=_warning(run),
        sections=[_section(group, f"{anchor}-group-{place}", draw) for place, group in enumerate(groups, start=1)],
        doubts=doubted(every),
        failures=failures(every),
        unsupported=grouping.unsupported(run),
        ways=ways(every, anchor, draw_ladder),
        protocols=property_table(run.protocols) if run.protocols else None,
        environment=environment(run.environment),
        facts=list(_facts(run)),
    )


def show_moment(moment: str) -> str:
    """ "1 March 2025, 10:00 UTC"."""
    when = datetime.fromisoformat(moment)
    offset = when.strftime("%Z") or "UTC"
    return f"{when.day} {when:%B %Y, %H:%M} {offset}"


def _section(group: Group, anchor: str, draw: Callable[[Group, str], list[Picture]]) -> Section:
    return Section(
        anchor=anchor,
        title=group.name if "://" in group.name else group.name[:1].upper() + group.name[1:],
        shared=shared([summary.scenario for summary in group.summaries]),
        headlines=headlines(group),
        pictures=draw(group, anchor),
        table=table(group),
        mixes=[
            MixFigures(group.label(summary), COLUMNS, rows, threshold_rows(summary.trials))
            for summary in group.summaries
            if (rows := request_rows(summary.trials))
        ],
    )


def _lead(run: Run, every: Sequence[Summary]) -> str:
    trials = len(run.trials)
    lost = sum(trial.error is not None for trial in run.trials)
    said = [
        f"{_count(len(every), 'scenario')} in {_count(run.rounds, 'round')}: {_count(trials, 'trial')}"
        + (f", {lost} of which gave no figures" if lost else "")
        + (f", on {machine}" if (machine := _machine(run.environment)) else "")
        + "."
    ]
    doubtful = [summary for summary in every if summary.fatal]
    if doubtful:
        said.append(
            f"Scenarios that give no verdict, because a trial of theirs is in serious doubt: {len(doubtful)}; "
            "their figures are marked †."
        )
    elif every:
        said.append("No trial is in doubt so serious that it would keep its scenario from a verdict.")
    if run.unsupported:
        said.append(f"{_count(len(run.unsupported), 'scenario')} could not be run here.")
    return " ".join(said)


def _machine(environment: Mapping[str, Any]) -> str:
    def known(group: str, name: str) -> str | None:
        value = environment.get(group)
        found = value.get(name) if isinstance(value, Mapping) else None
        return None if found in (None, "unavailable") else _word(found)

    threads = known("cpu", "usable") or known("cpu", "threads")
    kernel = " ".join(filter(None, (known("kernel", "system"), known("kernel", "release"))))
    python = known("python", "version")
    parts = [
        known("cpu", "model"),
        f"{threads} CPU{'s' if threads != '1' else ''}" if threads else None,
        kernel or None,
    ]
    return ", ".join(filter(None, [*parts, f"Python {python}" if python else None]))


def _warning(run: Run) -> str:
    done = Counter(trial.round for trial in run.trials)
    said = []
    if run.status == "interrupted":
        said.append(f"This run was interrupted after {_count(len(run.trials), 'trial')}; what was done is shown.")
    elif run.status == "running":
        said.append(f"This run had not ended when the report was made: {_count(len(run.trials), 'trial')} so far.")
    if run.trials and len(done) < MIN_TRIALS:
        said.append(
            f"{_count(len(done), 'round')} give no intervals, and without intervals there are no verdicts: "
            f"take at least {MIN_TRIALS} rounds, better 10."
        )
    return " ".join(said)


def doubted(every: Sequence[Summary]) -> list[Doubted]:
    """The doubts about these scenarios by kind, the serious ones first."""
    by_kind: dict[str, list[tuple[Summary, Tally]]] = {}
    for summary in every:
        for tally in summary.doubts:
            by_kind.setdefault(tally.kind, []).append((summary, tally))
    made = [Doubted(kind, MEANINGS[kind], scenarios) for kind, scenarios in by_kind.items()]
    return sorted(made, key=lambda doubted: (not doubted.fatal, list(MEANINGS).index(doubted.kind)))


def failures(every: Sequence[Summary]) -> list[Failed]:
    """What went wrong in these scenarios; those where nothing did are left out."""
    return [failed for failed in map(_failed, every) if failed.kinds or failed.notes]


def _failed(summary: Summary) -> Failed:
    counts = [trial.counts for trial in summary.trials if trial.counts is not None]
    kinds: Counter[str] = Counter()
    for each in counts:
        kinds.update(each.errors)
        kinds.update({"dropped": each.dropped})
    notes = [f"round {trial.round + 1}: {trial.error}" for trial in summary.failures]
    for trial in summary.trials:
        for death in trial.server.deaths:
            restarted = "restarted" if death.restarted else "not restarted"
            notes.append(f"round {trial.round + 1}: worker {death.worker} {death.reason}, {restarted}")
    offered = sum(each.offered for each in counts)
    return Failed(summary, offered, {kind: number for kind, number in sorted(kinds.items()) if number}, notes)


def environment(facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a run's environment says, as groups of names and values; what stands in no group comes first."""
    loose = [(name, _word(value)) for name, value in facts.items() if not isinstance(value, Mapping)]
    groups = [(name, list(_flat(value, ""))) for name, value in facts.items() if isinstance(value, Mapping)]
    return [("general", loose), *groups] if loose else groups


def _flat(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _word(value)


def _word(value: Any) -> str:
    match value:
        case None:
            return "unavailable"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_word, value)) or "none"
    return str(value)


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "result file", run.path.name  # the folder is the business of whoever publishes the page
    yield "seed", str(run.seed)
    yield "rounds", f"{run.rounds}, every scenario once in each, shuffled"
    yield "started", show_moment(run.started)
    yield "finished", show_moment(run.finished) if run.finished else "not finished"
    yield "status", run.status


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
