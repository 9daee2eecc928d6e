"""Clients of WebSocket libraries: binary messages, each answered by one, in the order of the requests."""

import asyncio
from abc import abstractmethod
from typing import ClassVar

from bench.errors import ProtocolError
from clients.stacks.library_session import Handle, LibrarySession

MAX_IN_FLIGHT = 1000


class MessageSession(LibrarySession):
    """One connection: a task for each request until it is sent, and one that reads the answers."""

    most_in_flight: ClassVar[int] = MAX_IN_FLIGHT
    can_abandon: ClassVar[bool] = False  # a late answer would be taken for the next

    _reading: asyncio.Task[None] | None = None

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send a binary message. Raises OSError if the connection is lost."""

    @abstractmethod
    async def receive(self) -> str | bytes:
        """The next message. Raises OSError if the connection is lost, and ProtocolError if it was broken."""

    def begin(self) -> None:
        """The connection stands."""
        self._reading = asyncio.get_running_loop().create_task(self._read())

    def start(self, exchange_id: int) -> Handle:
        return asyncio.get_running_loop().create_task(self._send())

    def stop_reading(self) -> None:
        """The connection is about to be closed."""
        if self._reading is not None:
            self._reading.cancel()

    async def _send(self) -> None:
        try:
            await self.send(self.exchange.body)
        except OSError:
            self.close()

    async def _read(self) -> None:
        try:
            while True:
                message = await self.receive()
                if not self.in_flight:
                    raise ProtocolError("a message that answers nothing")
                oldest = next(iter(self.in_flight))
                self.over(oldest, self.judge(True, message) if isinstance(message, bytes) else "content")
        except OSError:
            self.close()
        except ProtocolError:
            for exchange_id in list(self.in_flight):
                self.over(exchange_id, "protocol")
            self.close()
