"""Parameters of the kernel (sysctls) inside of a lab's nodes: which may be set, and which results tell of.

The host's own are never touched: a network namespace has its own values, which begin as the kernel's or the host's.
"""

import re

from bench.errors import UsageError

INITIAL_WINDOW = "initcwnd"
"""The initial congestion window in segments (RFC 6928 has 10): no sysctl, but an attribute of routes (ip-route(8))."""

FAST_OPEN = "net.ipv4.tcp_fastopen"
"""A bit for clients and one for servers."""

CONGESTION = "net.ipv4.tcp_congestion_control"
"""Set as an attribute of routes too: a namespace's default may only be one that the host allows to everybody."""

TOLD = (
    CONGESTION,
    FAST_OPEN,
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_ecn",
    "net.mptcp.enabled",
)
"""What results tell of each node's kernel, as read back."""

_NAME = re.compile(r"net\.(ipv4|core|mptcp)\.[a-z0-9_.]+")
_EXAMPLE = "tcp_congestion_control=reno,initcwnd=4"


def parse_kernel(text: str, where: str) -> tuple[tuple[str, str], ...]:
    """Reads "tcp_congestion_control=reno,tcp_rmem=4096 16384 65536,initcwnd=4": full name and value of each, by name.
    A name without dots is one of net.ipv4. Raises UsageError."""
    values: dict[str, str] = {}
    for word in text.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if name == INITIAL_WINDOW:
            if not re.fullmatch(r"[1-9]\d{0,3}", value):
                raise UsageError(f"{where}: {name}: {value!r} is not a number of segments from 1 to 9999")
        else:
            name = name if "." in name else f"net.ipv4.{name}"
            if not equals or not _NAME.fullmatch(name) or not re.fullmatch(r"[\w ./-]{1,100}", value):
                raise UsageError(f"{where}: {word.strip()!r} is not a kernel parameter; write like {_EXAMPLE}")
        if name in values:
            raise UsageError(f"{where}: {name} is given twice")
        values[name] = value
    return tuple(sorted(values.items()))
