"""The lean WebSocket client (RFC 6455): binary messages, each answered by one, in order.

An answer that was parsed, checked in full and came while nothing else was due becomes the template: bytes that are the
same need no second parse, for a reader at rest would find the same in them. Whatever differs is parsed and checked.
"""

import secrets
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Final, Literal

from bench.contract import Exchange
from bench.conversation import Reply
from bench.errors import ErrorKind, ProtocolError
from bench.wire.frames import SUBPROTOCOL
from bench.wire.http1_heads import HEAD_END, MAX_HEAD_BYTES
from bench.wire.permessage_deflate import OFFER, Deflate, Inflate, read_answer
from bench.wire.websocket import (
    BINARY,
    FIN,
    PONG,
    RSV1,
    TEXT,
    CloseCode,
    MessageReader,
    encode_close,
    encode_frame,
)
from bench.wire.websocket_handshake import encode_opening, read_acceptance
from clients.frame_calls import FrameCaller
from clients.websocket_masking import masked_frames

_JOINED_BYTES: Final = 64 * 1024
"""Requests up to this size together leave as one piece; larger ones are not copied."""

_NONCE_BYTES: Final = 16
_KEY_BYTES: Final = 4


QUIET_CODES: Final = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
"""Closing with these is no complaint."""


def _new_key() -> bytes:
    return secrets.token_bytes(_KEY_BYTES)


class ClientEnd(MessageReader):
    """A client's end of a connection, from the opening handshake on."""

    transport_kind: ClassVar[Literal["stream"]] = "stream"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    peer_masks = False
    offer: ClassVar[bytes] = b""
    """The extensions that are offered."""
    subprotocol: ClassVar[str] = ""
    """What the messages are to be, where the path does not say it."""

    def __init__(self, target: str, authority: str, fields: bytes = b"") -> None:
        """`fields` are further header lines of the opening request, each ended by CRLF."""
        super().__init__()
        self.max_in_flight = 0
        self.closing = False
        self.outgoing: list[bytes] = []
        self._opening = (target, authority, fields)
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._head = b""

    def opened(self, extensions: bytes) -> int:
        """The server has accepted, with those extensions if any. Gives what the connection now takes in flight; raises
        ProtocolError."""
        raise NotImplementedError

    def open(self) -> None:
        target, authority, fields = self._opening
        self.outgoing.append(encode_opening(target, authority, self._nonce, self.offer, self.subprotocol, fields))

    def take(self, data: bytes) -> None:
        """Take bytes of the stream, be they of the handshake or of messages. Raises ProtocolError."""
        if not self.max_in_flight:
            self._head = data = self._head + data
            end = data.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END):
                if len(data) > MAX_HEAD_BYTES:
                    raise ProtocolError("the answer to the opening request does not end")
                return
            extensions = read_acceptance(data[:end], self._nonce, self.subprotocol)
            if extensions and not self.offer:
                raise ProtocolError("an extension that was not offered", CloseCode.MANDATORY_EXTENSION)
            self.max_in_flight = self.opened(extensions)
            self._head = b""
            data = data[end:]
        self.parse(data)

    # MessageReader

    def ping_received(self, payload: bytes) -> None:
        self.outgoing.append(encode_frame(FIN | PONG, payload, _new_key()))

    def close_received(self, code: int) -> None:
        self.closing = True
        self.outgoing.append(encode_close(code, key=_new_key()))


