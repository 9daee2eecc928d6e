"""Events on their way from a topic to a client of an ASGI server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from servers.topics import HISTORY, Event

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Delivery:
    """A subscription whose events wait, as what ASGI calls messages, until they are sent."""

    def __init__(self, encode: Callable[[Event], Message]) -> None:
        self._encode = encode
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue()
        self._last_id = 0
        self._ended = False
        self.behind = False
        """It has ended because an event was lost: more had come than may wait."""

    def deliver(self, event: Event) -> None:
        """Called by the topic."""
        last_id, self._last_id = self._last_id, event.id
        if self._waiting.qsize() >= HISTORY or last_id not in (0, event.id - 1):
            self.behind = True
            self.end()
        else:
            self.put(self._encode(event))

    def put(self, message: Message) -> None:
        """Have a message sent after those that wait."""
        if not self._ended:
            self._waiting.put_nowait(message)

    def end(self) -> None:
        """Have nothing sent after what waits."""
        if not self._ended:
            self._ended = True
            self._waiting.put_nowait(None)

    async def send_all(self, send: Send) -> None:
        """Send all there is, until the end."""
        while (message := await self._waiting.get()) is not None:
            await send(message)
