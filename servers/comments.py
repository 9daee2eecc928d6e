"""Comments that are stored once: a key that comes with one makes all tries of it the same comment."""

import time

from servers.json_bodies import read_object
from servers.service_error import ServiceError
from servers.store import Store

KEPT_S = 24 * 3600.0
"""How long a key is remembered."""


class Comments:
    """The comments of a server. A comment and its key are one transaction."""

    def __init__(self, store: Store, kept_s: float = KEPT_S) -> None:
        self._store = store
        self._kept_s = kept_s

    def create(self, body: bytes) -> bytes:
        """Store what `{"text": "...", "key": "..."}` says; the key may be left out. Gives `{"id": n}`, the same for
        each try with one key. Raises ServiceError 400, and 409 for a key that came with another text."""
        text, key = _read(body)
        now_s = time.time()
        with self._store.transaction() as database:
            if key is not None:
                database.execute("DELETE FROM key WHERE expires_s <= ?", (now_s,))
                found = database.execute(
                    "SELECT id, text FROM comment WHERE id = (SELECT comment FROM key WHERE key = ?)", (key,)
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
        with self._store.transaction() as database:
            found = database.execute("SELECT COUNT(*), COUNT(DISTINCT text) FROM comment").fetchone()
        return b'{"comments":%d,"texts":%d}' % found


def _read(body: bytes) -> tuple[str, str | None]:
    read = read_object(body, "a comment")
    text, key = read.get("text"), read.get("key")
    if not isinstance(text, str) or not (key is None or (isinstance(key, str) and 0 < len(key) <= 255)):
        raise ServiceError(400, 'a comment has a text and perhaps a key, like {"text": "well done", "key": "a1b2"}')
    return text, key
