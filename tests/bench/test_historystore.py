"""Where histories are kept: a folder and a branch keep the same, once, and never change it."""

import hashlib
import itertools
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import OutputError, UsageError
from bench.historystore import BranchHistory, FolderHistory, History
from bench.worktrees import git

MACHINES = ("0123456789ab", "ba9876543210")


def entry(number: int, machine: str = MACHINES[0]) -> dict[str, Any]:
    return {
        "kind": "wirebench-history",
        "schema": 1,
        "machine": machine,
        "started": f"2026-03-{number:02}T10:00:00.123+00:00",
        "scenarios": {"a": {"name": "ä", "metrics": {"errors": {"value": number}}}},
    }


def git_hash(text: str) -> str:
    return hashlib.sha1(f"blob {len(text)}\0{text}".encode(), usedforsecurity=False).hexdigest()


def in_folder(tmp_path: Path) -> History:
    return FolderHistory(tmp_path / "history")


def on_branch(tmp_path: Path) -> History:
    top = tmp_path / "repo"
    top.mkdir(exist_ok=True)
    git(top, "init", "-q", "-b", "main")
    return BranchHistory(top, "perf/history")


@pytest.fixture(params=[in_folder, on_branch])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    make: Callable[[Path], History] = request.param
    return make(tmp_path)


def test_entries_come_back_by_time_and_machine(history: History) -> None:
    for number, machine in ((2, MACHINES[0]), (1, MACHINES[0]), (3, MACHINES[1])):
        name, is_new = history.add(entry(number, machine))
        assert is_new
        assert f"{machine}/202603{number:02}T100000123-" in name
    assert history.machines() == sorted(MACHINES)
    assert list(history.entries(MACHINES[0])) == [entry(1), entry(2)]
    assert list(history.entries(MACHINES[1])) == [entry(3, MACHINES[1])]


def test_what_is_kept_already_is_left_as_it_is(history: History) -> None:
    name, _ = history.add(entry(1))
    assert history.add(entry(1)) == (name, False)
    assert list(history.entries(MACHINES[0])) == [entry(1)]


def test_where_nothing_is_kept_there_is_no_history(history: History) -> None:
    with pytest.raises(UsageError, match="wirebench history add"):
        history.machines()


def test_a_file_is_written_once(tmp_path: Path) -> None:
    name, _ = in_folder(tmp_path).add(entry(1))
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o444
    assert [path.name for path in Path(name).parent.iterdir()] == [Path(name).name]


def test_a_file_that_is_no_entry_is_named(tmp_path: Path) -> None:
    history = in_folder(tmp_path)
    name, _ = history.add(entry(1))
    Path(name).chmod(0o644)
    Path(name).write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=f"{Path(name).name}: not an entry"):
        list(history.entries(MACHINES[0]))


def test_a_branch_does_not_touch_what_is_checked_out(tmp_path: Path) -> None:
    history = on_branch(tmp_path)
    history.add(entry(1))
    history.add(entry(2))
    top = tmp_path / "repo"
    assert git(top, "status", "--porcelain") == ""
    assert git(top, "branch", "--show-current") == "main"
    assert git(top, "log", "--format=%s", "perf/history").count("\n") == 1
    with pytest.raises(UsageError, match="not a valid branch name"):
        BranchHistory(top, "no..name")


def test_git_packs_a_branch_when_much_lies_loose(tmp_path: Path) -> None:
    history = on_branch(tmp_path)
    top = tmp_path / "repo"
    git(top, "config", "gc.auto", "1")
    git(top, "config", "gc.autoDetach", "false")
    # Git looks into one of its 256 folders, and guesses from that how many objects lie loose.
    in_17 = (text for text in map(str, range(9999)) if git_hash(text).startswith("17"))
    for text in itertools.islice(in_17, 2):
        git(top, "hash-object", "-w", "--stdin", given=text)
    history.add(entry(1))
    counted = dict(line.split(": ") for line in git(top, "count-objects", "-v").splitlines())
    assert (counted["in-pack"], counted["count"]) == ("4", "2")  # a commit, two trees and the run; ours are nobody's
    assert list(history.entries(MACHINES[0])) == [entry(1)]


def test_two_who_add_to_a_branch_at_once_both_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_branch(tmp_path)
    one, other = (BranchHistory(tmp_path / "repo", "perf/history") for _ in range(2))
    commit, others = one._commit, [entry(2)]

    def overtaken(*arguments: str) -> str:
        made = commit(*arguments)
        if others:
            other.add(others.pop())
        return made

    monkeypatch.setattr(one, "_commit", overtaken)
    assert one.add(entry(1))[1]
    assert list(one.entries(MACHINES[0])) == [entry(1), entry(2)]


def test_a_branch_that_cannot_be_changed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_branch(tmp_path)
    history = BranchHistory(tmp_path / "repo", "perf/history")
    (tmp_path / "repo" / ".git" / "refs" / "heads" / "perf").write_text("no folder")
    with pytest.raises(OutputError, match=r"cannot add to the branch perf/history: git update-ref: .*perf"):
        history.add(entry(1))
