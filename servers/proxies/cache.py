"""A small shared cache (RFC 9111): whole answers to GET that say themselves for how long they are fresh, and nothing
that is anybody's own. Nothing is revalidated: what is stale is fetched again."""

import re
import time
from collections import OrderedDict
from dataclasses import dataclass

from servers.proxies.exchange import SAFE, Downstream, Exchange
from servers.proxies.fields import Fields, tokens, value_of
from servers.proxies.splice import End

_MAX_ENTRY_BYTES = 64 * 1024
_ENTRY_COST_BYTES = 512
"""What an entry takes beside its body, roughly."""
_MAX_AGE = re.compile(rb'(s-maxage|max-age)="?(\d{1,9})"?')
_NOT_FROM_CACHE = frozenset(
    (
        b"authorization",
        b"range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
    )
)


@dataclass(frozen=True, slots=True)
class _Entry:
    fields: Fields
    body: bytes
    made_s: float
    """When it was fresh altogether, of time.monotonic."""
    fresh_s: int


class Cache:
    """What is kept, the entry that was stored longest ago first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[bytes, bytes], _Entry] = OrderedDict()

    def answer(self, exchange: Exchange) -> bool:
        """Answer an exchange, if that can be. If not, its answer may be kept when it comes."""
        if exchange.method not in SAFE:
            exchange.down = _Watching(exchange.down, self)
            return False
        if exchange.method != b"GET" or exchange.has_body or exchange.upgrade is not None or _asks_the_origin(exchange):
            return False
        entry = self._entries.get((exchange.authority, exchange.target))
        if entry is not None:
            age_s = int(time.monotonic() - entry.made_s)
            if age_s < entry.fresh_s:
                exchange.serve(200, [*entry.fields, (b"age", b"%d" % age_s)], entry.body)
                return True
            self.forget(exchange)
        exchange.down = _Watching(exchange.down, self)
        return False

    def keep(self, exchange: Exchange, fields: Fields, body: bytes, fresh_s: int) -> None:
        """Store a whole answer."""
        self.forget(exchange)
        age = value_of(fields, b"age") or b""
        age_s = int(age) if age.isdigit() else 0
        kept = [field for field in fields if field[0].lower() != b"age"]
        self._entries[exchange.authority, exchange.target] = _Entry(kept, body, time.monotonic() - age_s, fresh_s)
        self._bytes += len(body) + _ENTRY_COST_BYTES
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= len(oldest.body) + _ENTRY_COST_BYTES

    def forget(self, exchange: Exchange) -> None:
        """What is kept of that target is no longer true, perhaps."""
        entry = self._entries.pop((exchange.authority, exchange.target), None)
        if entry is not None:
            self._bytes -= len(entry.body) + _ENTRY_COST_BYTES


class _Watching:
    """A client's side that keeps the answer too, where that may be, or lets an unsafe request invalidate what is kept
    (section 4.4)."""

    def __init__(self, down: Downstream, cache: Cache) -> None:
        self._down = down
        self._cache = cache
        self._fields: Fields = []
        self._fresh_s = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self.interim = down.interim
        self.answer_flush = down.answer_flush
        self.failed = down.failed
        self.cut = down.cut
        self.room = down.room
        self.connected = down.connected

    def answer_head(self, exchange: Exchange, status: int, fields: Fields, length: int | None) -> None:
        if exchange.method not in SAFE:
            if status < 400:
                self._cache.forget(exchange)
        elif status == 200 and (length or 0) <= _MAX_ENTRY_BYTES:
            self._fields, self._fresh_s = fields, _fresh_s(fields)
        self._down.answer_head(exchange, status, fields, length)

    def answer_piece(self, exchange: Exchange, data: bytes) -> None:
        if self._fresh_s:
            self._size += len(data)
            if self._size > _MAX_ENTRY_BYTES:
                self._fresh_s = 0
                self._pieces.clear()
            else:
                self._pieces.append(data)
        self._down.answer_piece(exchange, data)

    def answer_end(self, exchange: Exchange) -> None:
        if self._fresh_s and not exchange.trailers:
            self._cache.keep(exchange, self._fields, b"".join(self._pieces), self._fresh_s)
        self._down.answer_end(exchange)

    def switched(self, exchange: Exchange, fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        raise AssertionError("a request that changes the protocol is not looked at by the cache")


def _asks_the_origin(exchange: Exchange) -> bool:
    """Whether a request has to go to the origin, and its answer is not to be kept."""
    for name, value in exchange.fields:
        lower = name.lower()
        if lower in _NOT_FROM_CACHE:
            return True
        if lower in (b"cache-control", b"pragma") and not {b"no-cache", b"no-store", b"max-age=0"}.isdisjoint(
            tokens(value)
        ):
            return True
    return False


def _fresh_s(fields: Fields) -> int:
    """For how long an answer may be given again; 0 if it may not."""
    control = value_of(fields, b"cache-control")
    if control is None or any(value_of(fields, name) is not None for name in (b"vary", b"set-cookie")):
        return 0
    directives = tokens(control)
    if any(directive.partition(b"=")[0] in (b"no-store", b"private", b"no-cache") for directive in directives):
        return 0
    ages = {found[1]: int(found[2]) for directive in directives if (found := _MAX_AGE.fullmatch(directive))}
    return ages.get(b"s-maxage", ages.get(b"max-age", 0))
