"""The todo list: the small application that remote procedure calls and REST are compared with."""

import threading
from collections import deque
from itertools import islice

from bench.contract import SEEDED_TODOS, Todo, seeded_todo
from servers.service_error import ServiceError

MAX_CREATED = 10_000
"""Created todos that are kept; the oldest make room."""

MAX_TEXT_CHARACTERS = 1000


class Todos:
    """A list of todos. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seeded = tuple(map(seeded_todo, range(1, SEEDED_TODOS + 1)))
        self._created: deque[Todo] = deque(maxlen=MAX_CREATED)
        self._next_id = SEEDED_TODOS + 1

    def create(self, text: str) -> Todo:
        """Add a todo. Raises ServiceError 400 for a text that is empty, too long, or cannot be written in UTF-8."""
        if not 1 <= len(text) <= MAX_TEXT_CHARACTERS:
            raise ServiceError(400, f"text: must have 1 to {MAX_TEXT_CHARACTERS} characters")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ServiceError(400, "text: has half of a surrogate pair") from None
        with self._lock:
            todo = Todo(self._next_id, text, False)
            self._next_id += 1
            self._created.append(todo)
        return todo

    def read(self, limit: int) -> tuple[Todo, ...]:
        """The first `limit` todos, in the order of their ids. Raises ServiceError 400 for a limit that is none."""
        if not 0 <= limit <= SEEDED_TODOS + MAX_CREATED:
            raise ServiceError(400, f"limit: must be 0 to {SEEDED_TODOS + MAX_CREATED}")
        if limit <= SEEDED_TODOS:
            return self._seeded[:limit]
        with self._lock:
            return (*self._seeded, *islice(self._created, limit - SEEDED_TODOS))
