"""What `wirebench history` shows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.history import RECENT, ChangePoint, Series, change_points, series
from analysis.regression import choose_metrics
from bench.errors import OutputError, UsageError
from bench.historystore import HISTORY, BranchHistory, FolderHistory, History
from bench.output import check_json, columns
from bench.quantities import parse_share
from bench.worktrees import repository

Found = list[tuple[Series, list[ChangePoint]]]


def open_history(folder: str | None, branch: str | None) -> History:
    """The history that options name. Raises UsageError."""
    if branch is None:
        return FolderHistory(HISTORY if folder is None else Path(folder))
    if folder is not None:
        raise UsageError("--folder and --branch: a history is in one of them; leave out the other")
    return BranchHistory(repository(), branch)


def contents(entry: Mapping[str, Any]) -> str:
    """What an entry holds, in a few words: "ab, http1 closed:4 GET /"."""
    names = [scenario["name"] for scenario in entry["scenarios"].values()]
    return f"{entry['suite']}, {names[0] if len(names) == 1 else f'{len(names)} scenarios'}"


def look(
    history: History, machine: str | None, all_machines: bool, scenario: str, metrics: Sequence[str], floor: str
) -> Found:
    """The series of a history with their changes. Raises UsageError for runs of several machines, unless one is chosen
    or all are asked for."""
    chosen, least = choose_metrics(metrics), parse_share(floor, "--floor")
    known = history.machines()
    wanted = [name for name in known if name.startswith(machine or "")]
    if machine is not None and not wanted:
        raise UsageError(f"--machine: {machine!r:.80} is none of {', '.join(known)}")
    if len(wanted) > 1 and not all_machines:
        raise UsageError(
            f"the history holds runs of {len(known)} machines, whose figures mean nothing beside each other: "
            f"{', '.join(known)}; choose with --machine, or see each by itself with --all-machines"
        )
    found = [one for name in wanted for one in series(history.entries(name), scenario, chosen)]
    if not found:
        raise UsageError(f"no run of the history has {scenario or 'any of these metrics'}")
    return [(one, change_points(one, least)) for one in found]


def show(found: Found) -> str:
    """A table for each machine and scenario: how many runs, the last level, and what has changed when."""
    lines: list[str] = []
    before = ("", "")
    rows: list[list[str]] = []
    for one, changes in found:
        if (one.machine, one.scenario_hash) != before:
            lines += [columns(rows, right=(1, 2), indent=2), ""] if rows else []
            lines += [f"{one.scenario}   (scenario {one.scenario_hash}, machine {one.machine})"]
            among = f" among the last {RECENT:,}" if len(one.values) > RECENT else ""
            rows = [["", "runs", "last", f"changes{among}"]]
            before = (one.machine, one.scenario_hash)
        said = [_words(one, change) for change in changes]
        rows.append([one.metric.title, str(len(one.values)), one.metric.show(one.values[-1]), *(said[:1] or ["none"])])
        rows += [["", "", "", words] for words in said[1:]]
    return "\n".join([*lines, columns(rows, right=(1, 2), indent=2)])


def _words(one: Series, change: ChangePoint) -> str:
    commit = one.commits[change.index]
    at = f" at {commit[:12]}" if commit and commit != "unavailable" else ""
    which = "worse" if change.is_worse else "better"
    show = one.metric.show
    return (
        f"{which} by {abs(change.ratio - 1):.1%} from {one.started[change.index]}{at}: "
        f"{show(change.before)} to {show(change.after)}"
    )


def as_json(found: Found) -> str:
    """The same as JSON."""
    return json.dumps([_record(one, changes) for one, changes in found], indent=1)


def _record(one: Series, changes: list[ChangePoint]) -> dict[str, Any]:
    return {
        "machine": one.machine,
        "scenario": one.scenario,
        "scenario_hash": one.scenario_hash,
        "metric": one.metric.name,
        "runs": len(one.values),
        "last": one.values[-1],
        "changes": [
            {**asdict(change), "started": one.started[change.index], "commit": one.commits[change.index]}
            for change in changes
        ],
    }


MAX_ROWS = 40
"""More series than this are too many for a picture."""


def check_picture(out: Path) -> None:
    """Raises UsageError for a file that is no picture, OutputError for one that cannot be written."""
    if out.suffix not in (".svg", ".png"):
        raise UsageError(f"--out: {out}: a picture is a file that ends in .svg or .png")
    check_json(str(out))


def draw(found: Found, out: Path) -> None:
    """Write the picture. Raises UsageError for too many series, OutputError."""
    if len(found) > MAX_ROWS:
        raise UsageError(
            f"{len(found)} series are too many for a picture ({MAX_ROWS} at most); choose with --scenario and --metric"
        )
    from analysis.plots import style
    from analysis.plots.trend import trend

    figure = trend(found)
    try:
        if out.suffix == ".png":
            out.write_bytes(style.to_png(figure))
        else:
            out.write_text(style.to_svg(figure, ground=True), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
