"""Calls: any request on a connection, and its answer, for conversations (see `bench.conversation`).

A caller is sans-IO, like `bench.load.client.Client`: the line owns the socket. It is not the hot path of a load, so
each call may ask for something else, and each answer is seen whole.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal, Protocol

from bench.contract import Exchange
from bench.conversation import Reply
from bench.errors import CallError, ErrorKind, ProtocolError
from bench.load.link import FedLine

Replies = Sequence[tuple[Hashable, Reply]]


class Caller(Protocol):
    """One connection's worth of protocol."""

    transport_kind: ClassVar[Literal["stream", "session"]]
    """A session does its own input and output (see `bench.load.client.Session`): what it asks it sends itself, what is
    answered it tells its line, and it has `begin`, as `CallLine.begin`."""
    alpn: ClassVar[tuple[str, ...]]
    max_in_flight: int
    """How many calls the connection carries now; 0 until the protocol's own opening handshake is over."""
    closing: bool
    """The server takes no further call on this connection."""
    outgoing: list[bytes]

    def __init__(self, authority: str, scheme: str) -> None:
        """`authority` is "host:port"."""

    def open(self) -> None:
        """The connection is up."""

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        """The id of a call, and what to send for it. `exchange.answer` is not looked at."""

    def feed(self, data: bytes) -> Replies:
        """Take bytes of the stream. Gives the calls that they complete. Raises ProtocolError."""

    def feed_eof(self) -> Replies:
        """The server closed its side."""


class CallLine(FedLine):
    """A connection that carries calls: at once as many as the protocol takes, and further ones in their turn."""

    def __init__(self, caller: Caller, in_flight: int = 100) -> None:
        super().__init__(caller, in_flight)
        self._calls: dict[Hashable, asyncio.Future[Reply]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        """Calls that have no room yet, first come first served."""
        self._promised = 0
        """Room that was given to calls which have not taken it yet."""

    @property
    def calls_at_once(self) -> int:
        """How many calls it carries at a time."""
        return self.limit

    async def call(self, exchange: Exchange, timeout_s: float) -> Reply:
        """See `bench.conversation.Line`. After a timeout the connection is of no further use."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._room()
                if not self.opened or self.client.closing:
                    raise CallError("closed", "the connection has ended")
                call_id, pieces = self.client.ask(exchange)
                answered = self._calls[call_id] = asyncio.get_running_loop().create_future()
                if pieces:
                    self._write(b"".join(pieces))
                reply: Reply = await answered
                return reply
        except TimeoutError:
            self.abort()
            raise CallError("timeout", f"{exchange.method} {exchange.path}: no answer in {timeout_s:g} s") from None

    async def _room(self) -> None:
        if self.opened and len(self._calls) + self._promised >= self.limit:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
            self._promised -= 1

    def begin(self, exchange: Exchange, share: float) -> int:
        """Send the first share of a call, for which no answer is expected. Gives how many bytes were sent."""
        if self.client.transport_kind == "session":
            sent: int = self.client.begin(exchange, share)
            return sent
        _, pieces = self.client.ask(exchange)
        whole = b"".join(pieces)
        part = whole[: int(len(whole) * share)]
        self._write(part)
        return len(part)

    # asyncio

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.client.closing and not self._calls and self._transport is not None:
            self.opened = False
            self._transport.close()
            self._fail("closed")

    # FedLine

    def take(self, said: Replies) -> None:
        for call_id, reply in said:
            answered = self._calls.pop(call_id, None)
            if answered is not None and not answered.done():
                answered.set_result(reply)
            self._promise()

    def broken(self, error: ProtocolError) -> None:
        self._fail("protocol")

    # SessionLink

    def answered(self, replies: Replies) -> None:
        """What a session calls: these calls are answered, and those in its `failures` have failed."""
        self.limit = min(self._in_flight, self.client.max_in_flight)
        self.take(replies)
        failures, self.client.failures = self.client.failures, []
        for call_id, kind in failures:
            failed = self._calls.pop(call_id, None)
            if failed is not None and not failed.done():
                failed.set_exception(CallError(kind))
            self._promise()

    def ended(self) -> None:
        self._fail("closed")

    def abort(self) -> None:
        self.opened = False
        super().abort()
        self._fail("closed")

    def _fail(self, kind: ErrorKind) -> None:
        calls, self._calls = self._calls, {}
        for answered in calls.values():
            if not answered.done():
                answered.set_exception(CallError(kind))
        while self._waiting:
            self._promise()

    def _promise(self) -> None:
        """Give room to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # one that has given up is passed over
                turn.set_result(None)
                self._promised += 1
                return
