"""What a run is turned into when it has ended: tables for the terminal, and a place for its report."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from analysis import doubts
from analysis.headlines import headlines
from analysis.labels import shared
from analysis.load_results import Run, load_run
from analysis.matching import UNMATCHED
from analysis.metrics import CLIENT_CPU, CONFIRM, P50, P99, REACH, SERVER_CPU, THROUGHPUT
from analysis.summary import Group, Summary, groups, summaries
from analysis.tables import DAGGER, Column, Row, Table, table
from bench.output import columns
from bench.run import RUNS

REPORTS = RUNS.parent / "reports"

_COLUMNS = (
    Column(THROUGHPUT, "answered"),
    Column(P50, "p50"),
    Column(P99, "p99"),
    Column(SERVER_CPU, "server CPU"),
    Column(CLIENT_CPU, "load CPU"),
    Column(CONFIRM, "confirmed p50"),
    Column(REACH, "reach"),
)
_PIPE_COLUMNS = 1000
"""The width of what is no terminal: nothing is broken into lines there."""


def report_folder(run: Path) -> Path:
    """Where the report of a run goes that nobody named a place for: in results/reports for a run in results/runs, else
    beside the run."""
    return REPORTS / run.stem if run.parent == RUNS else run.parent / f"{run.stem}-report"


def run_summary(path: Path, width: int | None = None) -> str:
    """A result file for the terminal: a table for each group with a row for each scenario, and what is doubted below.

    Where the width (the terminal's, if it is None) is too little for a row, its intervals get a line of their own.
    """
    run = load_run(path)
    width = width or shutil.get_terminal_size((_PIPE_COLUMNS, 0)).columns
    return "\n\n".join(_parts(run, width))


def _parts(run: Run, width: int) -> Iterator[str]:
    tallies = [tally for summary in summaries(run) for tally in summary.doubts]
    kinds = [kind for kind in doubts.MEANINGS if any(tally.kind == kind for tally in tallies)]
    for group in groups(run):
        yield _group(group, kinds, width)
    if kinds:
        notes = [f"{number} {kind}: {doubts.MEANINGS[kind].words}" for number, kind in enumerate(kinds, start=1)]
        if any(tally.fatal for tally in tallies):
            notes.append(f"{DAGGER} in at least one round so grave that no verdict may rest on the scenario")
        yield _listed("Doubts", notes, width)
    failures = {f"{trial.scenario.name}: {trial.error}" for trial in run.trials if trial.error is not None}
    if failures:
        yield _listed("Trials that gave no figures", sorted(failures), width)
    if run.unsupported:
        refused = {f"{item.scenario.protocol} under {item.scenario.execution}: {item.why}" for item in run.unsupported}
        yield _listed("Not supported, and so not run", sorted(refused), width)


def _listed(title: str, items: Iterable[str], width: int) -> str:
    return "\n".join([title, *(_wrapped(item, width) for item in items)])


def _wrapped(text: str, width: int, indent: str = "  ") -> str:
    further = f"{indent}  "
    return textwrap.fill(text, max(40, width), initial_indent=indent, subsequent_indent=further, break_on_hyphens=False)


def _group(group: Group, kinds: list[str], width: int) -> str:
    made = table(group, _COLUMNS)
    heads = ["", *(column.head for column in made.columns)]
    marked = [(row, _marks(summary, kinds)) for row, summary in zip(made.rows, group.summaries, strict=True)]
    right = range(1, len(heads))
    wide = [[*heads, "doubts" if any(marks for _, marks in marked) else ""]]
    wide += [_row(row, marks) for row, marks in marked]
    text = columns(wide, right, indent=2)
    if max(map(len, text.splitlines())) > width:
        text = columns([heads, *(line for row, marks in marked for line in _two_lines(row, marks))], right, indent=2)
    text = _with_parts(text, made, width)
    title = f"{group.name}: {shared([summary.scenario for summary in group.summaries])}"
    said = [_wrapped(headline.text, width) for headline in headlines(group)]
    return "\n".join([_wrapped(title, width, indent=""), text, *said])


def _with_parts(text: str, made: Table, width: int) -> str:
    """The lines of a table with the words of each part above its rows, and what it means that there are several."""
    parts = made.parts
    if len(parts) < 2:
        return text
    head, *lines = text.splitlines()
    each = len(lines) // len(made.rows)
    found = [head]
    for words, rows in parts:
        found += [f"  [{words}]", *lines[: each * len(rows)]]
        del lines[: each * len(rows)]
    return "\n".join([*found, _wrapped(f"{UNMATCHED}: {doubts.MEANINGS[UNMATCHED].words}", width)])


def _marks(summary: Summary, kinds: list[str]) -> str:
    """ "1† 3": the numbers of the doubts about a scenario."""
    return " ".join(f"{kinds.index(t.kind) + 1}{DAGGER if t.fatal else ''}" for t in summary.doubts)


def _row(row: Row, marks: str) -> list[str]:
    cells = (f"{cell.text} ({cell.interval})" if cell.interval else cell.text for cell in row.cells)
    return [row.label, *cells, marks]


def _two_lines(row: Row, marks: str) -> list[list[str]]:
    doubts = f"  doubts {marks}" if marks else ""
    return [[row.label, *(cell.text for cell in row.cells)], [doubts, *(cell.interval for cell in row.cells)]]
