"""The client's end of an HTTP/2 connection (RFC 9113): what it says first, and which streams it has opened."""

from typing import ClassVar, Literal

from bench.errors import ErrorKind
from bench.wire.http2 import Http2Peer
from bench.wire.http2_frames import (
    INITIAL_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    PREFACE,
    ErrorCode,
    Setting,
    encode_settings,
    encode_window_update,
)
from bench.wire.http2_sending import S

SETTINGS = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES}
OPENING = PREFACE + encode_settings(SETTINGS) + encode_window_update(0, MAX_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
"""What a client says first: it takes as much as it is sent, and no pushes."""


class Http2ClientEnd(Http2Peer[S]):
    """One connection."""

    alpn: ClassVar[tuple[str, ...]] = ("h2",)
    transport_kind: ClassVar[Literal["stream"]] = "stream"
    stream_window_bytes = MAX_WINDOW_BYTES
    connection_window_bytes = MAX_WINDOW_BYTES
    peer_may_push = False

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 1
        """The stream of the next request."""

    @staticmethod
    def kind_beyond(last_id: int, code: int) -> ErrorKind:
        """What has become of requests behind the last that a GOAWAY names. They may be sent again (section 8.7), but
        not to a server that ends in an error, or that has taken none: it would be asked for ever."""
        return "unprocessed" if last_id and code == ErrorCode.NO_ERROR else "closed"

    def open(self) -> None:
        """The connection is up."""
        self.outgoing.append(OPENING)

    def is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_id or stream_id % 2 == 0
