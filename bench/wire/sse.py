"""Streams of server-sent events (WHATWG HTML, section 9.2), without I/O: events as bytes, and bytes as events.

A stream is UTF-8 text. Its lines end with CR LF, LF or CR, and are `field: value`, or comments that begin with a colon;
an empty line ends an event. What is not UTF-8 is read as U+FFFD, as the section asks.
"""

import re
from typing import NamedTuple

from bench.errors import ProtocolError

MAX_EVENT_BYTES = 1024 * 1024
"""The longest event, or line, that is read."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")

PLAIN_EVENT = re.compile(rb"id: ([0-9]+)\ndata: ([ -~]*)\n\n")
"""What most events look like: an id, and data of one line in printable ASCII."""


class ServerEvent(NamedTuple):
    """An event as a page gets it (section 9.2.6)."""

    data: str
    last_event_id: str
    """The id of the event, or of the last one that had any."""
    type: str = "message"


def encode_event(event_id: bytes, data: bytes) -> bytes:
    """An event. Line ends in `data`, whichever they are, reach the reader as LF."""
    if b"\n" in data or b"\r" in data:
        return b"id: %b\ndata: %b\n\n" % (event_id, b"\ndata: ".join(_LINE_END.split(data)))
    return b"id: %b\ndata: %b\n\n" % (event_id, data)


def encode_retry(delay_ms: int) -> bytes:
    """How long a reader waits before it connects again."""
    return b"retry: %d\n\n" % delay_ms


def encode_comment(text: bytes = b"") -> bytes:
    """A line that means nothing, to keep the connection alive. `text` has no line ends."""
    return b":%b\n\n" % text


class EventReader:
    """Takes the events out of a stream that may be cut anywhere. An event that the end of the stream cuts off is none:
    there is nothing to call then."""

    __slots__ = ("_begun", "_data", "_data_bytes", "_id", "_line", "_skip_lf", "_type", "last_event_id", "retry_ms")

    def __init__(self, after_id: str = "") -> None:
        """`after_id` is the `last_event_id` of the stream that this one goes on with."""
        self.last_event_id = after_id
        """What a reader that comes back says, so that it gets the events after that one."""
        self.retry_ms: int | None = None
        """How long to wait before coming back, if the server said so."""
        self._begun = False
        """The first bytes have come, and it is known whether they were a byte order mark."""
        self._line = bytearray()
        """A line that has no end yet."""
        self._skip_lf = False
        """The last byte was a CR that ended a line; an LF that follows belongs to it."""
        # The event that is arriving (section 9.2.6).
        self._id = after_id
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = b""

    @property
    def at_rest(self) -> bool:
        """Whether an event can begin with the next byte, and nothing of it has come."""
        return self._begun and not (self._line or self._skip_lf or self._data or self._type)

    def passed(self, event_id: bytes) -> None:
        """An event of the plain form was read elsewhere."""
        self._id = self.last_event_id = event_id.decode("ascii")

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that these bytes complete. Raises ProtocolError if one is too long."""
        if not data:
            return []
        if not self._begun:
            data = bytes(self._line) + data
            self._line.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._line += data
                return []
            self._begun = True
            data = data.removeprefix(_BOM)
        if self._skip_lf:
            data = data.removeprefix(b"\n")
        self._skip_lf = data.endswith(b"\r")
        first, *lines = _LINE_END.split(data)
        self._line += first
        if len(self._line) > MAX_EVENT_BYTES:
            raise ProtocolError(f"a line of an event stream is longer than {MAX_EVENT_BYTES} bytes")
        events: list[ServerEvent] = []
        for line in lines:
            self._end_line(bytes(self._line), events)
            self._line[:] = line
        return events

    def _end_line(self, line: bytes, events: list[ServerEvent]) -> None:
        if line:
            self._take(line)
        else:
            self._dispatch(events)

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
                self._data_bytes += len(value) + 1
                if self._data_bytes > MAX_EVENT_BYTES:
                    raise ProtocolError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"event":
                self._type = value
            case b"retry" if value.isdigit() and len(value) < 16:
                self.retry_ms = int(value)
            case _:  # a comment, or a field that means nothing
                pass

    def _dispatch(self, events: list[ServerEvent]) -> None:
        self.last_event_id = self._id
        if self._data:
            data = b"\n".join(self._data).decode(errors="replace")
            kind = self._type.decode(errors="replace") if self._type else "message"
            events.append(ServerEvent(data, self._id, kind))
            self._data.clear()
            self._data_bytes = 0
        self._type = b""
