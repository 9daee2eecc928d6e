"""Where a history is kept: one file a run, written once and never changed, in a folder or on a branch of git. A file is
named MACHINE/TIME-HASH.json, so that no two runs meet, whoever adds them."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from analysis.history import read_entry
from bench.errors import OutputError, UsageError
from bench.worktrees import git

HISTORY = Path("results/history")
"""Where the history is that nobody named a place for."""

_ATTEMPTS = 5
_MACHINE = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(rf"{_MACHINE.pattern}/[0-9A-Za-z]+-[0-9a-f]{{12}}\.json")


class History(Protocol):
    """A place for entries."""

    def add(self, entry: dict[str, Any]) -> tuple[str, bool]:
        """Keep an entry. Gives its name, and whether it is new. Raises OutputError, UsageError."""

    def machines(self) -> list[str]:
        """The fingerprints of the machines whose runs are kept. Raises UsageError if there is no history."""

    def entries(self, machine: str) -> Iterator[dict[str, Any]]:
        """The entries of a machine by time, one after the other: there may be ten thousand. Raises UsageError for one
        that cannot be read."""


def _named(entry: dict[str, Any]) -> tuple[str, str]:
    """The name of an entry's file, and what is in it."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":")) + "\n"
    stamp = re.sub(r"[^0-9T]", "", entry["started"].removesuffix("+00:00"))
    return f"{entry['machine']}/{stamp}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json", text


class FolderHistory:
    """A history in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, entry: dict[str, Any]) -> tuple[str, bool]:
        name, text = _named(entry)
        path = self._folder / name
        if path.exists():
            return str(path), False
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o444)
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return str(path), True

    def machines(self) -> list[str]:
        try:
            found = sorted(entry.name for entry in os.scandir(self._folder) if _MACHINE.fullmatch(entry.name))
        except OSError as error:
            raise UsageError(f"{self._folder}: no history there: {error.strerror}; see wirebench history add") from None
        if not found:
            raise UsageError(f"{self._folder}: no run is kept there; see wirebench history add")
        return found

    def entries(self, machine: str) -> Iterator[dict[str, Any]]:
        folder = self._folder / machine
        names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(f"{machine}/{name}"))  # noqa: PTH208  # ten thousand of them
        return (self._read(f"{folder}/{name}") for name in names)

    def _read(self, path: str) -> dict[str, Any]:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return read_entry(file.read(), path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


class BranchHistory:
    """A history on a branch of a git repository. What is checked out is not touched."""

    def __init__(self, top: Path, branch: str) -> None:
        """Raises UsageError if that is no name of a branch."""
        git(top, "check-ref-format", "--branch", branch)
        self._top = top
        self._branch = branch
        self._ref = f"refs/heads/{branch}"

    def add(self, entry: dict[str, Any]) -> tuple[str, bool]:
        name, text = _named(entry)
        blob = git(self._top, "hash-object", "-w", "--stdin", given=text)
        why = ""
        for _ in range(_ATTEMPTS):
            tip = self._tip()
            if tip and name in self._blobs(tip, entry["machine"]):
                return f"{self._branch}:{name}", False
            try:
                commit = self._commit(tip, blob, name, entry["started"])
                # Refused if somebody else has added a run meanwhile.
                git(self._top, "update-ref", self._ref, commit, tip or "0" * len(commit))
            except UsageError as error:
                why = str(error)
                continue
            self._tidy()
            return f"{self._branch}:{name}", True
        raise OutputError(f"cannot add to the branch {self._branch}: {why}")

    def _commit(self, tip: str, blob: str, name: str, started: str) -> str:
        """A commit on top of the tip, with one file more."""
        with self._index(tip) as index:
            git(self._top, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", GIT_INDEX_FILE=index)
            tree = git(self._top, "write-tree", GIT_INDEX_FILE=index)
        parent = ("-p", tip) if tip else ()
        return git(self._top, "commit-tree", tree, *parent, "-m", f"Run of {started}", **_AUTHOR)

    def _tidy(self) -> None:
        """Have git pack what lies about loose, if that is enough for it, as after a commit: thousands of files are read
        slowly."""
        with contextlib.suppress(UsageError):  # the run is kept
            git(self._top, "gc", "--auto", "--quiet")

    def machines(self) -> list[str]:
        tip = self._tip()
        folders = git(self._top, "ls-tree", "-d", "--name-only", "--full-tree", tip).splitlines() if tip else []
        found = sorted(filter(_MACHINE.fullmatch, folders))
        if not found:
            raise UsageError(f"the branch {self._branch} holds no history; see wirebench history add")
        return found

    def entries(self, machine: str) -> Iterator[dict[str, Any]]:
        blobs = self._blobs(self._tip(), machine)
        names = sorted(blobs)
        # By their hashes: git would look for each path in the tree anew, which takes a minute for ten thousand.
        asked = "".join(f"{blobs[name]}\n" for name in names).encode()
        done = subprocess.run(
            ["git", "-C", str(self._top), "cat-file", "--batch"], input=asked, capture_output=True, check=False
        )
        return (
            read_entry(text, f"{self._branch}:{name}") for name, text in zip(names, _contents(done.stdout), strict=True)
        )

    def _tip(self) -> str:
        with contextlib.suppress(UsageError):
            return git(self._top, "rev-parse", "--verify", "--quiet", self._ref)
        return ""

    def _blobs(self, tip: str, machine: str) -> dict[str, str]:
        """The hash of each entry of a machine by its name."""
        listed = git(self._top, "ls-tree", "--full-tree", tip, f"{machine}/")
        lines = listed.splitlines()  # MODE blob HASH, a tab, NAME
        found = {name: head.rpartition(" ")[2] for head, _, name in (line.partition("\t") for line in lines)}
        return {name: blob for name, blob in found.items() if _NAME.fullmatch(name)}

    @contextlib.contextmanager
    def _index(self, tip: str) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="wirebench-index-") as folder:
            index = str(Path(folder) / "index")
            if tip:
                git(self._top, "read-tree", tip, GIT_INDEX_FILE=index)
            yield index


_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "wirebench"), ("EMAIL", "wirebench@localhost"))
}


def _contents(output: bytes) -> Iterator[bytes]:
    """What `git cat-file --batch` gives: "HASH blob SIZE", a line's end, so many bytes, a line's end."""
    at = 0
    while at < len(output):
        end = output.index(b"\n", at)
        size = int(output[at:end].rsplit(b" ", 1)[1])
        yield output[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
