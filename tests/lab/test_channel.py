"""What one way of a link does to packets, with a clock that stands still until it is told."""

import itertools
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.lab.channel import MAX_LOST_LISTED, Channel
from bench.lab.link import Direction, parse_link

MS = 1_000_000


def ip(protocol: int, size: int = 100, ports: tuple[int, int] = (1, 2), fragment: int = 0) -> bytes:
    """An IPv4 packet; `fragment` is its offset in units of 8 bytes."""
    header = bytearray(20)
    header[0] = 0x45
    header[6:8] = fragment.to_bytes(2, "big")
    header[9] = protocol
    return bytes(header) + b"".join(port.to_bytes(2, "big") for port in ports) + bytes(size - 24)


TCP, UDP, ICMP = 6, 17, 1
PACKET = ip(TCP)


def up(text: str) -> Direction:
    return parse_link(text, "here").up


def numbered(count: int) -> list[bytes]:
    return [PACKET[:24] + number.to_bytes(4, "big") for number in range(count)]


def arrivals(channel: Channel) -> list[tuple[int, int]]:
    """When each packet arrives, and its number."""
    return [(due, int.from_bytes(packet[24:28], "big")) for due, packet in channel.queue]


def send(text: str, count: int, every_ns: int = 0, seed: str = "1", size: int = 100) -> Channel:
    channel = Channel(up(text), seed)
    for number in range(count):
        channel.offer(PACKET[:24] + number.to_bytes(4, "big") + bytes(size - 28), number * every_ns)
    return channel


@pytest.mark.parametrize("more", ["", ",pmtu=1500"])
def test_delay_to_the_nanosecond(more: str) -> None:
    channel = send(f"delay=1234567ns{more}", 3, every_ns=10)
    assert arrivals(channel) == [(1234567, 0), (1234577, 1), (1234587, 2)]
    assert (channel.counts.offered, channel.counts.offered_bytes) == (3, 300)


def test_uniform_jitter_stays_within_its_bounds_and_fills_them() -> None:
    sent_ns = 100 * MS
    channel = send("delay=20ms,jitter=5ms", 2000, every_ns=sent_ns)
    delays = [due - number * sent_ns for due, number in arrivals(channel)]
    assert min(delays) >= 15 * MS
    assert max(delays) <= 25 * MS
    assert stats.kstest(delays, stats.uniform(15 * MS, 10 * MS).cdf).pvalue > 0.001


def test_normal_jitter_is_normal() -> None:
    sent_ns = 1000 * MS
    channel = send("delay=50ms,jitter=5ms,shape=normal", 2000, every_ns=sent_ns)
    delays = [due - number * sent_ns for due, number in arrivals(channel)]
    assert stats.kstest(delays, stats.norm(50 * MS, 5 * MS).cdf).pvalue > 0.001


def test_a_normal_jitter_brings_nothing_before_it_was_sent() -> None:
    channel = send("delay=1ms,jitter=5ms,shape=normal", 2000, every_ns=100 * MS)
    assert all(due >= number * 100 * MS for due, number in arrivals(channel))


