"""Comments that are stored once: a key that comes with one makes all tries of it the same comment."""

import sqlite3
import tempfile
import threading
import time
import weakref
from typing import IO

from servers.json_bodies import read_object
from servers.service_error import ServiceError

KEPT_S = 24 * 3600.0
"""How long a key is remembered."""

_SCHEMA = """
CREATE TABLE comment (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE key (key TEXT PRIMARY KEY, comment INTEGER NOT NULL, expires_s REAL NOT NULL);
"""


class Comments:
    """The comments of a process, in a database that is made with the first and gone with the process. A comment and its
    key are one transaction. Safe to use from many threads."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._database: sqlite3.Connection

    def create(self, body: bytes) -> bytes:
        """Store what `{"text": "...", "key": "..."}` says; the key may be left out. Gives `{"id": n}`, the same for
        each try with one key. Raises ServiceError 400, and 409 for a key that came with another text."""
        text, key = _read(body)
        with self._lock:
            database = self._open()
            with database:
                now_s = time.time()
                if key is not None:
                    database.execute("DELETE FROM key WHERE key = ? AND expires_s <= ?", (key, now_s))
                    found = database.execute(
                        "SELECT id, text FROM comment WHERE id = (SELECT comment FROM key WHERE key = ?)",
                        (key,),
                    ).fetchone()
                    if found is not None:
                        if found[1] != text:
                            raise ServiceError(409, "this key came with another comment; a new comment has a new key")
                        return b'{"id":%d}' % found[0]
                number = database.execute("INSERT INTO comment (text) VALUES (?)", (text,)).lastrowid
                if key is not None:
                    database.execute("INSERT INTO key VALUES (?, ?, ?)", (key, number, now_s + self._kept_s))
        return b'{"id":%d}' % (number or 0)

    def count(self) -> bytes:
        """How many comments there are, and how many texts among them."""
        with self._lock:
            found = self._open().execute("SELECT COUNT(*), COUNT(DISTINCT text) FROM comment").fetchone()
        return b'{"comments":%d,"texts":%d}' % found

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="wirebench-comments-")  # noqa: SIM115 (lives with this)
            weakref.finalize(self, self._file.close)
            self._database = sqlite3.connect(self._file.name, check_same_thread=False)
            self._database.executescript(_SCHEMA)
        return self._database


def _read(body: bytes) -> tuple[str, str | None]:
    read = read_object(body, "a comment")
    text, key = read.get("text"), read.get("key")
    if not isinstance(text, str) or not (key is None or (isinstance(key, str) and 0 < len(key) <= 255)):
        raise ServiceError(400, 'a comment has a text and perhaps a key, like {"text": "well done", "key": "a1b2"}')
    return text, key
