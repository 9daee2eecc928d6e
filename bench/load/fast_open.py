"""TCP Fast Open for clients (RFC 7413): the first bytes of a connection go with its SYN.

The kernel keeps the server's cookie for it, which it has from an earlier connection; without one it makes a connection
as any other, and asks for the cookie.
"""

import asyncio
import socket
from pathlib import Path

from bench.errors import UnsupportedError

SETTING = Path("/proc/sys/net/ipv4/tcp_fastopen")
"""Of the network namespace that one is in (ip-sysctl)."""

CLIENT, SERVER = 1, 2
"""Its bits."""

_FASTOPEN_CONNECT = 30  # linux/tcp.h, as the others; Python's socket has none of them
_OPTIONS_OFFSET, _OPTION_SYN_DATA = 5, 32


def why_not(bits: int) -> str | None:
    """Why the kernel does no Fast Open for these ends; None if it does."""
    try:
        value = int(SETTING.read_text())
    except OSError:
        return "this kernel has no TCP Fast Open; use Linux 4.11 or newer"
    if value & bits != bits:
        return (
            f"net.ipv4.tcp_fastopen is {value} here, and its bits for client (1) and server (2) are needed; "
            "a link has ends of its own, where it is 3: add one, like rtt=1ms"
        )
    return None


async def open_fast(host: str, port: int) -> socket.socket:
    """A connection whose SYN waits for the first write, if there is a cookie. Raises OSError, UnsupportedError."""
    why = why_not(CLIENT)
    if why is not None:
        raise UnsupportedError(f"no TCP Fast Open: {why}")
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, _FASTOPEN_CONNECT, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def went_with_syn(sock: socket.socket) -> bool:
    """Whether data went with the connection's SYN, and the server took it (tcp_info, linux/tcp.h)."""
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[_OPTIONS_OFFSET] & _OPTION_SYN_DATA)