def test_jitter_keeps_the_order() -> None:
    got = arrivals(send("delay=20ms,jitter=20ms", 2000, every_ns=MS // 10))
    assert [number for _, number in got] == list(range(2000))
    assert got == sorted(got)


def test_a_rate_spaces_packets_by_their_size() -> None:
    channel = send("rate=8mbit,queue=1s", 50, size=1000)  # a byte takes 1 µs
    assert [due for due, _ in arrivals(channel)] == [MS * (number + 1) for number in range(50)]


def test_a_rate_does_not_hold_up_what_comes_slower() -> None:
    channel = send("delay=5ms,rate=8mbit", 50, every_ns=2 * MS, size=1000)
    assert [due for due, _ in arrivals(channel)] == [2 * MS * number + 6 * MS for number in range(50)]


def test_a_rate_is_reached_when_there_is_more_than_it_takes() -> None:
    channel = send("rate=20mbit,queue=10ms", 10_000, every_ns=100_000, size=1500)  # 120 mbit are offered
    got = arrivals(channel)
    bits = 8 * sum(len(packet) for _, packet in channel.queue)
    assert bits / (got[-1][0] / 1e9) == pytest.approx(20e6, rel=1e-6)
    assert channel.counts.overflowed == 10_000 - len(got)


def test_a_queue_in_time_drops_what_would_wait_longer() -> None:
    channel = send("rate=8mbit,queue=10ms", 100, size=1000)
    # One goes out at once, and ten find a turn within 10 ms.
    assert [number for _, number in arrivals(channel)] == list(range(11))
    assert channel.counts.overflowed == 89


def test_a_queue_in_bytes_drops_what_has_no_room() -> None:
    channel = send("rate=8mbit,queue=10kB", 100, size=1000)
    assert [number for _, number in arrivals(channel)] == list(range(10))
    channel.offer(ip(TCP, 100), 500_000)  # half a packet has left
    channel.offer(ip(TCP, 1000), 500_000)
    assert [len(packet) for _, packet in channel.queue][10:] == [100]
    assert channel.counts.overflowed == 91


def test_a_packet_that_need_not_wait_needs_no_queue() -> None:
    assert len(send("rate=8mbit,queue=0s", 10, every_ns=MS, size=1000).queue) == 10
    assert len(send("rate=8mbit,queue=0B", 10, every_ns=MS, size=1000).queue) == 10
    assert len(send("rate=8mbit,queue=0B", 10, every_ns=MS - 1, size=1000).queue) == 5


def test_the_queue_is_drop_tail() -> None:
    got = [number for _, number in arrivals(send("rate=8mbit,queue=10ms", 1000, every_ns=900_000, size=1000))]
    assert got == sorted(got)
    assert len(got) < 1000
    longest = max(later - earlier for earlier, later in itertools.pairwise(got))
    assert longest == 2  # once full, it takes the next as soon as one has left


def test_duplicates_follow_each_other() -> None:
    channel = send("delay=5ms,duplicate=30%", 2000, every_ns=MS)
    got = arrivals(channel)
    times = [len(list(group)) for _, group in itertools.groupby(got)]
    assert sum(1 for count in times if count == 2) == channel.counts.duplicated
    assert set(times) == {1, 2}
    assert stats.binomtest(channel.counts.duplicated, 2000, 0.3).pvalue > 0.001
    assert channel.counts.offered == 2000


def test_what_is_reordered_skips_the_delay() -> None:
    channel = send("delay=10ms,reorder=20%", 2000, every_ns=MS)
    got = arrivals(channel)
    ahead = [number for due, number in got if due == number * MS]
    assert len(ahead) == channel.counts.reordered
    assert all(due == number * MS + 10 * MS for due, number in got if number not in set(ahead))
    assert [due for due, _ in got] == sorted(due for due, _ in got)
    assert [number for _, number in got] != list(range(2000))
    assert stats.binomtest(len(ahead), 2000, 0.2).pvalue > 0.001


@pytest.mark.parametrize(
    ("block", "through"),
    [
        ("udp", [ip(TCP), ip(ICMP)]),
        ("tcp+udp", [ip(ICMP)]),
        ("icmp", [ip(TCP), ip(UDP)]),
        ("udp:443", [ip(UDP, ports=(442, 80)), ip(TCP, ports=(443, 443)), ip(UDP, ports=(1, 443), fragment=185)]),
    ],
)
def test_what_is_blocked_does_not_get_through(block: str, through: list[bytes]) -> None:
    stopped = {
        "udp": [ip(UDP)],
        "tcp+udp": [ip(UDP), ip(TCP)],
        "icmp": [ip(ICMP)],
        "udp:443": [ip(UDP, ports=(443, 9)), ip(UDP, ports=(9, 443))],
    }[block]
    channel = Channel(up(f"block={block}"), "1")
    for packet in [*through, *stopped]:
        channel.offer(packet, 0)
    assert [packet for _, packet in channel.queue] == through
    assert channel.counts.blocked == len(stopped)
    assert channel.counts.offered == len(through)


def test_what_is_too_large_vanishes() -> None:
    channel = Channel(up("pmtu=1280"), "1")
    for size in (1280, 1281, 1500, 100):
        channel.offer(ip(UDP, size), 0)
    assert [len(packet) for _, packet in channel.queue] == [1280, 100]
    assert channel.counts.oversized == 2


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.03, 0.5])
def test_the_share_of_losses_is_within_its_binomial_interval(loss: float) -> None:
    channel = send(f"loss={loss:%}", 50_000)
    assert stats.binomtest(channel.counts.lost, 50_000, loss).pvalue > 0.001
    assert len(channel.queue) == 50_000 - channel.counts.lost


