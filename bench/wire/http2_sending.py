"""The sending half of an HTTP/2 connection: bodies, by their urgency and in turns, as the windows of the peer allow
(RFC 9113, section 5.2)."""

from collections import deque
from typing import Generic, TypeVar

from bench.errors import ProtocolError
from bench.wire.header_blocks import HeaderWriter
from bench.wire.http2_frames import (
    DATA,
    END_STREAM,
    HEAD_BYTES,
    INITIAL_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    MAX_WINDOW_BYTES,
    ErrorCode,
    encode_frame,
    encode_reset,
)
from bench.wire.priorities import DEFAULT_URGENCY


class Stream:
    """One exchange of a connection, as long as frames of it are to be read or a body is to be sent."""

    __slots__ = (
        "_queued",
        "body",
        "end_flags",
        "frame_bytes",
        "held",
        "id",
        "receive_window",
        "send_window",
        "sent_bytes",
        "urgency",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.held = False
        """The other end is to send no more than its window allows now: what it has sent is not used up."""
        self.body: bytes | bytearray = b""
        """What is to be sent, as the windows allow; `sent_bytes` of it have been."""
        self.sent_bytes = 0
        self.end_flags = END_STREAM
        """The flags of the DATA frame that the body ends with: 0 if it may go on, or trailers follow it."""
        self.frame_bytes = MAX_FRAME_BYTES
        """The payload of each DATA frame but the last."""
        self.urgency = DEFAULT_URGENCY
        """Its body is sent before those of a higher one (RFC 9218, section 10)."""
        self._queued = False


S = TypeVar("S", bound=Stream)


class Sender(Generic[S]):
    """What both ends need to send. `streams` holds those that frames are expected on, or that have a body to send."""

    def __init__(self) -> None:
        self.outgoing: list[bytes] = []
        self.streams: dict[int, S] = {}
        self.writer = HeaderWriter()
        self.send_window = INITIAL_WINDOW_BYTES
        """What the connection may still send of all bodies; each stream has its own window beside it."""
        self.peer_stream_window = INITIAL_WINDOW_BYTES
        """The window that a new stream begins with: the other end's SETTINGS_INITIAL_WINDOW_SIZE."""
        self._sending: deque[S] = deque()
        """The most urgent first."""

    # Hook

    def body_sent(self, stream: S) -> None:
        """The last byte of a stream's body, or of what `add_body` has added to it so far, is in `outgoing`."""

    # Streams

    def reset(self, stream_id: int, code: ErrorCode) -> S | None:
        """Give a stream up, and tell the other end. Gives it if it was one of `streams`."""
        self.outgoing.append(encode_reset(stream_id, code))
        return self.drop(stream_id)

    def send_body(self, stream: S, body: bytes) -> None:
        """Have `send_bodies` send the last, or only, part of a stream; it must not be empty."""
        stream.body = body
        self._queue(stream)

    def add_body(self, stream: S, piece: bytes) -> None:
        """Have `send_bodies` send more of a stream whose `end_flags` are 0."""
        if not isinstance(stream.body, bytearray):
            stream.body = bytearray()
        elif stream.sent_bytes > len(stream.body) // 2:
            del stream.body[: stream.sent_bytes]
            stream.sent_bytes = 0
        stream.body += piece
        self._queue(stream)

    def forget_body(self, stream: S) -> None:
        """Send nothing more of what has been added to a stream."""
        stream.body, stream.sent_bytes = b"", 0

    def send_bodies(self, limit_bytes: int) -> bool:
        """Put what the windows allow of all bodies in `outgoing`, streams of one urgency taking turns, until it is at
        least `limit_bytes`. True if there is more that the windows allow."""
        sending, outgoing = self._sending, self.outgoing
        while sending and self.send_window > 0:
            if limit_bytes <= 0:
                return True
            stream = sending[0]
            body, start = stream.body, stream.sent_bytes
            end = start + min(stream.frame_bytes, len(body) - start, stream.send_window, self.send_window)
            if end <= start:
                stream._queued = False
                sending.popleft()
                continue
            last = end == len(body)
            outgoing.append(encode_frame(DATA, stream.end_flags if last else 0, stream.id, body[start:end]))
            stream.sent_bytes = end
            stream.send_window -= end - start
            self.send_window -= end - start
            limit_bytes -= end - start + HEAD_BYTES
            if last:
                sending.popleft()
                stream._queued = False
                if not stream.end_flags:
                    self.forget_body(stream)
                self.body_sent(stream)
            elif len(sending) > 1:
                sending.popleft()
                self._put(stream)
        return False

    @property
    def is_sending(self) -> bool:
        """Whether a body waits for its turn, or for the connection's window."""
        return bool(self._sending)

    def _queue(self, stream: S) -> None:
        if not stream._queued and stream.send_window > 0:
            stream._queued = True
            self._put(stream)

    def _put(self, stream: S) -> None:
        """Have a stream wait behind all others that are as urgent, or more so."""
        sending = self._sending
        place = len(sending)
        while place and sending[place - 1].urgency > stream.urgency:
            place -= 1
        sending.insert(place, stream)

    def drop(self, stream_id: int) -> S | None:
        """Take a stream out of `streams`, with whatever was to be sent on it. Gives it if it was there."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None and stream._queued:
            self._sending.remove(stream)
        return stream

    # Windows

    def widen(self, stream: S, increment: int) -> None:
        """The other end lets a stream send `increment` bytes more."""
        stream.send_window += increment
        if stream.sent_bytes < len(stream.body):
            self._queue(stream)

    def resize_stream_windows(self, size_bytes: int) -> None:
        """The window that new streams begin with changes, and with it, by the same amount, that of every other stream
        (section 6.9.2). Raises ProtocolError if one grows too large."""
        change = size_bytes - self.peer_stream_window
        self.peer_stream_window = size_bytes
        for stream in self.streams.values():
            self.widen(stream, change)  # below 0, if it must be
            if stream.send_window > MAX_WINDOW_BYTES:
                raise ProtocolError("a window over 2^31-1 bytes", ErrorCode.FLOW_CONTROL_ERROR)