class WebsocketClient(ClientEnd):
    """One connection. Answers come in the order of their requests, so an exchange's id is its number."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__(exchange.path, authority)
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._body = exchange.body
        self._next_request: Callable[[], bytes]
        self._asked = 0
        self._answered = 0
        # The answer that is arriving in pieces: how much of it has come, and whether that is as it should be.
        self._expected = exchange.answer if check_content else None
        self._body_bytes = 0
        self._body_good = True
        self._completed: list[int] = []
        # `_template` is what `_learned` is, but empty (like no data) while the reader is inside an answer.
        self._learned = b""
        self._template = b""

    # Client

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        first = self._asked
        self._asked = first + count
        pieces = [self._next_request() for _ in range(count)]
        if count > 1 and len(pieces[0]) * count <= _JOINED_BYTES:
            pieces = [b"".join(pieces)]
        return range(first, first + count), pieces

    def feed(self, data: bytes) -> Sequence[Hashable]:
        first = self._answered
        if data == self._template:
            if first < self._asked:
                self._answered = first + 1
                return (first,)
        elif self._template:
            count, rest = divmod(len(data), len(self._template))
            if not rest and first + count <= self._asked and data == self._template * count:
                self._answered = first + count
                return range(first, first + count)
        return self._parse_answers(data)

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> tuple[bytes, Callable[[], bytes]] | None:
        if self._template and self._asked - self._answered == 1:
            return self._template, self._next_request
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        return False

    # Answers that are not the template

    def _parse_answers(self, data: bytes) -> Sequence[Hashable]:
        self._completed = []
        was_inside = self.mid_message or not self.max_in_flight
        try:
            self.take(data)
        except ProtocolError as error:
            if not self.max_in_flight:
                raise
            # What was over before the error stays so; what is still due has failed.
            self.closing = True
            self.outgoing.append(encode_close(error.code, key=_new_key()))
            self._fail_rest("protocol", "protocol")
        is_inside = self.mid_message or self.closing
        if not (was_inside or is_inside or self.failures or self.outgoing) and len(self._completed) == 1:
            self._learned = data
        self._template = b"" if is_inside else self._learned
        return self._completed

    def _fail_rest(self, first: ErrorKind, others: ErrorKind) -> None:
        """Nothing that is still due will be answered."""
        due = range(self._answered, self._asked)
        self.failures += zip(due, [first, *[others] * (len(due) - 1)], strict=False)
        self._answered = self._asked

    # ClientEnd

    def opened(self, extensions: bytes) -> int:
        first, payload = FIN | BINARY, self._body
        if self.offer:
            if not extensions:
                raise ProtocolError("the server does not compress", CloseCode.MANDATORY_EXTENSION)
            agreement = read_answer(extensions)
            self.inflate = Inflate(agreement.server_max_window_bits, agreement.server_no_context_takeover)
            payload = Deflate(agreement.client_max_window_bits, no_context_takeover=True).compress(payload)
            first |= RSV1
        elif self._expected is not None:
            self._learned = encode_frame(FIN | BINARY, self._expected)
        self._next_request = masked_frames(first, payload)
        return 1 << 16

    # MessageReader

    def message_begun(self, opcode: int) -> None:
        self._body_bytes = 0
        self._body_good = opcode == BINARY or self._expected is None

    def payload_received(self, data: bytes) -> None:
        if self._expected is not None and self._body_good:
            self._body_good = self._expected.startswith(data, self._body_bytes)
            self._body_bytes += len(data)

    def message_received(self) -> None:
        number = self._answered
        if number == self._asked:
            raise ProtocolError("an answer that nothing asked for", CloseCode.POLICY_VIOLATION)
        self._answered = number + 1
        if self._body_good and (self._expected is None or self._body_bytes == len(self._expected)):
            self._completed.append(number)
        else:
            self.failures.append((number, "content"))

    def close_received(self, code: int) -> None:
        super().close_received(code)
        self._fail_rest("closed" if code in QUIET_CODES else "status", "closed")


class CompressedWebsocketClient(WebsocketClient):
    """A client that wants messages compressed (permessage-deflate), each on its own: equal messages, equal frames."""

    offer = OFFER


class WebsocketCaller(ClientEnd):
    """Calls of any kind, as frames (see `bench.load.calls.Caller` and `bench.wire.frames`)."""

    subprotocol = SUBPROTOCOL

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__("/", authority)
        self._frames = FrameCaller(authority, scheme)
        self._replies: list[tuple[Hashable, Reply]] = []

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        call_id, frames = self._frames.ask(exchange)
        return call_id, [encode_frame(FIN | BINARY, frame, _new_key()) for frame in frames]

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self.take(data)
        replies, self._replies = self._replies, []
        return replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        return ()

    # ClientEnd

    def opened(self, extensions: bytes) -> int:
        return self._frames.max_in_flight

    # MessageReader

    def message_begun(self, opcode: int) -> None:
        if opcode != BINARY:
            raise ProtocolError("frames are binary", CloseCode.UNSUPPORTED_DATA)

    def payload_received(self, data: bytes) -> None:
        self._replies += self._frames.feed(data)


class _TopicEnd(ClientEnd):
    """A connection to a topic, which brings its events, one message each."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(f"/topics/{topic}", authority)
        self._events: list[bytes] = []
        self._pieces: list[bytes] = []

    def take_events(self, data: bytes) -> list[bytes]:
        """The events that these bytes of the stream complete. Raises ProtocolError."""
        self._events = []
        self.take(data)
        return self._events

    # ClientEnd

    def opened(self, extensions: bytes) -> int:
        return 1

    # MessageReader

    def whole_message(self, opcode: int, payload: bytes) -> None:
        self._events.append(payload)

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def message_received(self) -> None:
        self._events.append(b"".join(self._pieces))
        self._pieces.clear()


class WebsocketSubscriber(_TopicEnd):
    """Takes the events of a topic.

    A server sends an event to all its subscribers in equal bytes. What one of them has parsed, and found to be whole
    messages and nothing else, the others take as read.
    """

    _known: ClassVar[tuple[bytes, Sequence[bytes]]] = (b"", ())
    """The last bytes that were whole messages, and the events in them."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(topic, authority, scheme)
        self._at_rest = False

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The data of the events that these bytes complete. Raises ProtocolError."""
        if not self._at_rest:
            events: Sequence[bytes] = self.take_events(data)
            self._at_rest = self._is_at_rest
            return events
        known, events = WebsocketSubscriber._known
        if data == known:
            return events
        events = self.take_events(data)
        self._at_rest = self._is_at_rest
        if self._at_rest:
            WebsocketSubscriber._known = data, events
        return events

    @property
    def _is_at_rest(self) -> bool:
        return self.max_in_flight > 0 and not (self.mid_message or self.outgoing or self.closing)

    def feed_eof(self) -> Sequence[bytes]:
        return ()


class WebsocketPublisher(_TopicEnd):
    """Publishes events to a topic. Its events come back, among those of others, and are acknowledged by that."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(topic, authority, scheme)
        self._unacknowledged: deque[bytes] = deque()

    def publish(self, data: bytes) -> list[bytes]:
        """What to send for one event."""
        self._unacknowledged.append(data)
        return [encode_frame(FIN | TEXT, data, _new_key())]

    def feed(self, data: bytes) -> int:
        """How many of the events that were published these bytes acknowledge. Raises ProtocolError for a refusal."""
        count = 0
        unacknowledged = self._unacknowledged
        for event in self.take_events(data):
            if unacknowledged and event == unacknowledged[0]:  # a topic keeps the order
                unacknowledged.popleft()
                count += 1
        return count

    def feed_eof(self) -> int:
        return 0

    def close_received(self, code: int) -> None:
        if code not in QUIET_CODES:
            raise ProtocolError(f"the server closes with code {code}", code)
        super().close_received(code)
