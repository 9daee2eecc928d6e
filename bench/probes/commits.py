"""Commits to a file: each on the disk before it is acknowledged (fdatasync(2)), or synced later for many at once."""

import os
import tempfile
import threading
import time
from pathlib import Path

_SECONDS = 0.6
_LATER_S = 0.1
_RECORD = bytes(128)


def measure(sync: str) -> dict[str, float]:
    """Commit for a while. A commit that is acknowledged and not synced would be lost with the machine's power; how many
    those were at the worst moment is what the writer itself counts."""
    with tempfile.TemporaryDirectory(prefix="wirebench-commits-") as folder:
        fd = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            return _commit(fd, sync == "each")
        finally:
            os.close(fd)


def _commit(fd: int, each: bool) -> dict[str, float]:
    committed = synced = worst = 0
    done = threading.Event()

    def sync_later() -> None:
        nonlocal synced
        while not done.wait(_LATER_S):
            upto = committed
            os.fdatasync(fd)
            synced = upto

    syncing = None if each else threading.Thread(target=sync_later)
    if syncing is not None:
        syncing.start()
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + _SECONDS:
        os.write(fd, _RECORD)
        if each:
            os.fdatasync(fd)
            synced += 1
        committed += 1
        worst = max(worst, committed - synced)
    took_s = time.monotonic() - begun_s
    done.set()
    if syncing is not None:
        syncing.join()
    return {"commits_per_s": committed / took_s, "unsynced_commits": worst}
