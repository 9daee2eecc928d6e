"""Sessions: what a server remembers of a client between requests, and where that is kept.

memory   in the process that the client logged in to
sqlite   in the server's store, which its processes share and which outlives them
redis    in a Redis, which servers share, and which outlives them
token    with the client: a JSON Web Token (RFC 7519), signed (HMAC-SHA-256, RFC 7518, section 3.2), so that nobody but
         the server can have made it; an older token of the same session is as good as the latest
"""

import contextlib
import math
import secrets
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, Protocol

from bench import contract
from servers.json_bodies import read_object
from servers.service_error import ServiceError
from servers.store import Store

MAX_SESSIONS = 100_000
"""Sessions that a process keeps in memory."""

_ALGORITHM = "HS256"

_REDIS_TIMEOUT_S = 2.0
"""How long Redis may take to let us connect, and to answer."""


class _Kept(Protocol):
    """A place where sessions are kept. A session is a number of visits. Both methods raise ServiceError 503 while the
    place cannot be reached."""

    waits: ClassVar[bool]
    """Whether it may have to wait for another machine, so that it is not to be asked on a thread that others need."""

    def create(self, expires_s: float) -> str:
        """A new session, that has had no visit."""

    def visit(self, session: str) -> tuple[str, int]:
        """The session as it is called from now on, and how many visits it has had with this one. Raises ServiceError
        401 for a session that is not known, or over."""


class _InMemory:
    waits: ClassVar[bool] = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[float, int]] = {}
        """Until when, and how many visits. The oldest is first."""

    def create(self, expires_s: float) -> str:
        session = secrets.token_urlsafe(16)
        with self._lock:
            if len(self._sessions) >= MAX_SESSIONS:
                now_s = time.time()
                self._sessions = {name: kept for name, kept in self._sessions.items() if kept[0] > now_s}
            if len(self._sessions) >= MAX_SESSIONS:
                raise ServiceError(503, f"there are {MAX_SESSIONS} sessions already")
            self._sessions[session] = expires_s, 0
        return session

    def visit(self, session: str) -> tuple[str, int]:
        with self._lock:
            expires_s, visits = self._sessions.get(session, (0.0, 0))
            if expires_s <= time.time():
                self._sessions.pop(session, None)
                raise _unknown()
            self._sessions[session] = expires_s, visits + 1
        return session, visits + 1


class _InStore:
    waits: ClassVar[bool] = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, expires_s: float) -> str:
        session = secrets.token_urlsafe(16)
        with self._store.transaction() as database:
            database.execute("DELETE FROM session WHERE expires_s <= ?", (time.time(),))
            database.execute("INSERT INTO session VALUES (?, 0, ?)", (session, expires_s))
        return session

    def visit(self, session: str) -> tuple[str, int]:
        with self._store.transaction() as database:
            changed = database.execute(
                "UPDATE session SET visits = visits + 1 WHERE id = ? AND expires_s > ?", (session, time.time())
            ).rowcount
            if not changed:
                raise _unknown()
            (visits,) = database.execute("SELECT visits FROM session WHERE id = ?", (session,)).fetchone()
        return session, visits


class _InRedis:
    """A session is a key with its number of visits, which Redis forgets when it is over."""

    waits: ClassVar[bool] = True

    def __init__(self, address: str) -> None:
        self._address = address

    def create(self, expires_s: float) -> str:
        session = secrets.token_urlsafe(16)
        life_ms = max(1, round((expires_s - time.time()) * 1000))
        with self._saying() as client:
            client.set(_key(session), 0, px=life_ms)
        return session

    def visit(self, session: str) -> tuple[str, int]:
        with self._saying():
            visits: int = self._count_visit(keys=[_key(session)])
        if not visits:
            raise _unknown()
        return session, visits

    @contextlib.contextmanager
    def _saying(self) -> Iterator[Any]:
        """The client. Raises ServiceError for whatever it raises."""
        from redis.exceptions import RedisError

        try:
            yield self._client
        except RedisError as error:
            raise ServiceError(503, f"the sessions' Redis: {error}") from None

    @cached_property
    def _client(self) -> Any:
        """Made with the first session, so after whatever fork made the process. Nothing is tried again: what was
        counted and not answered would count twice."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self._address,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

    @cached_property
    def _count_visit(self) -> Any:
        """INCR, of a key that is there only."""
        return self._client.register_script(
            "return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('INCR', KEYS[1]) or 0"
        )


def _key(session: str) -> bytes:
    return b"wirebench-session-" + session.encode()


class _InToken:
    """The key is in the store, for all processes and for those after a restart; each reads it once."""

    waits: ClassVar[bool] = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = b""

    def create(self, expires_s: float) -> str:
        return self._signed(0, expires_s)

    def visit(self, session: str) -> tuple[str, int]:
        import jwt  # a third of what a server takes to start; few have tokens

        try:
            claims = jwt.decode(session, self._signing_key(), [_ALGORITHM], options={"require": ["exp", "visits"]})
        except jwt.ExpiredSignatureError:
            raise ServiceError(401, "the token has expired; log in again") from None
        except jwt.InvalidTokenError as error:
            raise ServiceError(401, f"not a token of this server: {error}; log in again") from None
        visits = claims["visits"] + 1
        return self._signed(visits, claims["exp"]), visits

    def _signed(self, visits: int, expires_s: float) -> str:
        import jwt

        return jwt.encode({"exp": math.ceil(expires_s), "visits": visits}, self._signing_key(), _ALGORITHM)

    def _signing_key(self) -> bytes:
        if not self._key:
            with self._store.transaction() as database:
                database.execute("INSERT OR IGNORE INTO secret VALUES ('token', ?)", (secrets.token_bytes(32),))
                (self._key,) = database.execute("SELECT value FROM secret WHERE name = 'token'").fetchone()
        return self._key


class Sessions:
    """The sessions of a server, wherever they are kept. Safe to use from many threads."""

    def __init__(self, store: Store, redis: str = "") -> None:
        """`redis` is the address of one, if there is one."""
        self._kept: dict[str, _Kept] = {"memory": _InMemory(), "sqlite": _InStore(store), "token": _InToken(store)}
        if redis:
            self._kept["redis"] = _InRedis(redis)

    def waits(self, kept: str) -> bool:
        """Whether sessions in that place are not to be asked for on a thread that others need."""
        return kept in self._kept and self._kept[kept].waits

    def create(self, kept: str, life_s: float) -> bytes:
        """A new session, for so long. Raises ServiceError 400 for a place that is none, 503 for one too many."""
        return contract.encode_session(self._place(kept).create(time.time() + life_s), 0)

    def visit(self, kept: str, body: bytes) -> bytes:
        """Another visit of the session in `{"session": "..."}`. Raises ServiceError 400, and 401 for a session that is
        not known or over."""
        session = read_object(body, "a visit").get("session")
        if not isinstance(session, str):
            raise ServiceError(400, 'a visit names its session, like {"session": "a1b2"}')
        return contract.encode_session(*self._place(kept).visit(session))

    def _place(self, kept: str) -> _Kept:
        if kept not in self._kept:
            raise ServiceError(400, f"sessions are kept in {', '.join(self._kept)}, not in {kept:.40}")
        return self._kept[kept]


def _unknown() -> ServiceError:
    return ServiceError(401, "the session is not known here, or over; log in again")