def test_losses_know_nothing_of_each_other() -> None:
    indices = send("loss=10%", 50_000).counts.lost_indices
    after_a_loss = sum(1 for earlier, later in itertools.pairwise(indices) if later == earlier + 1)
    assert stats.binomtest(after_a_loss, len(indices) - 1, 0.1).pvalue > 0.001


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 5.0), (0.05, 2.0), (0.2, 20.0), (0.5, 1.0)])
def test_bursts_have_the_mean_length_and_share_that_were_asked_for(loss: float, burst: float) -> None:
    count = 400_000
    channel = Channel(Direction(loss=loss, burst=burst), "1")
    lost = []
    for number in range(count):
        channel.offer(PACKET, 0)
        if channel.counts.lost > len(lost):
            lost.append(number)
    runs: list[int] = []
    last = -2
    for index in lost:
        if index == last + 1:
            runs[-1] += 1
        else:
            runs.append(1)
        last = index
    # Lengths are geometric: their standard deviation is sqrt(b(b-1)), that of the share follows from it.
    error = (burst * (burst - 1) / len(runs)) ** 0.5
    assert statistics.mean(runs) == pytest.approx(burst, abs=4 * error + 1e-9)
    assert len(lost) / count == pytest.approx(loss, rel=0.1)
    assert channel.counts.lost_indices == lost[:MAX_LOST_LISTED]


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["", ",burst=3"]),
    st.lists(
        st.sampled_from(
            ["delay=20ms", "jitter=3ms", "duplicate=20%", "reorder=10%", "rate=1mbit", "queue=3kB", "pmtu=900"]
        ),
        unique=True,
    ),
    st.lists(st.integers(28, 1500), min_size=1, max_size=20),
)
def test_the_same_seed_loses_the_same_packets_whatever_else_happens(
    seed: int, burst: str, features: list[str], sizes: list[int]
) -> None:
    plain = send(f"loss=10%{burst}", 300, seed=str(seed)).counts.lost_indices
    if "queue=3kB" in features and "rate=1mbit" not in features:
        features.remove("queue=3kB")
    if "delay=20ms" not in features:
        features = [feature for feature in features if feature not in ("jitter=3ms", "reorder=10%")]
    channel = Channel(up(",".join([f"loss=10%{burst}", *features])), str(seed))
    for number in range(300):
        channel.offer(ip(UDP, sizes[number % len(sizes)]), number * 1000)
    assert channel.counts.lost_indices == plain


@settings(deadline=None)
@given(st.lists(st.integers(28, 1500), min_size=40, max_size=40), st.integers(1, 20))
def test_duplicates_and_overtakers_are_the_same_whatever_is_dropped(sizes: list[int], every_us: int) -> None:
    """What befalls a packet depends on the seed and its index alone."""
    way = up("delay=20ms,duplicate=30%,reorder=30%,jitter=1ms,loss=10%")
    fates: list[dict[int, int]] = []
    for pmtu in (None, 700):
        channel = Channel(replace(way, pmtu=pmtu), "1")
        fate = {}
        for number, size in enumerate(sizes):
            before = replace(channel.counts)
            channel.offer(PACKET[:24] + number.to_bytes(4, "big") + bytes(size - 28), number * every_us * 1000)
            now = channel.counts
            if now.lost + now.oversized == before.lost + before.oversized:
                fate[number] = 2 * (now.duplicated - before.duplicated) + now.reordered - before.reordered
        fates.append(fate)
    everything, fewer = fates
    assert fewer.items() <= everything.items()


def test_other_seeds_lose_other_packets() -> None:
    assert send("loss=10%", 300, seed="1").counts.lost_indices != send("loss=10%", 300, seed="2").counts.lost_indices


def test_every_packet_is_accounted_for() -> None:
    channel = send(
        "delay=5ms,jitter=1ms,loss=5%,duplicate=5%,reorder=5%,rate=5mbit,queue=20kB,pmtu=1400", 3000, 200_000, size=400
    )
    counts = channel.counts
    assert counts.offered == 3000
    assert len(channel.queue) == 3000 - counts.lost - counts.overflowed - counts.oversized + counts.duplicated
    assert min(counts.lost, counts.overflowed, counts.duplicated, counts.reordered) > 0
