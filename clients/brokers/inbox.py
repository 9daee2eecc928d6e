"""What has arrived for a reader and was not taken yet: the libraries' callbacks put in, `receive` takes out."""

import asyncio

from bench.wire.brokers import BrokerError, Message


class Inbox:
    """Messages in the order in which they came, then the error that ended them."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._error: BrokerError | None = None
        self._wake = asyncio.Event()

    def put(self, *messages: Message) -> None:
        self._messages += messages
        self._wake.set()

    def fail(self, error: BrokerError) -> None:
        """Nothing more will come. The first reason is the one that is kept."""
        self._error = self._error or error
        self._wake.set()

    def check(self) -> None:
        """Raises the error, if there is one."""
        if self._error is not None:
            raise type(self._error)(str(self._error))

    async def take(self) -> list[Message]:
        """All that is there, at least one message: waits for it. Raises BrokerError."""
        while not self._messages:
            self.check()
            self._wake.clear()
            await self._wake.wait()
        messages, self._messages = self._messages, []
        return messages
