"""Accounts of packets: what was carried between two of them, and in plain words."""

from typing import Any

from bench.quantities import format_duration, format_size


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What an account has more than one before, count by count. Of indices of lost packets, those that came since."""
    found: dict[str, Any] = {}
    for key, value in after.items():
        if isinstance(value, dict):
            found[key] = difference(before[key], value)
        elif isinstance(value, list):
            found[key] = value[len(before[key]) :]
        else:
            found[key] = value - before[key]
    return found


_FATES = (
    ("lost", "lost"),
    ("overflowed", "dropped by the full queue"),
    ("oversized", "too large for the path"),
    ("blocked", "blocked"),
    ("duplicated", "duplicated"),
    ("reordered", "sent ahead"),
)


def in_words(account: dict[str, Any], links: list[tuple[str, str]]) -> str:
    """An account for people: a line for each direction of each link (`links` names their ends), then what the kernels
    counted and how late the router was."""
    lines = []
    for (a, b), span in zip(links, account["spans"], strict=True):
        for way, name in (("up", f"{a} → {b}"), ("down", f"{b} → {a}")):
            counts = span[way]
            fates = [f"{counts[key]:,} {words}" for key, words in _FATES if counts[key]]
            gone = sum(counts[key] for key in ("delivered", "lost", "overflowed", "oversized")) - counts["duplicated"]
            if counts["offered"] > gone:
                fates.append(f"{counts['offered'] - gone:,} still under way")
            lines.append(
                f"{name}: {counts['offered']:,} packets ({format_size(counts['offered_bytes'])}), "
                + ", ".join([f"{counts['delivered']:,} delivered", *fates])
            )
    for name, counted in account["nodes"].items():
        if counted["tcp_segments_sent"] or counted["udp_datagrams_sent"]:
            tcp = f"{counted['tcp_connects']:,} TCP connects, {counted['tcp_segments_sent']:,} segments"
            again = f"{counted['tcp_segments_retransmitted']:,} of them again"
            lines.append(f"{name}: {tcp}, {again}; {counted['udp_datagrams_sent']:,} UDP datagrams")
        if counted["link_packets_dropped"]:
            lines.append(f"{name}: {counted['link_packets_dropped']:,} packets dropped since the router was too slow")
    late = account["late_ns"]
    if late is not None:
        lines.append(
            f"packets left the link {format_duration(late['p50'])} late (p50), {format_duration(late['p99'])} (p99), "
            f"{format_duration(late['max'])} at most"
        )
    return "\n".join(lines)
