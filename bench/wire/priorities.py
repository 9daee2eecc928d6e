"""How soon an answer is wanted, as clients of HTTP/2 and HTTP/3 say it: the field `priority` (RFC 9218)."""

import re

MOST_URGENT, DEFAULT_URGENCY, LEAST_URGENT = 0, 3, 7
"""An urgency (section 4.1): an answer of a lower one is sent before those of higher ones."""

_URGENCY = re.compile(rb"(?:^|,)[ \t]*u=([0-7])(?=[ \t]*(?:[;,]|$))")


def read_urgency(value: bytes) -> int:
    """The urgency that a field's value asks for. What says none, or none that there is, is to be passed over (sections
    4 and 4.1); of two the last counts (RFC 9651, section 4.2.2)."""
    found = _URGENCY.findall(value)
    return int(found[-1]) if found else DEFAULT_URGENCY


def urgency_fields(urgency: int) -> list[tuple[bytes, bytes]]:
    """The field for an urgency; none for the one that an answer has without it."""
    return [] if urgency == DEFAULT_URGENCY else [(b"priority", b"u=%d" % urgency)]
