"""What HTTP servers of every version have in common when their answer is a stream of events (server-sent events, see
`bench.wire.sse`)."""

from bench.wire.sse import encode_comment, encode_event, encode_retry
from servers.topics import Event

OPENING = encode_retry(1000)
"""What a stream begins with: how long a client waits before it comes back, in milliseconds."""

KEEP_ALIVE = encode_comment()
KEEP_ALIVE_S = 15.0
"""A comment is sent this often, so that nothing on the way takes a silent stream for a dead one (section 9.2.7)."""


def encoded(event: Event) -> bytes:
    """The event as it stands in a stream, made once for all subscribers."""
    return event.encoded("sse", _encode)


def _encode(event: Event) -> bytes:
    return encode_event(b"%d" % event.id, event.data)
