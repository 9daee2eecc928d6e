"""Network namespaces, TUN devices, addresses and kernel settings, by system calls (namespaces(7), tuntap.rst,
netdevice(7)). What is made here has no name outside of the process that made it, so it is gone when that process is.

By hand, because the netlink libraries take longer to import than the lab may take to set up, and `ip` is not on every
machine.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from bench.errors import UnsupportedError

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCADDRT = 0x890B
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU = 0x8914, 0x8916, 0x891C, 0x8922
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_RTF_UP, _RTF_GATEWAY = 0x1, 0x2
_TUN_PATH = "/dev/net/tun"
_QUEUED_PACKETS = 20_000
"""What the kernel keeps for the router to read: what does not fit there is lost, and counted as such."""

_RTM_NEWLINK, _IFLA_TXQLEN = 16, 13
_RTM_NEWROUTE, _NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE = 24, 0x1, 0x4, 0x100
_RT_TABLE_MAIN, _RTPROT_KERNEL, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 2, 253, 1
_RTA_DST, _RTA_OIF, _RTA_PREFSRC, _RTA_METRICS = 1, 4, 7, 8
_RTAX_INITCWND, _RTAX_CC_ALGO = 11, 16

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, with its loopback up and without IPv6, whose own packets would mix with those of a load."""

    def __init__(self) -> None:
        _unshare(_CLONE_NEWNET, "network")
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        set_kernel("net.ipv6.conf.all.disable_ipv6", "1", if_there=True)
        set_kernel("net.ipv6.conf.default.disable_ipv6", "1", if_there=True)
        with _ioctl_socket() as sock:
            _set_flags(sock, "lo", _IFF_UP | _IFF_RUNNING)

    @contextlib.contextmanager
    def entered(self, home_fd: int) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile, and in that of `home_fd` afterwards."""
        _setns(self.fd)
        try:
            yield
        finally:
            _setns(home_fd)


def become_root() -> bool:
    """Become root of a user namespace of our own, unless we are root enough. True if we did. Either way the process is
    in an empty network namespace then, which it may come back to from others: to the host's it may not.

    Raises UnsupportedError if that is not allowed."""
    if os.geteuid() == 0 and not _libc.unshare(_CLONE_NEWNET):
        return False
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET, "user")
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    except OSError as error:  # as for a root that has been robbed of its capabilities
        raise UnsupportedError(
            f"no links here: we may not become root of a user namespace ({error.strerror}); run as an ordinary user, "
            "or as root with CAP_SYS_ADMIN; loopback works without"
        ) from None
    return True


def open_tun(name: str, address: IPv4Interface, mtu: int) -> int:
    """A TUN device in the current namespace, up, with its address; gives the descriptor that its packets go through,
    which does not block. The device is gone when that is closed. Raises UnsupportedError."""
    try:
        fd = os.open(_TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        how = f"mkdir -p /dev/net; mknod {_TUN_PATH} c 10 200" if isinstance(error, FileNotFoundError) else ""
        how = how or f"as root: chmod 666 {_TUN_PATH}, or run as root"
        raise UnsupportedError(
            f"no links here: {_TUN_PATH} cannot be opened ({error.strerror}); {how}; loopback works without"
        ) from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise UnsupportedError(
            f"no links here: a TUN device cannot be made ({error.strerror}); the kernel may lack it: modprobe tun"
        ) from None
    # By netlink, because the ioctl for it is root's alone.
    queued = _attribute(_IFLA_TXQLEN, struct.pack("I", _QUEUED_PACKETS))
    number = _ask_kernel(_RTM_NEWLINK, 0, struct.pack("BxHiII", 0, 0, socket.if_nametoindex(name), 0, 0) + queued)
    if number:
        raise UnsupportedError(f"no links here: a device takes no queue of its own ({os.strerror(number)})")
    with _ioctl_socket() as sock:
        _set(sock, _SIOCSIFMTU, name, struct.pack("i", mtu))
        set_address(name, address)
        _set_flags(sock, name, _IFF_UP | _IFF_RUNNING)
    return fd


def set_address(device: str, address: IPv4Interface) -> None:
    """Give a device of the current namespace this address in the place of the one it has."""
    with _ioctl_socket() as sock:
        _set(sock, _SIOCSIFADDR, device, _socket_address(address.ip.packed))
        _set(sock, _SIOCSIFNETMASK, device, _socket_address(address.netmask.packed))


def add_route(destination: IPv4Network, gateway: str) -> None:
    """Send what is for that network to the gateway (rtentry of route.h, with its padding)."""
    entry = struct.pack(
        "8x16s16s16sH62x",
        _socket_address(destination.network_address.packed),
        _socket_address(socket.inet_aton(gateway)),
        _socket_address(destination.netmask.packed),
        _RTF_UP | _RTF_GATEWAY,
    )
    with _ioctl_socket() as sock:
        fcntl.ioctl(sock, _SIOCADDRT, entry)


def set_route_metrics(device: str, address: IPv4Interface, window: int | None, congestion: str | None) -> None:
    """Have connections to the neighbours on a device begin with so large a window (segments), and use that congestion
    control: attributes of its route (rtnetlink(7), RTA_METRICS), as `ip route change … initcwnd … congctl …` sets them.
    Raises UnsupportedError."""
    metrics = b""
    if window is not None:
        metrics += _attribute(_RTAX_INITCWND, struct.pack("I", window))
    if congestion is not None:
        metrics += _attribute(_RTAX_CC_ALGO, congestion.encode() + b"\0")
    network = address.network
    body = struct.pack(
        "8BI", socket.AF_INET, network.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_KERNEL, _RT_SCOPE_LINK, _RTN_UNICAST, 0
    )
    body += _attribute(_RTA_DST, network.network_address.packed)
    body += _attribute(_RTA_OIF, struct.pack("I", socket.if_nametoindex(device)))
    body += _attribute(_RTA_PREFSRC, address.ip.packed)
    body += _attribute(_RTA_METRICS, metrics)
    error = _ask_kernel(_RTM_NEWROUTE, _NLM_F_REPLACE, body)
    if error:
        wanted = " ".join(filter(None, [congestion, f"initcwnd {window}" if window is not None else ""]))
        known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="ascii").strip()
        raise UnsupportedError(
            f"the kernel takes no {wanted} for a link: {os.strerror(error)}; it knows the congestion controls {known}"
        )


def set_kernel(name: str, value: str, if_there: bool = False) -> None:
    """Set a kernel parameter (sysctl) of the current namespace. Raises UnsupportedError.

    `if_there` forgives a kernel that does not know it."""
    path = _kernel_path(name)
    if if_there and not path.exists():
        return
    try:
        path.write_text(value, encoding="ascii")
    except OSError as error:
        raise UnsupportedError(
            f"the kernel takes no {name}={value} in a network namespace: {error.strerror}; sysctl {name} shows "
            "whether it knows it"
        ) from None


def read_kernel(name: str) -> str:
    """What a kernel parameter of the current namespace is."""
    try:
        return " ".join(_kernel_path(name).read_text(encoding="ascii").split())
    except OSError:
        return "unavailable"


def _kernel_path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _attribute(kind: int, data: bytes) -> bytes:
    """An attribute of netlink: its length, its kind, its data, and padding to four bytes."""
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _ask_kernel(kind: int, flags: int, body: bytes) -> int:
    """Send a message of rtnetlink(7), and wait for what the kernel says to it: an errno, 0 if it did as asked."""
    head = struct.pack("IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:  # of NETLINK_ROUTE
        sock.send(head + body)
        error: int = struct.unpack_from("i", sock.recv(4096), 16)[0]
    return -error


def _unshare(flags: int, what: str) -> None:
    if _libc.unshare(flags):
        raise UnsupportedError(
            f"no links here: the kernel allows us no {what} namespace ({os.strerror(ctypes.get_errno())}); as root: "
            "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; loopback works without"
        )


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ioctl_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _socket_address(packed: bytes) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, packed)


def _set(sock: socket.socket, request: int, device: str, data: bytes) -> None:
    fcntl.ioctl(sock, request, struct.pack("16s24s", device.encode(), data))


def _set_flags(sock: socket.socket, device: str, flags: int) -> None:
    _set(sock, _SIOCSIFFLAGS, device, struct.pack("h", flags))
