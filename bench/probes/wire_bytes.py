"""The bytes of an exchange on the wire, as `wirebench list protocols` counts them."""

from bench import wirecount
from bench.errors import UnsupportedError


def measure(protocol: str, tls: str = "off") -> dict[str, float]:
    """An echo of 64 bytes: the first on a connection, and the mean of later ones, both ways together."""
    (counted,) = wirecount.describe([(protocol, tls)])[protocol]["counted"]
    if counted["first"] is None or counted["later"] is None:
        raise UnsupportedError(f"the bytes of {protocol} cannot be counted: {counted['why_not']}")
    return {
        "first_bytes": counted["first"]["sent_bytes"] + counted["first"]["received_bytes"],
        "later_bytes": counted["later"]["sent_bytes"] + counted["later"]["received_bytes"],
    }
