"""The lean gRPC clients (PROTOCOL-HTTP2.md in grpc/grpc): unary calls, as many at a time as there are streams, one call
whose messages are the exchanges, calls of anything for conversations, and the two sides of publishing.

A call is a request over HTTP/2 whose body is messages, and its answer one that has trailers: the rest is there already.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Hashable, Sequence

from google.protobuf.message import DecodeError

from bench.contract import Exchange, Opcode
from bench.conversation import Reply
from bench.errors import ErrorKind, ProtocolError, UnsupportedError
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import (
    HTTP_STATUS,
    SERVICE,
    MessageReader,
    Status,
    StatusError,
    frame_message,
    percent_decode,
)
from bench.wire.header_blocks import Fields, HeaderReader
from bench.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_STREAM_ID,
    MAX_WINDOW_BYTES,
    ErrorCode,
    FrameShape,
    GroupShape,
    encode_frame,
    encode_goaway,
)
from bench.wire.http2_sending import Stream
from clients.grpc_messages import CallHead, call_exchange, call_fields
from clients.http2 import MAX_IN_FLIGHT, Http2Client
from clients.http2_answers import Answer, AnswerHead
from clients.http2_end import Http2ClientEnd


class GrpcClient(Http2Client):
    """One connection, each exchange a call. Without `check_content`, only the status of the calls is looked at.

    Answers that differ from one that was found right in nothing but the stream, in their three frames, are recognised
    as a whole, and rows of them at once.
    """

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        super().__init__(call_exchange(exchange), authority, check_content)
        # A right answer in three frames, good until the decoder's table changes.
        self._group: GroupShape | None = None
        self._group_data = b""

    def _request_fields(self, authority: str) -> list[tuple[bytes, bytes]]:
        return call_fields(authority, self._exchange.path, self._exchange.scheme)

    def _read_head(self, fields: Fields) -> CallHead:
        return CallHead(fields)

    def _match(self, data: bytes) -> tuple[list[bytes], bytes]:
        group = self._group
        if group is None or self.mid_block:
            return [], data
        ids, end = group.match(data, 0)
        if ids:
            distinct = set(ids)
            if len(distinct) < len(ids) or not distinct <= self._waiting:
                return [], data
            self._waiting -= distinct
            self.take_in(len(ids) * len(self._group_data))
            data = data[end:]
        if group.begins(data):
            self.keep_pending(data)  # the rest of it will show whether it is alike to its end
            data = b""
        return ids, data

    def _learn(self, stream: Answer, block: bytes) -> None:
        body, end_block = stream.last, stream.end_block
        if end_block is not None and body and len(body) == stream.received_bytes:
            self._group_data = body
            self._group = GroupShape(
                FrameShape(HEADERS, END_HEADERS, block),
                FrameShape(DATA, 0, body),
                FrameShape(HEADERS, END_HEADERS | END_STREAM, end_block),
            )

    def _unlearn(self) -> None:
        self._group = None

    def _wrong(self, stream: Answer, head: AnswerHead, end: AnswerHead) -> ErrorKind | None:
        assert isinstance(end, CallHead)
        if head.status == 200:
            if not end.grpc_status.isdigit():
                return "protocol"
            if int(end.grpc_status) != Status.OK:
                return "status"
        return super()._wrong(stream, head, end)


class _CallPeer(Http2ClientEnd[Stream]):
    """The client's end of a connection whose calls are its own to make."""

    def __init__(self, authority: str, method: str, scheme: str) -> None:
        super().__init__()
        self.closing = False
        self._fields = call_fields(authority, f"/{SERVICE}/{method}", scheme)
        self._heads = HeaderReader(CallHead)

    def _call(self) -> Stream:
        """Begin a call."""
        stream = self.streams[self._next_id] = Stream(self._next_id, self.peer_stream_window, MAX_WINDOW_BYTES)
        self._next_id += 2
        self.outgoing.append(encode_frame(HEADERS, END_HEADERS, stream.id, self.writer.encode(self._fields)))
        return stream

    def _feed(self, data: bytes) -> None:
        try:
            self.receive(data)
        except ProtocolError as error:
            self.outgoing.append(encode_goaway(0, error.code))
            raise
        self.send_bodies(MAX_WINDOW_BYTES)

    def headers_received(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.read(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.PROTOCOL_ERROR)
        if head.malformed or not (end_stream or head.status):
            raise ProtocolError("a malformed answer", ErrorCode.PROTOCOL_ERROR)
        if end_stream:
            self.drop(stream_id)
            self._ended(stream, head)
        elif head.status == 200:
            self._begun()

    def _begun(self) -> None:
        """The server has taken the call."""

    @abstractmethod
    def _ended(self, stream: Stream, end: CallHead) -> None:
        """A call has ended, and `end` says how. Raises ProtocolError if that cannot be."""

    def body_received(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        if end_stream:
            raise ProtocolError("a call ends without trailers", ErrorCode.PROTOCOL_ERROR)

    def stream_ended(self, stream_id: int, stream: Stream | None) -> None:
        raise ProtocolError("the server cancelled a call", ErrorCode.NO_ERROR)

    def unlisted(self, stream_id: int) -> None:
        raise ProtocolError("an answer to nothing that was asked", ErrorCode.STREAM_CLOSED)

    def goaway_received(self, last_id: int, code: int) -> None:
        self.closing = True


class GrpcStreamClient(_CallPeer):
    """One call of EchoStream: each message is an exchange, answered by a message. Ids are numbers, in order."""

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        """Raises UnsupportedError for an exchange that is no echo."""
        if exchange.opcode is not Opcode.ECHO:
            raise UnsupportedError(f"the one stream of grpc is echo, not {exchange.opcode.name.lower()}")
        super().__init__(authority, "EchoStream", exchange.scheme)
        self.max_in_flight = MAX_IN_FLIGHT
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        call = call_exchange(exchange)
        self._request, self._answer = call.body, call.answer
        self._sent = self._done = 0
        """How many messages have gone out, and how many have been answered."""
        # How much of the next answer is here. Once one is not as expected, messages are read one by one.
        self._at = 0
        self._reader: MessageReader | None = None
        self._check_content = check_content
        self._stream: Stream

    def open(self) -> None:
        super().open()
        self._stream = self._call()
        self._stream.end_flags = 0

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        ids = range(self._sent, self._sent + count)
        self._sent += count
        self.add_body(self._stream, self._request * count)
        self.send_bodies(MAX_WINDOW_BYTES)
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return ids, to_send

    def feed(self, data: bytes) -> Sequence[Hashable]:
        before = self._done
        failed = len(self.failures)
        self._feed(data)
        done = range(before, self._done)
        if len(self.failures) > failed:
            wrong = {exchange_id for exchange_id, _ in self.failures}
            return [exchange_id for exchange_id in done if exchange_id not in wrong]
        return done

    def feed_eof(self) -> Sequence[Hashable]:
        return ()

    def again(self) -> None:
        return None

    def abandon(self, exchange_id: Hashable) -> bool:
        return False  # the answers that follow could not be told apart

    def body_received(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        super().body_received(stream, data, end_stream)
        answer, size = self._answer, len(self._answer)
        if self._reader is None:
            whole, at = divmod(self._at + len(data), size)
            if (answer * (whole + 1) if whole else answer).startswith(data, self._at) and (
                self._done + whole + (at > 0) <= self._sent
            ):
                self._done += whole
                self._at = at
                return
            self._reader = MessageReader(gzip=False)
            self._reader.feed(answer[: self._at])
        self._read(self._reader, data)

    def _read(self, reader: MessageReader, data: bytes) -> None:
        try:
            messages = reader.feed(data)
        except StatusError as error:
            raise ProtocolError(error.message, ErrorCode.PROTOCOL_ERROR) from None
        if self._done + len(messages) + reader.mid_message > self._sent:
            raise ProtocolError("an answer to nothing that was asked", ErrorCode.PROTOCOL_ERROR)
        for message in messages:
            if self._check_content and frame_message(message) != self._answer:
                self.failures.append((self._done, "content"))
            self._done += 1

    def _ended(self, stream: Stream, end: CallHead) -> None:
        self._fail("status" if end.grpc_status != b"0" else "closed")

    def stream_ended(self, stream_id: int, stream: Stream | None) -> None:
        self._fail("reset")

    def _fail(self, kind: ErrorKind) -> None:
        """The call is over, and with it whatever waits for an answer."""
        self.closing = True
        self.failures += [(exchange_id, kind) for exchange_id in range(self._done, self._sent)]
        self._sent = self._done


class GrpcCaller(_CallPeer):
    """Calls of Named, one for whatever is asked (see `bench.load.calls.Caller`). A call's id is its stream's."""

    def __init__(self, authority: str, scheme: str) -> None:
        super().__init__(authority, "Named", scheme)
        self.max_in_flight = 0
        self._bodies: dict[int, list[bytes]] = {}
        """What has come of each answer."""
        self._replies: list[tuple[Hashable, Reply]] = []

    def settings_received(self) -> None:
        self.max_in_flight = min(self.peer_max_streams, MAX_IN_FLIGHT)

    def ask(self, exchange: Exchange) -> tuple[Hashable, list[bytes]]:
        request = pb.NamedRequest(method=exchange.method, path=exchange.path, body=exchange.body)
        stream = self._call()
        self._bodies[stream.id] = []
        self.send_body(stream, frame_message(request.SerializeToString()))
        self.send_bodies(MAX_WINDOW_BYTES)
        self.closing = self.closing or self._next_id > MAX_STREAM_ID - 2 * MAX_IN_FLIGHT
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return stream.id, to_send

    def feed(self, data: bytes) -> Sequence[tuple[Hashable, Reply]]:
        self._feed(data)
        replies, self._replies = self._replies, []
        return replies

    def feed_eof(self) -> Sequence[tuple[Hashable, Reply]]:
        return ()

    def body_received(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        super().body_received(stream, data, end_stream)
        self._bodies[stream.id].append(data)

    def _ended(self, stream: Stream, end: CallHead) -> None:
        body, outcome = b"".join(self._bodies.pop(stream.id)), end.outcome
        if outcome is None:
            raise ProtocolError("a call ends without a status", ErrorCode.PROTOCOL_ERROR)
        said = percent_decode(end.grpc_message).encode() if outcome else _named_reply(body)
        self._replies.append((stream.id, Reply(HTTP_STATUS.get(outcome, 500), said)))


def _named_reply(body: bytes) -> bytes:
    """The answer in the body of a call of Named. Raises ProtocolError."""
    try:
        (message,) = MessageReader(gzip=False).feed(body)
        return pb.NamedReply.FromString(message).body
    except (StatusError, DecodeError, ValueError) as error:
        raise ProtocolError(f"no answer: {error}", ErrorCode.PROTOCOL_ERROR) from None


class GrpcSubscriber(_CallPeer):
    """One call of Subscribe."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(authority, "Subscribe", scheme)
        self.max_in_flight = 0
        name, _, after = topic.partition("?after=")
        request = pb.SubscribeRequest(topic=name, after=int(after) if after else None)
        self._request = frame_message(request.SerializeToString())
        self._reader = MessageReader(gzip=False)
        self._delivered: list[bytes] = []

    def open(self) -> None:
        super().open()
        self.send_body(self._call(), self._request)
        self.send_bodies(MAX_WINDOW_BYTES)

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The data of the events that these bytes complete. Raises ProtocolError."""
        self._feed(data)
        delivered, self._delivered = self._delivered, []
        return delivered

    def feed_eof(self) -> Sequence[bytes]:
        return ()

    def _begun(self) -> None:
        self.max_in_flight = 1

    def body_received(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        super().body_received(stream, data, end_stream)
        try:
            self._delivered += [pb.Event.FromString(message).data for message in self._reader.feed(data)]
        except (StatusError, DecodeError) as error:
            raise ProtocolError(f"no event: {error}", ErrorCode.PROTOCOL_ERROR) from None

    def _ended(self, stream: Stream, end: CallHead) -> None:
        raise ProtocolError(f"the subscription ended with {end}")


class GrpcPublisher(_CallPeer):
    """A call of Publish for each event."""

    def __init__(self, topic: str, authority: str, scheme: str) -> None:
        super().__init__(authority, "Publish", scheme)
        self.max_in_flight = MAX_IN_FLIGHT
        self._topic = topic
        self._waiting: deque[bytes] = deque()
        """Messages for which the server has no stream left now."""
        self._acknowledged = 0

    def publish(self, data: bytes) -> list[bytes]:
        """What to send now, if an event is to be published; it waits if the server has enough to do."""
        self._waiting.append(frame_message(pb.PublishRequest(topic=self._topic, data=data).SerializeToString()))
        self._send_waiting()
        to_send = self.outgoing.copy()
        self.outgoing.clear()
        return to_send

    def _send_waiting(self) -> None:
        while self._waiting and len(self.streams) < min(self.peer_max_streams, MAX_IN_FLIGHT):
            self.send_body(self._call(), self._waiting.popleft())
        self.send_bodies(MAX_WINDOW_BYTES)
        self.closing = self.closing or self._next_id > MAX_STREAM_ID - 2 * MAX_IN_FLIGHT

    def feed(self, data: bytes) -> int:
        """How many events these bytes acknowledge. Raises ProtocolError, for a refusal too."""
        self._feed(data)
        self._send_waiting()
        acknowledged, self._acknowledged = self._acknowledged, 0
        return acknowledged

    def feed_eof(self) -> int:
        return 0

    def _ended(self, stream: Stream, end: CallHead) -> None:
        if end.grpc_status != b"0":
            raise ProtocolError(f"an event was refused: {end}")
        self._acknowledged += 1
