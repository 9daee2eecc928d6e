"""The lean WebSocket client of mixes (RFC 6455): text messages of several kinds, each answered by one, in order."""

import secrets
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol

from bench.contract import Exchange
from bench.errors import ErrorKind, ProtocolError
from bench.mix import Checks
from bench.wire.websocket import FIN, TEXT, CloseCode, encode_close, encode_frame
from clients.websocket import QUIET_CODES, ClientEnd

_KEY_BYTES = 4
_OK = 200
"""What checks hear of as the status of an answer: messages have none."""


class Form(NamedTuple):
    """A message. The connection's opening request, which all messages of a mix share, goes with it."""

    payload: bytes
    path: str
    opening_fields: bytes


class Asks(Iterator[tuple[int, Form]], Protocol):
    """What is to be sent next (see `bench.load.mixing.Asks`)."""

    checks: Sequence[Checks]
    any_form: Form


class WebsocketMixedClient(ClientEnd):
    """One connection."""

    def __init__(self, asks: Asks, authority: str) -> None:
        super().__init__(asks.any_form.path, authority, asks.any_form.opening_fields)
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.complaints: dict[Hashable, str] = {}
        self._asks = asks
        self._checks = asks.checks
        self._names = len(asks.checks)
        self._asked = 0
        self._due: deque[int] = deque()
        self._completed: list[int] = []
        self._pieces: list[bytes] = []

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> Form:
        fields = "".join(f"{name}: {value}\r\n" for name, value in exchange.fields)
        return Form(exchange.body, exchange.path, fields.encode("latin-1"))

    # Client

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids, pieces = [], []
        for _ in range(count):
            number, form = next(self._asks)
            ids.append(self._asked * self._names + number)
            pieces.append(encode_frame(FIN | TEXT, form.payload, secrets.token_bytes(_KEY_BYTES)))
            self._asked += 1
        self._due.extend(ids)
        return ids, pieces

    def feed(self, data: bytes) -> Sequence[Hashable]:
        self._completed = []
        try:
            self.take(data)
        except ProtocolError as error:
            if not self.max_in_flight:
                raise
            # What was over before the error stays so; what is still due has failed.
            self.closing = True
            self.outgoing.append(encode_close(error.code, key=secrets.token_bytes(_KEY_BYTES)))
            self._fail_rest("protocol")
        return self._completed

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        return False

    def _fail_rest(self, kind: ErrorKind) -> None:
        """Nothing that is still due will be answered."""
        self.failures += [(exchange_id, kind) for exchange_id in self._due]
        self._due.clear()

    # ClientEnd

    def opened(self, extensions: bytes) -> int:
        return 1 << 16

    # MessageReader

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def message_received(self) -> None:
        if not self._due:
            raise ProtocolError("an answer that nothing asked for", CloseCode.POLICY_VIOLATION)
        exchange_id = self._due.popleft()
        body = b"".join(self._pieces)
        self._pieces.clear()
        wrong = self._checks[exchange_id % self._names].wrong(_OK, (), len(body), body)
        if wrong is None:
            self._completed.append(exchange_id)
        else:
            self.failures.append((exchange_id, wrong.kind))
            self.complaints[exchange_id] = wrong.why

    def close_received(self, code: int) -> None:
        super().close_received(code)
        self._fail_rest("closed" if code in QUIET_CODES else "status")
