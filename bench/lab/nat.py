"""Address translation on a router of a lab, by nftables(8), between what is on link0 (inside) and all else (outside).

Four kinds, in the words of RFC 3489 section 5, and what RFC 4787 says instead (sections 4 and 5):

| kind | mapping: which outside port an inside port gets | filtering: who outside may send to it |
| --- | --- | --- |
| full-cone | endpoint-independent | endpoint-independent: everybody |
| address-restricted | endpoint-independent | address-dependent: addresses that it has sent to |
| port-restricted | endpoint-independent | address and port-dependent: endpoints that it has sent to |
| symmetric | address and port-dependent: another for each | address and port-dependent |

The first three keep the inside port where they can ("port preservation"), until `rebind`. None answers or forwards what
comes unasked otherwise; a packet from inside to an outside port of the router itself does not come back in (no
hairpinning). Which port a symmetric one gives is the kernel's choice, and does not come from the lab's seed.
"""

import os
import socket
import struct
from typing import NamedTuple

from bench.errors import UnsupportedError, UsageError
from bench.lab.namespaces import set_kernel
from bench.lab.programs import run


class _Kind(NamedTuple):
    is_symmetric: bool
    """Whether each destination gets a mapping of its own."""
    filtering: str | None
    """The rule for packets of new flows that arrive at a mapping from outside; None where none may come in."""


KINDS = {
    "full-cone": _Kind(False, "ct status dnat accept"),
    "address-restricted": _Kind(False, "ct status dnat meta l4proto . th dport . ip saddr @sent_to accept"),
    "port-restricted": _Kind(False, None),
    "symmetric": _Kind(True, None),
}

_FRESH_PORTS = ("10000-19999", "20000-29999")
"""What takes turns as the outside ports after `rebind`: none that Linux gives to programs by itself, since the kernel
keeps a port that it finds in the range."""
_SPARE_PORTS = "30000-31999"
"""For inside ports that are in the range whose turn it is."""

_MAPPING_S = 300
"""How long a mapping lasts without packets from inside (RFC 4787 section 4.3 asks for 2 minutes or more)."""

_NETLINK_NETFILTER, _NLM_F_REQUEST, _NLM_F_ACK = 12, 0x1, 0x4
_CTNETLINK_DELETE = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_DELETE (linux/netfilter/nfnetlink_conntrack.h)."""


def check_kind(kind: str, where: str) -> None:
    """Raises UsageError unless it is a kind of address translation, or none ("")."""
    if kind and kind not in KINDS:
        raise UsageError(f"{where}: no address translation {kind!r}; there are {', '.join(KINDS)}")


def translate(kind: str, bindings: int = 0) -> None:
    """Translate addresses in the current network namespace, in the place of what did so before. `bindings` is how often
    mappings were given anew. Raises UnsupportedError."""
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        set_kernel(f"net.netfilter.{name}", str(_MAPPING_S), if_there=True)
    needs = "nf_tables with nat and masquerade (modprobe nft_chain_nat nft_masq)"
    what = "address translation (NAT)"
    run("nft", "-f", "-", given=_rules(KINDS[kind], bindings), what=what, package="nftables", needs=needs)


def rebind(kind: str, bindings: int) -> None:
    """Forget all mappings, as a router does that starts anew, and give other outside ports from now on: for the
    `bindings`-th time. Raises UnsupportedError."""
    translate(kind, bindings)
    _forget_flows()


def _rules(kind: _Kind, bindings: int) -> str:
    """What nft reads, all or nothing."""
    fresh = _FRESH_PORTS[bindings % 2]
    if kind.is_symmetric:
        out = ["masquerade fully-random"]
    elif bindings:
        out = [f"th sport {fresh} masquerade to :{_SPARE_PORTS}", f"masquerade to :{fresh}"]
    else:
        out = ["masquerade"]
    outward = 'oifname != "link0" meta l4proto { tcp, udp }'
    inward = 'iifname != "link0" meta l4proto { tcp, udp }'
    come_in = f"{inward} dnat ip to meta l4proto . th dport map @mappings" if kind.filtering else ""
    source = "ct original ip saddr . ct original proto-src"
    newline = "\n        "
    return f"""
table ip wirebench
delete table ip wirebench
table ip wirebench {{
    map mappings {{
        type inet_proto . inet_service : ipv4_addr . inet_service
        size 65535; flags dynamic, timeout; timeout {_MAPPING_S}s
    }}
    set sent_to {{
        type inet_proto . inet_service . ipv4_addr
        size 65535; flags dynamic, timeout; timeout {_MAPPING_S}s
    }}
    chain before {{
        type nat hook prerouting priority dstnat
        {come_in}
    }}
    chain out {{
        type nat hook postrouting priority srcnat
        {newline.join(f"{outward} {each}" for each in out)}
        oifname != "link0" masquerade
    }}
    chain after {{
        type filter hook postrouting priority 300
        {outward} ct direction original update @mappings {{ meta l4proto . th sport : {source} }}
    }}
    chain through {{
        type filter hook forward priority filter
        iifname "link0" meta l4proto {{ tcp, udp }} update @sent_to {{ meta l4proto . th sport . ip daddr }}
        iifname "link0" accept
        ct state established,related accept
        {kind.filtering or ""}
        drop
    }}
    chain to_router {{
        type filter hook input priority filter
        {inward} ct state new drop comment "an entry for it would take its port from a later mapping"
    }}
}}
"""


def _forget_flows() -> None:
    """Delete all that the namespace's connection tracking knows: an nfgenmsg without attributes (nfnetlink.h)."""
    body = struct.pack(">BBH", socket.AF_INET, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.send(struct.pack("IHHII", 16 + len(body), _CTNETLINK_DELETE, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0) + body)
        error = -struct.unpack_from("i", sock.recv(4096), 16)[0]
    if error:
        raise UnsupportedError(
            f"the router cannot forget its mappings: {os.strerror(error)}; modprobe nf_conntrack_netlink"
        )
