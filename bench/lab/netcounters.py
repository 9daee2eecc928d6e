"""What the kernel of a network namespace has counted (proc(5): /proc/net/snmp, netstat and dev)."""

from pathlib import Path

Counters = dict[str, int]

_WANTED = {
    "Tcp:ActiveOpens": "tcp_connects",
    "Tcp:PassiveOpens": "tcp_accepts",
    "Tcp:OutSegs": "tcp_segments_sent",
    "Tcp:RetransSegs": "tcp_segments_retransmitted",
    "Tcp:OutRsts": "tcp_resets_sent",
    "TcpExt:TCPSynRetrans": "tcp_syns_retransmitted",
    "TcpExt:TCPTimeouts": "tcp_timeouts",
    "TcpExt:TCPLostRetransmit": "tcp_retransmissions_lost",
    "TcpExt:TCPFastOpenActive": "tcp_fast_open_connects",
    "TcpExt:TCPFastOpenPassive": "tcp_fast_open_accepts",
    "TcpExt:ListenOverflows": "tcp_listen_overflows",
    "Udp:OutDatagrams": "udp_datagrams_sent",
    "Udp:InDatagrams": "udp_datagrams_received",
    "Udp:RcvbufErrors": "udp_datagrams_overflowed",
}
_DEV_TX_DROPPED = 11
"""The column of /proc/net/dev that counts what a device could not send."""


def read_counters() -> Counters:
    """The counters of the calling thread's namespace; `link_packets_dropped` are those that found the router too
    slow."""
    counters: Counters = {}
    for name in ("snmp", "netstat"):
        lines = Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").splitlines()
        for keys, values in zip(lines[::2], lines[1::2], strict=True):
            group, *names = keys.split()
            for key, value in zip(names, values.split()[1:], strict=True):
                if (wanted := _WANTED.get(group + key)) is not None:
                    counters[wanted] = int(value)
    counters["link_packets_dropped"] = 0
    for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()[2:]:
        device, _, columns = line.strip().partition(":")
        if device != "lo":
            counters["link_packets_dropped"] += int(columns.split()[_DEV_TX_DROPPED])
    return counters
