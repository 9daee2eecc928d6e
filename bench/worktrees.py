"""Revisions of a git repository, each checked out in a worktree of its own that is gone afterwards.

The folders carry the number of the process that made them, so that those of one that was killed are found and removed
by the next.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError

SIDES = ("base", "head")
_PREFIX = "wirebench-ab-"
_OURS = re.compile(rf"{_PREFIX}(\d+)-")


@dataclass(frozen=True)
class Checkout:
    """A revision in a folder of its own."""

    revision: str
    commit: str
    folder: Path
    here: Path
    """In it, what the current folder is in the repository."""

    @property
    def name(self) -> str:
        """ "main (1a2b3c4d5e6f)"."""
        return f"{self.revision} ({self.commit[:12]})"


def repository() -> Path:
    """The top of the git repository that the current folder is in. Raises UsageError."""
    try:
        return Path(git(Path.cwd(), "rev-parse", "--show-toplevel"))
    except UsageError:
        raise UsageError(f"{Path.cwd()} is in no git repository, so it has no revisions") from None


def git(folder: Path, *arguments: str, given: str | None = None, **environment: str) -> str:
    """What git says, without the line's end. Raises UsageError with what it says instead."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
            process_group=0,  # a terminal's Ctrl-C does not leave it half-way
        )
    except FileNotFoundError:
        raise UsageError("git is not installed, and revisions are its") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise UsageError(f"git {arguments[0]}: {said}")
    return done.stdout.rstrip("\n")


@contextlib.contextmanager
def checkouts(top: Path, base: str, head: str) -> Iterator[tuple[Checkout, Checkout]]:
    """A checkout of each of two revisions while the context lasts. Raises UsageError."""
    commits = {}
    revisions = dict(zip(SIDES, (base, head), strict=True))
    for name, revision in revisions.items():
        try:
            commits[name] = git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except UsageError:
            raise UsageError(f"--{name}: {revision!r:.100} is no revision of {top}") from None
    remove_stale(top)
    parent = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        inside = Path.cwd().relative_to(top) if Path.cwd().is_relative_to(top) else Path()
        one, other = (
            Checkout(revisions[name], commit, parent / name, parent / name / inside) for name, commit in commits.items()
        )
        for checkout in (one, other):
            git(top, "worktree", "add", "--detach", "--quiet", str(checkout.folder), checkout.commit)
        yield one, other
    finally:
        _remove(top, parent)


def remove_stale(top: Path) -> None:
    """Remove the worktrees of processes that ended without doing so."""
    for line in git(top, "worktree", "list", "--porcelain").splitlines():
        path = Path(line.removeprefix("worktree "))
        if (
            line.startswith("worktree ")
            and (match := _OURS.match(path.parent.name))
            and not Path(f"/proc/{match[1]}").exists()
        ):
            _remove(top, path.parent)


def _remove(top: Path, parent: Path) -> None:
    for name in SIDES:
        with contextlib.suppress(UsageError):  # it was not made yet
            git(top, "worktree", "remove", "--force", str(parent / name))
    shutil.rmtree(parent, ignore_errors=True)
