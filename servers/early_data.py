"""What holds for requests that came as early data, or on behalf of ones that did: they may be replays (RFC 8470)."""

from typing import Final

from bench import contract

SAFE_METHODS: Final = frozenset(method.encode("ascii") for method in contract.SAFE_METHODS)
"""Those that may be run all the same."""

TOO_EARLY: Final = (425, "this could be done twice: send it when the TLS handshake is over")
"""Status and message for the others (section 5.2)."""
