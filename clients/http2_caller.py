"""The lean HTTP/2 caller (RFC 9113): calls of any kind, each a stream of its own (see `bench.load.calls.Caller`)."""

from collections.abc import Hashable, Sequence

from bench.contract import Exchange
from bench.conversation import Reply
from bench.wire.priorities import urgency_fields
from clients.http2_asking import Asked, AskingPeer

_MAX_CALLS = 1 << 16


class Http2Caller(AskingPeer):
    """One connection. A call's id is its stream's."""

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__(authority, scheme)
        self.closing = False
        self._replies: list[tuple[int, Reply]] = []

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        call = self.request(exchange.method, exchange.path, urgency_fields(exchange.urgency), exchange.body)
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return call.id, to_send

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self._replies = []
        self.take(data)
        return self._replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        return ()

    # AskingPeer

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, _MAX_CALLS)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True

    def answered(self, asked: Asked) -> None:
        self._replies.append((asked.id, Reply(asked.status, b"".join(asked.pieces))))
