"""One subscription of a conversation: events as they come, to be awaited."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bench.errors import CallError, ErrorKind, ProtocolError
from bench.load.link import FedLine
from bench.load.push import Subscriber


class Events(FedLine):
    """A subscriber's connection. Iterating gives the data of each event, until `abort`; a connection that ends or
    breaks the protocol meanwhile is a CallError."""

    def __init__(self, subscriber: Subscriber) -> None:
        super().__init__(subscriber, 1)
        self._arrived: asyncio.Queue[bytes | ErrorKind] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._arrived.get(), str):
            yield event
        raise CallError(event)

    # FedLine

    def take(self, said: Sequence[bytes]) -> None:
        for event in said:
            self._arrived.put_nowait(event)

    def broken(self, error: ProtocolError) -> None:
        self._arrived.put_nowait("protocol")

    # SessionLink

    def answered(self, events: Sequence[Any]) -> None:
        self.take(events)

    def ended(self) -> None:
        self._arrived.put_nowait("closed")
