"""What a server keeps for longer than its processes live: one SQLite database, for all its processes and threads."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from servers.service_error import ServiceError

_BUSY_S = 5.0
"""How long a transaction waits for those of other processes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS comment (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS key (key TEXT PRIMARY KEY, comment INTEGER NOT NULL, expires_s REAL NOT NULL);
CREATE INDEX IF NOT EXISTS key_expires ON key (expires_s);
CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, visits INTEGER NOT NULL, expires_s REAL NOT NULL);
CREATE INDEX IF NOT EXISTS session_expires ON session (expires_s);
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


class Store:
    """The database in a folder; in memory, and this process's own, if no folder is given. It is opened with the first
    transaction, so after whatever fork made the process. Safe to use from many threads."""

    def __init__(self, folder: str = "") -> None:
        self._path = str(Path(folder) / "service.sqlite") if folder else ":memory:"
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done in it is done whole or, after an exception, not at all; and nobody else writes meanwhile.

        Raises ServiceError 503 where the database is busy for too long, or full.
        """
        with self._lock:
            try:
                database = self._open()
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise ServiceError(503, f"the server's database: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            # What is committed outlives a process that is killed; a power failure may take the last of it.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
            self._database = database
        return self._database
