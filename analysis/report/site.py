"""The site of a folder of claims: pages beside its result files, which open without a network.

index.html           every verdict with its effect, to be searched
claim/ID.html        one claim: its rules, every round, plots, packets, doubts; claim/ID.csv its trials
chapter/NAME.html    the claims of a chapter beside one another
compared.html        every scenario that was run, by protocol, pattern and execution model
method.html          how verdicts come about, how often they are right, and the machine
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from analysis.load_claims import ClaimsRun, Record, effects_of, load_claims
from analysis.load_results import Scenario
from analysis.metrics import P50, P99, SERVER_CPU, THROUGHPUT
from analysis.report import pages
from analysis.report.chapter import environment, show_moment
from analysis.report.claim import Claim, claim_of
from analysis.report.picture import Picture
from analysis.sides import condition_of, side_of
from analysis.simulation import MARGIN, simulated
from analysis.stats import Estimate
from analysis.summary import Summary
from analysis.tables import Cell, Column, cell
from analysis.verdict import MODES, Standing, Verdict
from analysis.verdict_words import EVERYWHERE
from bench.resultfile import write_atomically

if TYPE_CHECKING:
    from analysis.plots.style import Plot

_STYLES, _SCRIPTS = ("report.css", "site.css"), ("report.js", "site.js")
_COMPARED = (Column(THROUGHPUT, "answered"), Column(P50, "p50"), Column(P99, "p99"), Column(SERVER_CPU, "server CPU"))


@dataclass(frozen=True)
class Chapter:
    """The claims of a chapter. `counts` says how many came out how."""

    name: str
    title: str
    claims: Sequence[Claim]

    @property
    def counts(self) -> Counter[str]:
        return Counter(claim.record["verdict"] for claim in self.claims)


@dataclass(frozen=True)
class Compared:
    """A scenario of a claim, with its figures."""

    claim: Claim
    condition: str
    side: str
    scenario: Scenario
    cells: Sequence[Cell]
    mark: str


@dataclass(frozen=True)
class Matrix:
    """Which claims measured what together: a row for each protocol, and a column for each of something else, the one
    with the most claims first."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[str]]]]


def write_site(folder: Path) -> Path:
    """Write the pages of a folder of claims (see `results/README.md`) into it, and give the path of the first. Raises
    UsageError if it is none, or of another version; OutputError if something cannot be written."""
    run = load_claims(folder)
    claims = [claim_of(run, record) for record in run.claims]
    chapters = [
        Chapter(name, title, [claim for claim in claims if claim.record["chapter"] == name])
        for name, title in run.chapters.items()
    ]
    for chapter in chapters:
        _write_chapter(run, chapter)
    compared = _compared([claim for chapter in chapters for claim in chapter.claims])
    _write(
        folder / "compared.html", "compared.html", run, compared=compared, heads=_COMPARED, matrices=_matrices(compared)
    )
    _write(
        folder / "method.html",
        "method.html",
        run,
        simulated=simulated(MODES[run.mode], (0.0,)),
        margin=MARGIN,
        standings=list(Standing),
        environment=environment(run.environment),
        facts=_facts(run),
    )
    page = folder / "index.html"
    _write(
        page,
        "index.html",
        run,
        chapters=chapters,
        counts=Counter(record["verdict"] for record in run.claims),
        verdicts=list(Verdict),
        pictures=[picture for picture in (_verdicts(chapters), _effects(claims)) if picture is not None],
    )
    return page


def _write_chapter(run: ClaimsRun, chapter: Chapter) -> None:
    """Its page, and those of its claims."""
    beside = [None, *chapter.claims, None]
    for before, claim, after in zip(beside, chapter.claims, beside[2:], strict=False):
        path = run.folder / "claim" / claim.record["id"]
        if claim.measured is not None:
            write_atomically(Path(f"{path}.csv"), claim.measured.csv)
        _write(Path(f"{path}.html"), "claim.html", run, claim=claim, chapter=chapter, before=before, after=after)
    _write(
        run.folder / "chapter" / f"{chapter.name}.html",
        "chapter.html",
        run,
        chapter=chapter,
        verdicts=list(Verdict),
        picture=_effects(chapter.claims),
        compared=_compared(chapter.claims),
        heads=_COMPARED,
    )


def _write(path: Path, template: str, run: ClaimsRun, **data: Any) -> None:
    root = "" if path.parent == run.folder else "../"
    write_atomically(path, pages.render(template, _STYLES, _SCRIPTS, run=run, root=root, **data))


def _facts(run: ClaimsRun) -> list[tuple[str, str]]:
    return [
        ("command", join(run.command)),
        ("mode", run.mode),
        ("seed", str(run.seed)),
        ("started", show_moment(run.started)),
    ]


def _verdicts(chapters: Sequence[Chapter]) -> Picture | None:
    if not chapters:
        return None
    return pages.inline(verdicts_plot([(chapter.title, chapter.counts) for chapter in chapters]), "site", 0)


def _effects(claims: Sequence[Claim]) -> Picture | None:
    plot = effects_plot([claim.record for claim in claims])
    return None if plot is None else pages.inline(plot, "site", 0)


def verdicts_plot(chapters: Sequence[tuple[str, Counter[str]]]) -> "Plot":
    """How many claims of each chapter came out how."""
    from analysis.plots import verdicts

    return verdicts.plot("verdicts", chapters)


def effects_plot(records: Sequence[Record]) -> "Plot | None":
    """The effects of the claims that compare sides; None if none of them does."""
    from analysis.plots import effects

    told = [(record, finding) for record in records for finding in effects_of(record)[:1] if finding["against"]]
    found = [effects.Effect(one["id"], one["verdict"], Estimate(**finding["measured"])) for one, finding in told]
    return effects.plot("effects", found) if found else None


def _compared(claims: Sequence[Claim]) -> list[Compared]:
    return [
        _scenario(claim, summary)
        for claim in claims
        if claim.measured is not None
        for summary in claim.measured.sides.summaries
        if summary.scenario.pattern != "probe"
    ]


def _scenario(claim: Claim, summary: Summary) -> Compared:
    condition = condition_of(summary.scenario)
    return Compared(
        claim,
        "" if condition == EVERYWHERE else condition,
        side_of(summary.scenario),
        summary.scenario,
        [cell(column.metric, summary.estimate(column.metric)) for column in _COMPARED],
        "†" if summary.fatal else "",
    )


def _matrices(compared: Sequence[Compared]) -> list[Matrix]:
    return [
        _matrix("Protocols and patterns", compared, [each.scenario.pattern.partition(":")[0] for each in compared]),
        _matrix("Protocols and execution models", compared, [each.scenario.execution for each in compared]),
    ]


def _matrix(title: str, compared: Sequence[Compared], across: Sequence[str]) -> Matrix:
    found: dict[tuple[str, str], dict[str, None]] = {}
    for each, other in zip(compared, across, strict=True):
        found.setdefault((each.scenario.protocol, other), {})[each.claim.record["id"]] = None
    held = {column: sum(len(ids) for (_, other), ids in found.items() if other == column) for column in across}
    columns = sorted(held, key=lambda column: (-held[column], column))
    protocols = sorted({each.scenario.protocol for each in compared})
    return Matrix(title, columns, [(p, [list(found.get((p, column), ())) for column in columns]) for p in protocols])
