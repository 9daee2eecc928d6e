"""Checkouts of revisions: gone afterwards, however it ends, and those of a killed process with the next one."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.worktrees import checkouts, git, remove_stale, repository


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a file in two versions, tagged one and two."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for name in ("one", "two"):
        (repo / "file").write_text(name, encoding="utf-8")
        git(repo, "add", "file")
        git(repo, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", name)
        git(repo, "tag", name)
    return repo


def worktrees(top: Path) -> int:
    return git(top, "worktree", "list").count("\n") + 1


def test_both_revisions_are_there_and_gone_afterwards(top: Path) -> None:
    with checkouts(top, "one", "HEAD") as (base, head):
        assert [(side.folder / "file").read_text() for side in (base, head)] == ["one", "two"]
        assert base.name == f"one ({git(top, 'rev-parse', 'one')[:12]})"
        assert worktrees(top) == 3
        parent = base.folder.parent
    assert worktrees(top) == 1
    assert not parent.exists()


def test_a_command_runs_where_the_user_is(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "api").mkdir()
    monkeypatch.chdir(top / "api")
    with checkouts(repository(), "one", "two") as (base, _):
        assert base.here == base.folder / "api"


def test_an_interrupt_leaves_nothing(top: Path) -> None:
    def interrupted() -> None:
        with checkouts(top, "one", "two") as (base, _):
            (base.folder / "built").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert worktrees(top) == 1
    assert list((top.parent / "tmp").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(top: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, others = (top.parent / f"wirebench-ab-{pid}-x" for pid in (ended.pid, os.getpid()))
    for parent in (left, others):
        git(top, "worktree", "add", "--detach", "-q", str(parent / "base"), "one")
    remove_stale(top)
    assert not left.exists()
    assert (others / "base").exists()
    assert worktrees(top) == 2


@pytest.mark.parametrize("revision", ["nonsense", "--help", "HEAD^{tree}", ""])
def test_what_is_no_revision_is_refused(top: Path, revision: str) -> None:
    with pytest.raises(UsageError, match=r"--head: .* is no revision"), checkouts(top, "one", revision):
        pass
    assert worktrees(top) == 1


def test_outside_of_a_repository_there_are_no_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="in no git repository"):
        repository()
