"""The broker's log on the disk: SQLite with a write-ahead log, synced at every commit (`synchronous=FULL`).

What one commit publishes to a topic is one row, so that the cost of SQLite is one of commits and not of messages.
Messages of a topic are numbered without gaps. A subscription is where it stands (everything before its position has
been delivered) and which of those are still open. Rows that every subscription is done with are deleted. All methods
are for one thread.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.wire.broker_frames import decode_batch

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches (topic INTEGER, first INTEGER, count INTEGER, data BLOB, PRIMARY KEY (topic, first));
CREATE TABLE IF NOT EXISTS subscriptions (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, name TEXT NOT NULL, max_deliveries INTEGER NOT NULL,
    position INTEGER NOT NULL, open TEXT NOT NULL, UNIQUE (topic, name)
);
"""

NO_LIMIT = 0
"""`max_deliveries` of a subscription whose messages never become dead letters."""
DEAD = "dead"
"""The subscription that keeps the dead letters of another, in a topic of their own."""


class StoreError(Exception):
    """The disk is full, or fails. Nothing of what was to be written is. The message is one line."""


@dataclass(frozen=True)
class StoredSubscription:
    """A subscription as the disk has it. `open` maps numbers before `position` to how often they were delivered."""

    id: int
    name: str
    max_deliveries: int
    position: int
    open: dict[int, int]


@dataclass(frozen=True)
class StoredTopic:
    """A topic as the disk has it. `next` is the number that its next message gets."""

    id: int
    name: str
    next: int
    subscriptions: tuple[StoredSubscription, ...]


@dataclass
class Work:
    """What one commit writes."""

    batches: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """Topic, number of the first message, count, and the messages as `broker_frames.encode_batch` has them."""
    states: list[tuple[int, int, dict[int, int]]] = field(default_factory=list)
    """Subscription, position and open messages."""
    floors: list[tuple[int, int]] = field(default_factory=list)
    """Topic, and the number before which no subscription needs anything."""


def dead_topic(topic: str, subscription: str) -> str:
    """Where the dead letters of a subscription are. No topic that users declare has a dot in its name."""
    return f"{topic}.{subscription}.{DEAD}"


class Store:
    """One file. Raises StoreError, also for a file that another broker has open."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0, check_same_thread=False)
            # The write-ahead log's index is then in memory, and a second broker is told so at once.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {path}: {error}") from None

    def topics(self) -> list[StoredTopic]:
        """All topics."""
        return [self._topic(name) for (name,) in self._db.execute("SELECT name FROM topics").fetchall()]

    def declare(self, topic: str, subscriptions: Sequence[str], max_deliveries: int) -> list[StoredTopic]:
        """Make sure of a topic and its subscriptions. Gives it and the topics of its dead letters."""
        names = [topic, *(dead_topic(topic, subscription) for subscription in subscriptions)]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for name in names:
                self._db.execute("INSERT OR IGNORE INTO topics (name, next) VALUES (?, 1)", (name,))
            pairs = [(topic, subscription, max_deliveries) for subscription in subscriptions]
            pairs += [(name, DEAD, NO_LIMIT) for name in names[1:]]
            for name, subscription, most in pairs:
                self._db.execute(
                    "INSERT OR IGNORE INTO subscriptions (topic, name, max_deliveries, position, open)"
                    " SELECT id, ?, ?, next, '{}' FROM topics WHERE name = ?",
                    (subscription, most, name),
                )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._undone(error) from None
        return [self._topic(name) for name in names]

    def commit(self, work: Work) -> None:
        """Write all of it, or nothing. It is on the disk when this returns."""
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO batches VALUES (?, ?, ?, ?)", work.batches)
            nexts = [(first + count, topic) for topic, first, count, _ in work.batches]
            db.executemany("UPDATE topics SET next = ? WHERE id = ?", nexts)
            states = [(position, json.dumps(unfinished), of) for of, position, unfinished in work.states]
            db.executemany("UPDATE subscriptions SET position = ?, open = ? WHERE id = ?", states)
            floors = [(topic, floor, floor) for topic, floor in work.floors]
            db.executemany("DELETE FROM batches WHERE topic = ? AND first < ? AND first + count <= ?", floors)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._undone(error) from None

    def read(self, topic: int, number: int, least_bytes: int) -> tuple[int, list[bytes]]:
        """The row that a message is in and those after it, until they have that many bytes or there are no more: the
        number of the first message, and all messages."""
        bodies: list[bytes] = []
        size = 0
        begin = None
        try:
            rows = self._db.execute(
                "SELECT first, data FROM batches WHERE topic = ?1 AND first >="
                " (SELECT max(first) FROM batches WHERE topic = ?1 AND first <= ?2) ORDER BY first",
                (topic, number),
            )
            for first, data in rows:
                begin = first if begin is None else begin
                bodies += decode_batch(data)
                size += len(data)
                if size >= least_bytes:
                    break
        except sqlite3.Error as error:
            raise StoreError(f"the log cannot be read: {error}") from None
        assert begin is not None, "a message that is needed has been deleted"
        return begin, bodies

    def close(self) -> None:
        self._db.close()

    def _topic(self, name: str) -> StoredTopic:
        topic, upcoming = self._db.execute("SELECT id, next FROM topics WHERE name = ?", (name,)).fetchone()
        rows = self._db.execute(
            "SELECT id, name, max_deliveries, position, open FROM subscriptions WHERE topic = ?", (topic,)
        )
        subscriptions = [
            StoredSubscription(
                identity, of, most, position, {int(number): times for number, times in json.loads(unfinished).items()}
            )
            for identity, of, most, position, unfinished in rows
        ]
        return StoredTopic(topic, name, upcoming, tuple(subscriptions))

    def _undone(self, error: sqlite3.Error) -> StoreError:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        return StoreError(f"the log cannot be written: {error}")
