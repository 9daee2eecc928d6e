"""What both sides of the proxy need of HTTP/3 (RFC 9114): streams that are exchanges, and what they say getting out."""

from typing import TYPE_CHECKING

from aioquic.quic.configuration import QuicConfiguration

from bench.wire.header_blocks import Head
from bench.wire.http3 import BlockReader, ErrorCode, Frame, MessageReader, encode_block, encode_frame, frame_head
from bench.wire.quic_session import Http3Session
from bench.wire.quic_tickets import Tickets
from servers.proxies.exchange import Exchange
from servers.proxies.field_sections import read_head

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

STREAM_WINDOW_BYTES = 256 * 1024
"""How much of a body may be on its way to the proxy."""

MAX_WHOLE_BYTES = 16_000
"""The longest message that is given to QUIC in one piece."""

_MAX_UNSENT_BYTES = 256 * 1024
"""Of a body that may wait to be acknowledged, before its source has to wait."""
_MAX_KEPT_HEADS = 256

Section = list[tuple[bytes, bytes]]


class RelayedStream:
    """An exchange on a connection of HTTP/3, for as long as it has one."""

    __slots__ = ("exchange", "has_begun", "id", "is_full", "is_held", "out", "pieces", "quiet", "reader")

    def __init__(self, stream_id: int, exchange: Exchange | None, is_answer: bool) -> None:
        self.id = stream_id
        self.exchange = exchange
        self.reader = MessageReader(is_answer)
        """Of what the peer sends."""
        self.out: list[bytes] = []
        """Frames that are to be sent, before `pieces`, which are of the body and become one DATA frame."""
        self.pieces: list[bytes] = []
        self.has_begun = False
        """Something was sent."""
        self.is_full = False
        """So much waits to be acknowledged that its source was told to wait."""
        self.is_held = False
        """The peer was told to wait."""
        self.quiet = 0

    def take(self, trailers: Section) -> bytes:
        """All that is to be sent, and these behind it."""
        out, self.out = self.out, []
        pieces, self.pieces = self.pieces, []
        if pieces:
            out.append(frame_head(Frame.DATA, sum(map(len, pieces))))
            out += pieces
        if trailers:
            out.append(encode_frame(Frame.HEADERS, encode_block(trailers)))
        return b"".join(out)


class Http3End(Http3Session[Head | None]):
    """One connection. Subclasses know who opens streams, and what a field section is."""

    def __init__(
        self,
        proxy: "Layer7",
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes | None = None,
        tickets: Tickets | None = None,
    ) -> None:
        super().__init__(configuration, BlockReader(read_head), original_destination_connection_id, tickets)
        self.quic.limit_windows(STREAM_WINDOW_BYTES)
        self.quiet = 0
        self.streams: dict[int, RelayedStream] = {}
        self._proxy = proxy
        self._full: set[RelayedStream] = set()
        self._heads: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}

    # What the two sides differ in

    def head_received(self, stream: RelayedStream, head: Head | None) -> None:
        """A field section has come; None if it breaks the rules. It is of trailers if `stream.reader` says so."""
        raise NotImplementedError

    def body_received(self, stream: RelayedStream, data: bytes) -> None:
        """A piece of the peer's body has come."""
        raise NotImplementedError

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        """Whether the source of what is sent on a stream may go on."""
        raise NotImplementedError

    def touch(self) -> None:
        """There may be something to send at the end of this turn."""
        raise NotImplementedError

    # Input

    def read(self, stream: RelayedStream, data: bytes, is_end: bool) -> bool:
        """Take what arrives on a stream; whether it is there still. Raises ProtocolError."""
        reader = stream.reader
        reader.feed(data)
        self.quiet = stream.quiet = 0
        while (part := reader.next()) is not None:
            is_head, piece = part
            if is_head:
                self.head_received(stream, self.blocks.read(piece))
            else:
                self.body_received(stream, piece)
            if stream.id not in self.streams:
                return False
        if is_end:
            reader.end()
        return True

    def hold(self, stream: RelayedStream, has_room: bool) -> None:
        """Have the peer wait with more of a stream's body, or go on."""
        stream.is_held = not has_room
        stream.quiet = 0
        if has_room:
            self.quic.release(stream.id)
            self.touch()
        else:
            self.quic.hold(stream.id)

    # Output

    def begin(self, stream: RelayedStream, section: Section) -> None:
        """Have a stream begin with these fields; they go out with what follows at once, if something does."""
        stream.out.append(self.encoded(section))

    def push(self, stream: RelayedStream) -> None:
        """Send what there is of a stream that goes on."""
        if stream.out or stream.pieces:
            stream.has_begun = True
            self.quic.write(stream.id, stream.take([]), False)
            if not stream.is_full and self.quic.unsent_bytes(stream.id) > _MAX_UNSENT_BYTES:
                stream.is_full = True
                self._full.add(stream)
                self.tell_room(stream, False)

    def finish(self, stream: RelayedStream, trailers: Section) -> None:
        """Send what there is of a stream, and nothing more after these."""
        data = stream.take(trailers)
        if stream.has_begun or len(data) > MAX_WHOLE_BYTES:
            self.quic.write(stream.id, data, True)
        else:
            self.quic.finish_with(stream.id, data)

    def drop(self, stream: RelayedStream) -> None:
        """A stream has no exchange any more. What was given to QUIC is still sent."""
        del self.streams[stream.id]
        self._full.discard(stream)
        self.quic.release(stream.id)

    def encoded(self, section: Section) -> bytes:
        """The HEADERS frame of a section; worked out once for sections that come again."""
        key = tuple(section)
        frame = self._heads.get(key)
        if frame is None:
            frame = encode_frame(Frame.HEADERS, encode_block(section))
            if len(self._heads) >= _MAX_KEPT_HEADS:
                self._heads.clear()  # most of them hold a date that is past
            self._heads[key] = frame
        return frame

    def malformed(self, stream: RelayedStream) -> None:
        """A message breaks the rules (section 4.1.2): it is not read on."""
        self.quic.cancel(stream.id, ErrorCode.MESSAGE_ERROR)
        self.drop(stream)
        self.touch()

    # Http3Session

    def flush(self, now: float) -> None:
        for stream in list(self._full):
            if self.quic.unsent_bytes(stream.id) <= _MAX_UNSENT_BYTES // 2:
                stream.is_full = False
                self._full.remove(stream)
                self.tell_room(stream, True)
        super().flush(now)
