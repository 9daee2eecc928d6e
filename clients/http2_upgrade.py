"""The lean client of HTTP/2 that begins as HTTP/1.1 (RFC 7540, section 3.2; RFC 9113 has dropped it).

An exchange without a body that may be done at any time asks for the upgrade itself, and its answer follows the 101 as
stream 1: that costs no round trip. The server would have to read all of a body before it could change, so exchanges
with one wait behind a request that asks for nothing else.
"""

from collections.abc import Hashable, Sequence

from bench.contract import SAFE_METHODS, Exchange
from bench.errors import ProtocolError
from bench.wire.http1_heads import HEAD_END, MAX_HEAD_BYTES
from bench.wire.http2_frames import pack_id
from bench.wire.http2_upgrade import encode_upgrade, read_switch
from clients.http2 import FIRST_IN_FLIGHT, Http2Client
from clients.http2_end import OPENING, SETTINGS

_STREAM = pack_id(1)
"""What the request that asks for the upgrade is to HTTP/2."""


class Http2UpgradeClient(Http2Client):
    """One connection: HTTP/1.1 with at most one request until the server changes, then as Http2Client."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__(exchange, authority, check_content)
        self._authority = authority
        self._switched = False
        self._head = b""
        self._next_id = 3
        asks_itself = exchange.method in SAFE_METHODS and not exchange.body
        self.max_in_flight = int(asks_itself)

    def open(self) -> None:
        if not self.max_in_flight:
            self._abandoned[_STREAM] = None  # its answer says nothing
            self.outgoing.append(encode_upgrade("OPTIONS", "*", self._authority, SETTINGS))

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        if self._switched:
            return super().request(count)
        assert count == 1
        assert not self._waiting
        self._waiting.add(_STREAM)
        return (_STREAM,), [encode_upgrade(self._exchange.method, self._exchange.path, self._authority, SETTINGS)]

    def feed(self, data: bytes) -> Sequence[Hashable]:
        if self._switched:
            return super().feed(data)
        data = self._head + data
        while (end := data.find(HEAD_END) + len(HEAD_END)) >= len(HEAD_END) and not self._switched:
            self._switched = read_switch(data[:end])
            data = data[end:]
        if not self._switched:
            if len(data) > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")
            self._head = data
            return ()
        self.max_in_flight = FIRST_IN_FLIGHT
        self.outgoing.append(OPENING)
        return super().feed(data)

    def abandon(self, exchange_id: Hashable) -> bool:
        # Before the change there is nothing that could say so, and whether it comes is not known.
        return self._switched and super().abandon(exchange_id)
