"""One subscription of a conversation: events as they come, to be awaited."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from typing import Any

from bench.errors import CallError, ErrorKind, ProtocolError
from bench.load.link import Line
from bench.load.push import Subscriber


class Events(Line):
    """A subscriber's connection. Iterating gives the data of each event, until `abort`; a connection that ends or
    breaks the protocol meanwhile is a CallError."""

    def __init__(self, subscriber: Subscriber) -> None:
        super().__init__(subscriber, 1)
        self.sent: dict[Hashable, int] = {}
        """No exchange is ever in flight."""
        self._arrived: asyncio.Queue[bytes | ErrorKind] = asyncio.Queue()
        self._feed: Any = getattr(subscriber, "feed", None)  # a session has none

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._arrived.get(), str):
            yield event
        raise CallError(event)

    # asyncio

    def data_received(self, data: bytes) -> None:
        try:
            events = self._feed(data)
        except ProtocolError as error:
            self._refuse(error)
            self._arrived.put_nowait("protocol")
            self._abort()
            return
        self.answered(events)
        if self.client.outgoing or not self.limit:
            self._send_outgoing()

    def eof_received(self) -> bool:
        self.answered(self.client.feed_eof())
        return False

    # SessionLink

    def answered(self, events: Sequence[Any]) -> None:
        for event in events:
            self._arrived.put_nowait(event)

    def ended(self) -> None:
        self._arrived.put_nowait("closed")
