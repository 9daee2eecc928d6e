"""What the WebSocket tests share: a reader that writes down what it reads, and cuts."""

from collections.abc import Iterator
from itertools import pairwise

from bench.errors import ProtocolError
from bench.wire.websocket import MessageReader

Event = tuple[str | int, bytes | int]
"""An opcode with a payload, ("ping", payload), ("close", code), or ("error", code)."""


class Log(MessageReader):
    """What was read, in order."""

    peer_masks = True

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._opcode_begun = 0
        self._pieces: list[bytes] = []

    def read(self, data: bytes) -> None:
        """As `parse`, with an error as the last event."""
        if self.events and self.events[-1][0] == "error":
            return
        try:
            self.parse(data)
        except ProtocolError as error:
            self.events.append(("error", error.code))

    def message_begun(self, opcode: int) -> None:
        self._opcode_begun = opcode

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def message_received(self) -> None:
        self.events.append((self._opcode_begun, b"".join(self._pieces)))
        self._pieces.clear()

    def ping_received(self, payload: bytes) -> None:
        self.events.append(("ping", payload))

    def close_received(self, code: int) -> None:
        self.events.append(("close", code))


class ClientLog(Log):
    """The client's side of it."""

    peer_masks = False


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Data in pieces, cut at those offsets (modulo its length)."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return (data[start:end] for start, end in pairwise(edges))
