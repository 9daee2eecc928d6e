"""Events on their way from a topic to a client of an ASGI server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from servers.topics import Event, Post, Topic

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_WAITING = 64
"""Events that may wait for the server to take them, before those that follow have to wait in the topic."""


class Delivery:
    """A subscription whose events wait, as what ASGI calls messages, until they are sent."""

    def __init__(self, encode: Callable[[Event], Message], topic: Topic, post: Post) -> None:
        self._encode = encode
        self._topic = topic
        self._post = post
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue()
        self._ended = False
        self.behind = False
        """It has ended because the client was too slow."""

    def begin(self, after_id: int | None = None) -> None:
        """Want the topic's events from now on, or from the one after `after_id`."""
        self._topic.subscribe(self, self._post, after_id)

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self.put(self._encode(event))
        return self._waiting.qsize() < MAX_WAITING

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self.behind = True
        self.end()

    def put(self, message: Message) -> None:
        """Have a message sent after those that wait."""
        if not self._ended:
            self._waiting.put_nowait(message)

    def end(self) -> None:
        """Have nothing sent after what waits."""
        for event in self.leave():
            self.put(self._encode(event))
        if not self._ended:
            self._ended = True
            self._waiting.put_nowait(None)

    def leave(self) -> list[Event]:
        """Want no more events. Gives those that still wait in the topic."""
        return self._topic.unsubscribe(self, self._post)

    async def send_all(self, send: Send) -> None:
        """Send all there is, until the end."""
        while (message := await self._waiting.get()) is not None:
            await send(message)
            if self._waiting.qsize() < MAX_WAITING:
                self._topic.drained(self, self._post)
