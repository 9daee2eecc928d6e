"""How much a client may ask for that does nobody any good: requests that it resets (CVE-2023-44487) or makes us reset;
over HTTP/2 also PING, SETTINGS and empty DATA."""

import time

BURST, _PER_S = 1000, 100


class Strain:
    """What one connection has left of it: so much at once, and so much each second."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0

    def is_too_much(self) -> bool:
        """Take one; whether there was none left."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * _PER_S, BURST) - 1
        self._at = now
        return self._left < 0
