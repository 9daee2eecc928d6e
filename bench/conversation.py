"""Conversations: what a client and a server say to each other until something is done, as code that runs over any
protocol that can carry it.

One conversation is one exchange of a load: its latency counts from when it was due until it is over. What it says
stands in `clients/patterns/`, one file a pattern; who says it over which connection is in `bench.load.conversing`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import NamedTuple, Protocol

from bench.contract import Exchange


class Reply(NamedTuple):
    """An answer: its status, with the meaning it has in HTTP, and its body."""

    status: int
    body: bytes


class Line(Protocol):
    """A connection that carries calls."""

    opened: bool
    """Whether it still stands."""

    @property
    def calls_at_once(self) -> int:
        """How many calls it carries at a time."""

    async def call(self, exchange: Exchange, timeout_s: float) -> Reply:
        """The answer to a request; `exchange.answer` is not looked at. Raises CallError."""

    def abort(self) -> None:
        """Cut the connection. What is in flight on it fails."""


class Means(Protocol):
    """What a conversation has: a connection of its own, which the next conversation in its place goes on with, and
    whatever else it asks for."""

    payload_bytes: int
    random: Random
    """From the seed of the trial: what happens by chance is the same for all scenarios of a round."""
    topic: str
    """A name that is the trial's own."""

    http_version: str
    """Which HTTP the server's requests are of: "1.1" or "2"."""

    async def call(self, exchange: Exchange, timeout_s: float | None = None) -> Reply:
        """The answer to a request on the conversation's connection, which is opened if it does not stand. The timeout
        is the scenario's, unless one is given. Raises CallError."""

    async def cut_call(self, exchange: Exchange, share: float) -> int:
        """Send the first share of a request, then cut the connection. Gives how many bytes were sent. Raises
        CallError."""

    def leave(self) -> None:
        """Cut the conversation's connection."""

    async def open(self) -> Line:
        """A further connection, for the conversation to close. Raises CallError."""

    def events(self, topic: str, after_id: int) -> AsyncIterator[bytes]:
        """The data of a topic's events after that one, pushed by the protocol's own means, for as long as the iterator
        is not closed. Raises CallError."""

    def url(self, path: str) -> str:
        """Where a library's client finds a path of the server."""

    def tally(self, name: str, count: int = 1) -> None:
        """Count something that the pattern declares (see `bench.patterns`). What conversations outside of the measured
        window count is left out."""


class Conversation(ABC):
    """What is said in one pattern. One object speaks in one place, one conversation after the other. It is made with
    its Means and the words of the pattern (see `bench.patterns`)."""

    @abstractmethod
    async def converse(self) -> None:
        """One conversation, to its end. Raises CallError: the conversation has failed."""

    async def finish(self) -> Mapping[str, int]:
        """What there is to tally once all conversations are over; asked of one of them. Raises CallError."""
        return {}
