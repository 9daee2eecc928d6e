"""What the engine needs of a protocol: a sans-IO client that keeps many exchanges in flight on one connection.

The engine owns the sockets, the clock and the records; a client owns the bytes. A new client is made for each
connection and thrown away with it. Clients live in `clients/` and are found by name through `bench.registry`.

The hot path is `request` and `feed`: no object for each exchange, answer to answer in one call, ids that are cheap to
hash. Every answer is checked, status and content; a client whose answers are all the same bytes may compare them with
the bytes of one that it has parsed and checked in full.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Literal, Protocol

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind


class Client(Protocol):
    """One connection's worth of protocol."""

    transport_kind: ClassVar[Literal["stream", "datagram"]]

    alpn: ClassVar[tuple[str, ...]]
    """What it speaks over TLS, by the names of ALPN (RFC 7301); empty for what has no name."""

    max_in_flight: int
    """How many exchanges the connection can carry now: 0 until the protocol's own opening handshake is over. It may
    change with each `feed`."""

    closing: bool
    """The server takes no further request on this connection (`Connection: close`, GOAWAY)."""

    outgoing: list[bytes]
    """What the protocol itself has to send (acknowledgements, more of a body). The engine sends it after each call and
    clears the list."""

    failures: list[tuple[Hashable, ErrorKind]]
    """Exchanges that ended with an error. The engine counts them after each `feed` and clears the list."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        """`authority` is "host:port". Without `check_content` only the status and the framing are checked: the target
        is not a server of ours."""

    def open(self) -> None:
        """The connection is up. What has to be said first goes to `outgoing`."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        """The ids of the next `count` exchanges, and what to send for them: bytes of the stream, or one datagram each.

        `count` is at most what `max_in_flight` leaves.
        """

    def feed(self, data: bytes) -> Sequence[Hashable]:
        """Take bytes of the stream, or one datagram. Gives the ids of the exchanges that it completes.

        Raises ProtocolError if the connection can't go on; the engine counts what was in flight and reconnects.
        """

    def feed_eof(self) -> Sequence[Hashable]:
        """The server closed its side. Gives the ids of the exchanges that this completes."""

    def again(self) -> tuple[bytes, Callable[[], bytes]] | None:
        """With one exchange in flight: its answer, byte for byte, known to be right, and a call that gives what asks
        the same once more under the same id. For as long as the answers are those bytes the engine asks again by
        itself, and the client stands still. None where there is no such pair: answers differ, or one that came late
        could be taken for the next (datagrams).
        """

    def abandon(self, exchange_id: Hashable) -> bool:
        """The engine gave up waiting for an answer. False if the connection is of no further use (the answers that
        follow could not be told apart); else a late answer to it is ignored."""


class Session(Protocol):
    """A client that does its own input and output, on the running event loop: one connection, as a library has it.

    It tells the link what is over: `link.answered` and `link.lost` (see `bench.contract.SessionLink`). Where the
    security that it connects with asks for a handshake that is not full, it has `shortfall` too (an ErrorKind or None):
    how the handshake was less than that, once an answer is there; and `tickets(address, security)`, the deque in which
    its connections leave tickets for each other.
    """

    transport_kind: ClassVar[Literal["session"]]
    max_in_flight: int
    closing: bool
    failures: list[tuple[Hashable, ErrorKind]]

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None: ...

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        """Open the connection; on return exchanges may be sent. Raises OSError (ssl.SSLError among them) and
        ProtocolError."""

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        """Send the next `count` exchanges, by the end of the loop's turn. Gives their ids, and nothing to send."""

    def abandon(self, exchange_id: Hashable) -> bool:
        """As `Client.abandon`."""

    def close(self) -> None:
        """End the connection; telling the link is not needed. Nothing of it runs on afterwards, save what waits for a
        ticket."""
