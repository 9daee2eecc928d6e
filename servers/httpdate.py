"""The Date header, which an origin server with a clock sends in every answer (RFC 9110, section 6.6.1)."""

import time
from email.utils import formatdate

_second = 0
_date = b""


def http_date() -> bytes:
    """The current time as an IMF-fixdate; made once a second. The object is the same one until the second changes."""
    global _second, _date
    now = int(time.time())
    if now != _second:
        _date = formatdate(now, usegmt=True).encode("ascii")
        _second = now
    return _date
