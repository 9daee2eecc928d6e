"""Subscribers that ask for events, over any protocol that can ask: see `bench.load.push.Subscriber` for what they are
to the load, and the operation poll of the service for what they ask."""

from collections.abc import Hashable, Sequence
from typing import Any

from bench import contract
from bench.errors import ProtocolError

_OK = 200


class Poller:
    """One subscriber around a caller of the protocol. The first poll asks where the topic stands, those that follow for
    what has come since. `wait_ms` is how long a poll may be held back; 0 is short polling."""

    def __init__(self, caller: Any, topic: str, wait_ms: int) -> None:
        self.transport_kind = caller.transport_kind
        self.alpn = caller.alpn
        self.max_in_flight = 0
        self.outgoing: list[bytes] = []
        self.polls = self.empty = 0
        self.last_id: int | None = None
        """The last event that was taken; None until the topic has said where it stands."""
        self.due = False
        """Whether the next poll may be asked now."""
        self._caller = caller
        self._topic = topic
        self._wait_ms = wait_ms
        self._asked: Hashable = None

    def open(self) -> None:
        self._caller.open()
        self._take_outgoing()
        self._begin_if_usable()

    async def connect(self, host: str, port: int, security: Any, link: Any) -> None:
        """Of a caller that is a session."""
        await self._caller.connect(host, port, security, link)
        self._begin_if_usable()

    def close(self) -> None:
        """Of a caller that is a session."""
        self._caller.close()

    def poll(self) -> None:
        """Ask for events. What is to be sent goes to `outgoing`."""
        self.due = False
        self.polls += self.last_id is not None
        self._asked, pieces = self._caller.ask(contract.poll(self._topic, self.last_id, self._wait_ms))
        self.outgoing += pieces

    def feed(self, data: bytes) -> Sequence[bytes]:
        replies = self._caller.feed(data)
        self._take_outgoing()
        events = self.take(replies) if replies else ()
        self._begin_if_usable()
        return events

    def feed_eof(self) -> Sequence[bytes]:
        return self.take(self._caller.feed_eof())

    def take(self, replies: Sequence[tuple[Hashable, Any]]) -> Sequence[bytes]:
        """The data of the events that these answers bring. Raises ProtocolError for an answer that is none."""
        events: list[bytes] = []
        for call_id, reply in replies:
            if call_id != self._asked:
                continue
            if reply.status != _OK:
                raise ProtocolError(f"a poll was answered with {reply.status}", reply.status)
            try:
                found = contract.decode_poll(reply.body)
            except ValueError as error:
                raise ProtocolError(str(error)) from None
            if self.last_id is not None:
                events += found.events
                self.empty += not found.events
            self.last_id = found.last
            self.max_in_flight = 1
            self.due = True
        return events

    def _begin_if_usable(self) -> None:
        if self._asked is None and self._caller.max_in_flight:
            self.poll()

    def _take_outgoing(self) -> None:
        self.outgoing += self._caller.outgoing
        self._caller.outgoing.clear()
