"""What every broker is to its users: the seam that `clients.brokers` fills, one file for each broker, and its errors.

A topic has named subscriptions, each of which gets every message that is published after it was declared, whether
somebody reads then or not. A subscription has one reader at a time. What a reader did not acknowledge is delivered
again, to it or to the next; after `max_deliveries`, or when the reader rejects it, a message becomes a dead letter of
its subscription, and is kept there to be read.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from bench.errors import TargetError

AckWhen = Literal["before", "after"]
"""When a reader acknowledges: before the work (a message is worked on once at most) or after it (once at least)."""


class BrokerError(TargetError):
    """A broker did not do what it was asked. `unconfirmed` counts the messages of a publish that it did not confirm:
    they may be published or not, and are safe to publish again where duplicates are."""

    def __init__(self, message: str, unconfirmed: int = 0) -> None:
        super().__init__(message)
        self.unconfirmed = unconfirmed


class BrokerDownError(BrokerError):
    """Nobody answers at the broker's address."""


class LoginRefusedError(BrokerError):
    """The broker does not let this user in."""


class UnknownTopicError(BrokerError):
    """The topic, or the subscription, was not declared."""


class PublishRefusedError(BrokerError):
    """The broker took the messages and refused them: its disk is full, or a limit of its is reached."""


class BrokerLostError(BrokerError):
    """The broker has ended the connection or the channel."""


@dataclass(frozen=True)
class Topic:
    """What is declared. Names are letters, digits, "-" and "_"."""

    name: str
    subscriptions: tuple[str, ...]
    max_deliveries: int = 5
    """After so many a message that was not acknowledged is a dead letter."""


class Message(NamedTuple):
    """One message as a reader gets it. `deliveries` counts this one; where a broker tells only that it is not the
    first, it is 2."""

    receipt: Hashable
    """What the broker knows this delivery by."""
    deliveries: int
    body: bytes


class Publisher(Protocol):
    """Publishes to one topic."""

    async def publish(self, bodies: Sequence[bytes]) -> None:
        """Returns when the broker has confirmed all of them. Several calls may wait at once. Raises BrokerError."""

    async def close(self) -> None: ...


class Reader(Protocol):
    """Reads one subscription."""

    async def receive(self) -> Sequence[Message]:
        """The messages that have arrived, at least one: waits for it. Raises BrokerError."""

    async def ack(self, messages: Sequence[Message]) -> None:
        """These are done with. Only for readers that acknowledge after the work."""

    async def reject(self, messages: Sequence[Message], requeue: bool = False) -> None:
        """These could not be worked on: they become dead letters, or are delivered again, which counts. Only for
        readers that acknowledge after the work."""

    async def close(self) -> None:
        """What was received and not acknowledged will be delivered again."""


class Broker(Protocol):
    """One user's connections to a broker."""

    async def declare(self, topic: Topic) -> None:
        """Make sure of the topic and its subscriptions. What is there already is kept."""

    async def publisher(self, topic: str) -> Publisher:
        """Raises UnknownTopicError."""

    async def reader(self, topic: str, subscription: str, prefetch: int, ack: AckWhen) -> Reader:
        """At most `prefetch` messages are delivered and not acknowledged. Raises UnknownTopicError."""

    async def dead_letters(self, topic: str, subscription: str) -> Reader:
        """Reads the dead letters of a subscription, and acknowledges after the work."""

    async def close(self) -> None: ...


class Connect(Protocol):
    """How a user comes to a broker: what the entries of `bench.brokers` name."""

    async def __call__(self, address: str) -> Broker:
        """Raises BrokerDownError, LoginRefusedError."""


def without_login(address: str) -> str:
    """An address as messages may show it: without user and password."""
    scheme, separator, rest = address.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
