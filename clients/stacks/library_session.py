"""What all clients of libraries have in common (see `bench.load.client.Session`)."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Protocol

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind


class Handle(Protocol):
    """What is under way for one exchange."""

    def cancel(self) -> Any:
        """Do no more for it."""


class LibrarySession(ABC):
    """One connection of a library. Ids are numbers."""

    transport_kind: ClassVar = "session"
    most_in_flight: ClassVar[int]
    can_abandon: ClassVar[bool] = True
    """Whether the connection is of use when an answer is no longer waited for."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        self.exchange = exchange
        self.authority = authority
        self.check_content = check_content
        self.max_in_flight = self.most_in_flight
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.in_flight: dict[int, Handle] = {}
        """Oldest first."""
        self._ids = itertools.count()
        self._link: SessionLink
        self._is_open = False

    # What libraries differ in

    @abstractmethod
    async def open(self, host: str, port: int, security: Security | None) -> None:
        """Connect. Raises OSError and ProtocolError."""

    @abstractmethod
    def start(self, exchange_id: int) -> Handle:
        """Start an exchange; `over` is to be called when it is."""

    @abstractmethod
    def shut(self) -> None:
        """Close what `open` has opened, whether it came to its end or not. What was started is cancelled already."""

    # Session

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        self._link = link
        try:
            await self.open(host, port, security)
        except BaseException:
            self.close()
            raise
        self._is_open = True

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = [next(self._ids) for _ in range(count)]
        for exchange_id in ids:
            self.in_flight[exchange_id] = self.start(exchange_id)
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        assert isinstance(exchange_id, int)
        handle = self.in_flight.pop(exchange_id, None)
        if handle is not None:
            handle.cancel()
        return self.can_abandon

    def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        for handle in self.in_flight.values():
            handle.cancel()
        self.in_flight.clear()
        self.shut()
        if self._is_open:
            asyncio.get_running_loop().call_soon(self._link.lost, None)

    # For those who know how a library fares

    def over(self, exchange_id: int, failure: ErrorKind | None) -> None:
        """An exchange has failed like that, or (None) has not."""
        if self.in_flight.pop(exchange_id, None) is None:
            return  # nobody waits for it any more
        if failure is None:
            self._link.answered((exchange_id,))
        else:
            self.failures.append((exchange_id, failure))
            self._link.answered(())

    def judge(self, status_is_good: bool, answer: bytes) -> ErrorKind | None:
        """How an exchange with that answer has failed, if it has."""
        if not status_is_good:
            return "status"
        return "content" if self.check_content and answer != self.exchange.answer else None


def close_soon(closing: Any) -> None:
    """Have a coroutine run that closes something."""
    task = asyncio.get_running_loop().create_task(closing)
    _closing.add(task)  # the loop itself holds only a weak reference
    task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[Any]] = set()
