"""Packets from captures: pairing, parsing, and what streams carry. No network."""

import base64
import contextlib
import random
import ssl
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dpkt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.certificates import Certificates, certificates
from bench.errors import CaptureError, WirebenchError
from bench.lab import ladder
from bench.lab.conversations import Conversation, conversations, quic_packets
from bench.lab.http_streams import PREFACE
from bench.lab.packets import ACK, FIN, SYN, Endpoint, Packet, Segment, Way, pair, parse, read_packets, read_pcap

CLIENT, SERVER = Endpoint("10.77.0.1", 40_000), Endpoint("10.77.0.2", 443)
RTT_NS = 100_000_000


def ip_packet(source: str, destination: str, data: bytes, ttl: int = 64) -> bytes:
    """A UDP datagram in IPv4."""
    addresses = [bytes(map(int, address.split("."))) for address in (source, destination)]
    udp = dpkt.udp.UDP(sport=1, dport=2, data=data, ulen=8 + len(data))
    return bytes(dpkt.ip.IP(src=addresses[0], dst=addresses[1], p=17, ttl=ttl, data=udp, len=28 + len(data)))


def up(data: bytes, **options: int) -> bytes:
    return ip_packet("10.0.0.1", "10.0.0.2", data, **options)


def down(data: bytes) -> bytes:
    return ip_packet("10.0.0.2", "10.0.0.1", data)


def write_pcap(path: Path, seen: list[tuple[int, bytes]], linktype: int = 101) -> None:
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, linktype)
    records = (struct.pack("<IIII", *divmod(at, 10**9), len(data), len(data)) + data for at, data in seen)
    path.write_bytes(head + b"".join(records))


def test_equal_packets_pair_up_in_their_order_and_what_never_came_was_lost() -> None:
    one, two, answer = up(b"one"), up(b"two"), down(b"answer")
    packets = pair(
        [(0, one), (10, two), (20, one), (500, answer)], [(100, one), (150, one), (200, answer), (900, down(b"last"))]
    )
    assert [(p.way, p.sent_ns, p.arrived_ns, p.payload) for p in packets] == [
        ("up", 0, 100, b"one"),
        ("up", 10, None, b"two"),
        ("up", 20, 150, b"one"),
        ("down", 200, 500, b"answer"),
    ]


def test_what_was_under_way_at_the_end_is_not_lost() -> None:
    assert len(pair([(0, up(b"a")), (60, up(b"b"))], [(50, up(b"a")), (100, down(b"c"))])) == 1


def test_what_an_end_no_longer_kept_is_not_lost() -> None:
    at_client = [(at, up(bytes([at]))) for at in range(0, 90, 10)]
    at_server = [(at + 5, packet) for at, packet in at_client]
    assert [packet.arrived_ns for packet in pair(at_client, at_server[:3])].count(None) == 5
    assert [packet.arrived_ns for packet in pair(at_client, at_server[:3], limit=3)] == [5, 15, 25]


def test_a_packet_that_arrives_twice_is_a_duplicate() -> None:
    packets = pair([(0, up(b"a"))], [(50, up(b"a")), (60, up(b"a"))])
    assert [(p.arrived_ns, p.duplicate) for p in packets] == [(50, False), (60, True)]
    (conversation,) = conversations(packets)
    assert ladder.summary([conversation], 100)["up"]["udp"]["packets"] == 1


def test_a_router_on_the_way_changes_time_to_live_and_checksum_only() -> None:
    (packet,) = pair([(0, up(b"a", ttl=64))], [(50, up(b"a", ttl=63))])
    assert packet.arrived_ns == 50


def test_sides_are_told_by_who_sees_a_packet_first_even_if_a_client_moves() -> None:
    moved = ip_packet("10.0.0.9", "10.0.0.2", b"b")
    packets = pair([(0, up(b"a")), (60, moved)], [(50, up(b"a")), (110, moved)])
    assert [(packet.way, packet.source.address) for packet in packets] == [("up", "10.0.0.1"), ("up", "10.0.0.9")]


def test_files_that_are_no_captures_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"client\.pcap: cannot be read: No such file"):
        read_packets(tmp_path)
    (tmp_path / "client.pcap").write_bytes(b"")
    with pytest.raises(CaptureError, match="is no pcap file"):
        read_packets(tmp_path)
    (tmp_path / "client.pcap").write_text("this is a text and no capture")
    with pytest.raises(CaptureError, match="is no pcap file"):
        read_packets(tmp_path)
    write_pcap(tmp_path / "client.pcap", [], linktype=1)
    with pytest.raises(CaptureError, match="holds link type 1"):
        read_packets(tmp_path)


def test_a_capture_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "client.pcap"
    write_pcap(path, [(1_700_000_000_123_456_789, up(b"one")), (1_700_000_001_000_000_001, up(b"two"))])
    whole = path.read_bytes()
    assert read_pcap(path)[0] == (1_700_000_000_123_456_789, up(b"one"))
    for cut in range(24, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(read_pcap(path)) == (cut >= 24 + 16 + len(up(b"one"))), cut


# What streams carry


class Talk:
    """A TCP connection packet by packet, for `conversations`: each packet takes half a round trip."""

    def __init__(self, up_seq: int = 1000, down_seq: int = 2000) -> None:
        self.packets: list[Packet] = []
        self.seq: dict[Way, int] = {"up": up_seq, "down": down_seq}
        self.now_ns = 0

    def send(
        self,
        way: Way,
        data: bytes = b"",
        flags: int = ACK,
        seq: int | None = None,
        lost: bool = False,
        cookie: str = "",
    ) -> "Talk":
        ends = (CLIENT, SERVER) if way == "up" else (SERVER, CLIENT)
        at = self.seq[way] if seq is None else seq
        arrived_ns = None if lost else self.now_ns + RTT_NS // 2
        segment = Segment(at % 2**32, flags, "cookie" if cookie else "")
        self.packets.append(Packet(way, self.now_ns, arrived_ns, bytes(52) + data, "tcp", *ends, data, segment))
        if seq is None:
            self.seq[way] = at + len(data) + bool(flags & SYN) + bool(flags & FIN)
        self.now_ns += 1000
        return self

    def wait(self, ns: int = RTT_NS // 2) -> "Talk":
        self.now_ns += ns
        return self

    def open(self) -> "Talk":
        self.send("up", flags=SYN).wait().send("down", flags=SYN | ACK).wait()
        return self.send("up")

    @property
    def conversation(self) -> Conversation:
        (found,) = conversations(self.packets)
        return found

    @property
    def words(self) -> list[str]:
        return [line.words for line in self.conversation.lines]


def test_http_in_the_clear() -> None:
    talk = Talk().open().send("up", b"GET /a/rather/long/path/to HTTP/1.1\r\nHost: x\r\n\r\n").wait()
    talk.send("down", b"HTTP/1.1 200 OK\r\n\r\nbody").send("down", b"more").wait().send("up", flags=FIN | ACK)
    assert talk.words[3:] == ["GET /a/rather/long/path…", "answer 200", "… answer 200", "FIN"]
    assert talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(2, abs=0.001)
    assert talk.conversation.handshake


def test_sequence_numbers_wrap() -> None:
    talk = Talk(up_seq=2**32 - 5).open().send("up", b"GET / HTTP/1.1\r\n\r\n").send("up", b"x" * 9)
    talk.send("up", b"x" * 9, seq=2**32 + 14)
    assert [line.retransmission for line in talk.conversation.lines] == [False] * 5 + [True]
    assert talk.words[-3:] == ["GET /", "… GET /", "… GET /"]


def test_what_was_sent_before_is_a_retransmission_and_keeps_its_words() -> None:
    talk = Talk().send("up", flags=SYN, lost=True).wait(RTT_NS).send("up", flags=SYN, seq=1000).wait()
    talk.send("down", flags=SYN | ACK).wait().send("up")
    talk.send("up", b"GET / HTTP/1.1\r\n\r\n", lost=True).wait().send("up", b"GET / HTTP/1.1\r\n\r\n", seq=1001).wait()
    talk.send("down", b"HTTP/1.1 204 No Content\r\n\r\n")
    again = [line.retransmission for line in talk.conversation.lines]
    assert again == [False, True, False, False, False, True, False]
    assert talk.words[4:6] == ["GET /", "GET /"]
    assert talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(3.5, abs=0.001)
    made = ladder.ladder(talk.conversation, RTT_NS).record()
    assert (made["retransmissions"], made["steps"][0]["arrived_ns"]) == (2, None)


def test_a_keep_alive_is_no_retransmission() -> None:
    talk = Talk().open().send("up", b"x").send("up", b"", seq=1001).send("up", b"\0", seq=1001)
    assert not any(line.retransmission for line in talk.conversation.lines)


def test_a_connection_opened_anew_between_the_same_ports_is_another_conversation() -> None:
    first, second = Talk().open(), Talk(up_seq=77_000)
    second.now_ns = first.now_ns
    second.open()
    assert len(conversations(first.packets + second.packets)) == 2


def test_data_in_the_syn() -> None:
    talk = Talk().send("up", b"GET / HTTP/1.1\r\n\r\n", SYN, cookie="yes").wait()
    talk.send("down", flags=SYN | ACK).send("down", b"HTTP/1.1 200 OK\r\n\r\n")
    assert talk.words == ["SYN, cookie, GET /", "SYN/ACK", "answer 200"]
    assert talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(1, abs=0.001)


def frame(kind: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 0]) + payload


def test_http2_with_prior_knowledge_is_answered_by_its_headers_and_not_by_settings() -> None:
    talk = Talk().open().send("up", PREFACE + frame(4) + frame(1, b"request")).wait()
    talk.send("down", frame(4, b"x" * 6)).wait(RTT_NS)
    talk.send("down", frame(4)[:5]).send("down", frame(4)[5:] + frame(1, b"x" * 40)[:20])
    talk.send("down", frame(1, b"x" * 40)[20:] + frame(0, b"body") * 2)
    assert talk.words[3:] == [
        "h2 preface, SETTINGS, HEADERS",
        "SETTINGS",
        "SETTINGS",
        "HEADERS",
        "DATA ×2",
    ]
    assert talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(3, abs=0.001)


def test_an_upgrade_to_h2c() -> None:
    request = b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    talk = (
        Talk()
        .open()
        .send("up", request)
        .wait()
        .send("down", switch[:30])
        .send("down", switch[30:] + frame(4) + frame(1))
    )
    talk.wait().send("up", PREFACE + frame(4))
    assert talk.words[3:] == ["GET /, upgrade to h2c", "answer 101", "SETTINGS, HEADERS", "h2 preface, SETTINGS"]
    assert talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(2, abs=0.001)


class Tls:
    """Python's TLS at both ends of a talk, without sockets."""

    def __init__(self, version: ssl.TLSVersion, session: ssl.SSLSession | None = None) -> None:
        self.talk = Talk().open()
        self._segment_bytes = 1448
        files = certificates()
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._of_client, self._of_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client, server = CONTEXTS.get(version) or CONTEXTS.setdefault(version, _contexts(files, version))
        self.client = client.wrap_bio(self._to_client, self._of_client, server_hostname="localhost", session=session)
        self.server = server.wrap_bio(self._to_server, self._of_server, server_side=True)

    def exchange(self, segment_bytes: int = 1448, answer_bytes: int = 3000) -> "Tls":
        """The handshake, a request and its answer, in segments of that size."""
        self._segment_bytes = segment_bytes
        while not (self._is_done(self.client) and not self._of_client.pending):
            self._carry("up", self._of_client, self._to_server)
            self._is_done(self.server)
            self._carry("down", self._of_server, self._to_client)
        self.client.write(b"GET / HTTP/1.1\r\n\r\n")
        self._carry("up", self._of_client, self._to_server)
        self._is_done(self.server)
        self.server.read(100)
        self.server.write(b"x" * answer_bytes)
        self._carry("down", self._of_server, self._to_client)
        self.client.read(answer_bytes)
        return self

    @staticmethod
    def _is_done(end: ssl.SSLObject) -> bool:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _carry(self, way: Way, source: ssl.MemoryBIO, sink: ssl.MemoryBIO) -> None:
        data = source.read()
        for at in range(0, len(data), self._segment_bytes):
            self.talk.send(way, data[at : at + self._segment_bytes])
        if data:
            sink.write(data)
            self.talk.wait()


CONTEXTS: dict[ssl.TLSVersion, tuple[ssl.SSLContext, ssl.SSLContext]] = {}


def _contexts(files: Certificates, version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.private_key)
    client = ssl.create_default_context(cafile=str(files.authority))
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
    return client, server


def test_tls_1_2_by_its_messages() -> None:
    made = Tls(ssl.TLSVersion.TLSv1_2).exchange()
    assert made.talk.words[3:] == [
        "ClientHello",
        "ServerHello, Certificate, ServerKeyExchange, ServerHelloDone",
        "ClientKeyExchange, ChangeCipherSpec, Finished",
        "NewSessionTicket, ChangeCipherSpec, Finished",
        "application data",
        "application data",
        "… application data",
        "… application data",
    ]
    assert made.talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(4, abs=0.001)
    again = Tls(ssl.TLSVersion.TLSv1_2, made.client.session).exchange()
    assert again.client.session_reused
    assert again.talk.words[3:7] == [
        "ClientHello (ticket)",
        "ServerHello, NewSessionTicket, ChangeCipherSpec, Finished",
        "ChangeCipherSpec, Finished",
        "application data",
    ] or again.talk.words[3:7] == [
        "ClientHello (ticket)",
        "ServerHello, ChangeCipherSpec, Finished",
        "ChangeCipherSpec, Finished",
        "application data",
    ]
    assert again.talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(3.5, abs=0.001)


def test_tls_1_3_by_where_its_records_stand() -> None:
    made = Tls(ssl.TLSVersion.TLSv1_3).exchange()
    words = made.talk.words
    assert words[3:9] == [
        "ClientHello",
        "ServerHello, ChangeCipherSpec, encrypted handshake ×3, Finished",
        "ChangeCipherSpec, Finished",
        "NewSessionTicket ×2",
        "application data",
        "application data",
    ]
    assert made.talk.conversation.first_byte_rtts(RTT_NS) == pytest.approx(4, abs=0.001)
    again = Tls(ssl.TLSVersion.TLSv1_3, made.client.session).exchange()
    assert again.client.session_reused
    assert again.talk.words[3:5] == [
        "ClientHello (PSK)",
        "ServerHello (PSK), ChangeCipherSpec, encrypted handshake, Finished",
    ]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("segment_bytes", [1, 3, 7, 100])
def test_records_may_span_segments_and_say_the_same(version: ssl.TLSVersion, segment_bytes: int) -> None:
    whole, cut = Tls(version).exchange(), Tls(version).exchange(segment_bytes, 300)

    def said(made: Tls) -> list[str]:
        words = ", ".join(word for word in made.talk.words[3:] if not word.startswith("…")).split(", ")
        return [word for each in words for word in [each.partition(" ×")[0]] * int(each.partition(" ×")[2] or 1)]

    assert said(cut) == said(whole)


def long_packet(kind: int, length: int, version: int = 1) -> bytes:
    """A QUIC packet with a long header (RFC 9000, section 17.2), without a token."""
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big") + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
    return head + (b"\0" if kind == 0 else b"") + (0x4000 | length).to_bytes(2, "big") + b"x" * length


def test_quic_packets_in_a_datagram() -> None:
    retry = bytes([0xF0]) + b"\0\0\0\1" + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + b"token" + b"t" * 16
    negotiation = b"\x80" + b"\0" * 4 + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + b"\0\0\0\1"
    short = b"\x40" + b"x" * 30
    for datagram, types in [
        (long_packet(0, 1100) + long_packet(1, 100), ["Initial", "0-RTT"]),
        (long_packet(0, 100) + long_packet(2, 500) + short, ["Initial", "Handshake", "1-RTT"]),
        (long_packet(0, 1150) + b"\0" * 40, ["Initial"]),
        (short, ["1-RTT"]),
        (b"\x00" + b"x" * 30, ["1-RTT"]),  # the fixed bit may be greased
        (retry, ["Retry"]),
        (negotiation, ["Version Negotiation"]),
        (long_packet(0, 1100)[:-1], []),
        (b"", []),
    ]:
        assert quic_packets(datagram) == types


def quic_conversation(*datagrams: tuple[Way, bytes]) -> Conversation:
    packets = [
        Packet(way, number * RTT_NS // 2, (number + 1) * RTT_NS // 2, bytes(28) + data, "udp", *ends, data)
        for number, (way, data) in enumerate(datagrams)
        for ends in [(CLIENT, SERVER) if way == "up" else (SERVER, CLIENT)]
    ]
    (found,) = conversations(packets)
    return found


def test_the_answer_over_quic_comes_after_the_first_data_of_the_client() -> None:
    short = b"\x40" + b"x" * 30
    full = quic_conversation(
        ("up", long_packet(0, 1200)),
        ("down", long_packet(0, 100) + long_packet(2, 900) + short),  # what the server says by itself
        ("up", long_packet(2, 50) + short),
        ("down", short),
    )
    assert (full.protocol, full.handshake, full.first_byte_rtts(RTT_NS)) == ("quic", True, 2.0)
    early = quic_conversation(("up", long_packet(0, 1200) + long_packet(1, 50)), ("down", long_packet(0, 100) + short))
    assert early.first_byte_rtts(RTT_NS) == 1.0
    plain = quic_conversation(("up", b"hello"), ("down", b"hello"))
    assert (plain.protocol, plain.lines[0].words, plain.first_byte_rtts(RTT_NS)) == ("udp", "datagram", 1.0)
    assert plain.first_byte_rtts(0) is None


def test_a_summary_counts_by_direction_and_protocol() -> None:
    talk = (
        Talk().open().send("up", b"GET / HTTP/1.1\r\n\r\n").wait().send("down", b"HTTP/1.1 200 OK\r\n\r\n", lost=True)
    )
    talk.send("down", b"HTTP/1.1 200 OK\r\n\r\n", seq=2001)
    quiet = Talk(up_seq=9).send("up", flags=SYN)
    told = ladder.summary([talk.conversation, quiet.conversation], RTT_NS)
    assert told["up"] == {"tcp": {"packets": 4, "bytes": 4 * 52 + 18, "lost": 0, "retransmissions": 0}}
    assert told["down"]["tcp"] | {"bytes": 0} == {"packets": 3, "bytes": 0, "lost": 1, "retransmissions": 1}
    assert (told["conversations"], told["handshakes"]) == (2, {"tcp": 1})
    assert told["first_byte_rtts"]["count"] == 1
    assert ladder.summary([], RTT_NS)["first_byte_rtts"] is None


def test_the_typical_conversation_is_the_one_in_the_middle() -> None:
    made = []
    for late_ns in (0, 30_000_000, 10_000_000):
        talk = Talk(up_seq=late_ns).open().send("up", b"GET / HTTP/1.1\r\n\r\n").wait(RTT_NS // 2 + late_ns)
        made.append(talk.send("down", b"HTTP/1.1 200 OK\r\n\r\n").conversation)
    assert ladder.typical(made) is made[2]
    assert ladder.typical([]) is None


def test_a_ladder_keeps_so_many_packets_and_counts_the_others() -> None:
    talk = Talk().open()
    for _ in range(ladder.MAX_STEPS):
        talk.send("up", b"x")
    made = ladder.ladder(talk.conversation, RTT_NS)
    assert (len(made.steps), made.left_out) == (ladder.MAX_STEPS, 3)
    assert (made.record()["steps"][1]["from"], made.record()["steps"][1]["to"]) == ("server", "client")


# Whatever packets hold


def valid_packets() -> Iterator[bytes]:
    """Packets of real conversations, as IP."""
    rng = random.Random(5)
    talks = [Tls(version).exchange().talk for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    talks.append(Talk().open().send("up", PREFACE + frame(4) + frame(1, b"x" * 9)).send("down", frame(4) + frame(1)))
    for talk in talks:
        for packet in talk.packets:
            assert packet.tcp is not None
            ends = [bytes(map(int, end.address.split("."))) for end in (packet.source, packet.destination)]
            tcp = dpkt.tcp.TCP(
                sport=packet.source.port,
                dport=packet.destination.port,
                seq=packet.tcp.seq,
                flags=packet.tcp.flags,
                data=packet.payload,
            )
            size = 40 + len(packet.payload)
            yield bytes(dpkt.ip.IP(src=ends[0], dst=ends[1], p=6, data=tcp, len=size, id=rng.randrange(65536)))
    for datagram in (long_packet(0, 1150), long_packet(0, 90) + long_packet(2, 400) + b"\x40" + b"x" * 40):
        yield up(datagram)
        yield down(datagram)


VALID = list(valid_packets())


def read_all(at_client: list[tuple[int, bytes]], at_server: list[tuple[int, bytes]]) -> None:
    found = conversations(pair(at_client, at_server))
    ladder.summary(found, RTT_NS)
    for each in found:
        record = ladder.ladder(each, RTT_NS).record()
        assert all(step["sent_ns"] >= 0 for step in record["steps"])
        assert all(step["label"].isprintable() for step in record["steps"])


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.data())
def test_damaged_conversations_are_read_without_an_error(data: st.DataObject) -> None:
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    seen: list[tuple[int, bytes]] = []
    for number, packet in enumerate(VALID):
        damaged = bytearray(packet)
        match rng.randrange(6):
            case 0:
                damaged = damaged[: rng.randrange(len(damaged) + 1)]
            case 1:
                for _ in range(rng.randrange(1, 9)):
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            case 2:
                damaged[40:] = rng.randbytes(rng.randrange(60))
            case 3:
                continue
        seen.append((number * 1000, bytes(damaged)))
    rng.shuffle(seen)
    arrived = [(at + 500, packet) for at, packet in seen if rng.random() < 0.8]
    read_all(seen, arrived)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8))
@example([b"\x45"])
@example([b"E\0\0\x28" + bytes(16)])
@example([b"\x60" + bytes(39)])
def test_garbage_is_packets_without_words(packets: list[bytes]) -> None:
    read_all(list(enumerate(packets)), [(number + 5, packet) for number, packet in enumerate(packets)])


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.binary(min_size=38, max_size=120))
def test_any_protocol_and_any_options_are_parsed_or_left_alone(number: int, first: int, rest: bytes) -> None:
    v4 = bytes([0x40 | (first & 15), 0]) + rest[:7] + bytes([number]) + rest[7:]
    v6 = bytes([0x60, 0, 0, 0]) + rest[:2] + bytes([number]) + rest[2:]
    for data in (v4, v6):
        assert parse(data)[0] in ("tcp", "udp", "icmp", "not-ip") or parse(data)[0].startswith("ip-")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_file_is_a_typed_error_or_is_read(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pcap"
    write_pcap(path, [(number, packet) for number, packet in enumerate(VALID[:4])])
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + data[at + len(junk) // 2 :])
    with contextlib.suppress(WirebenchError):
        read_all(read_pcap(path), [])


def test_a_pcap_holds_what_the_client_saw_and_no_more_than_its_limit(tmp_path: Path) -> None:
    talk = Talk().open().send("up", b"GET / HTTP/1.1\r\n\r\n").wait()
    sent = [*talk.send("down", b"lost", lost=True).send("down", b"HTTP/1.1 200 OK\r\n\r\n").packets]
    twice = next(packet for packet in sent if packet.way == "up" and packet.payload)
    (conversation,) = conversations([*sent, replace(twice, duplicate=True), replace(sent[-1], duplicate=True)])
    kept = ladder.ladder(conversation, RTT_NS).pcap
    assert kept is not None
    path = tmp_path / "client.pcap"
    path.write_bytes(zlib.decompress(base64.b64decode(kept)))
    # What was lost on its way to the client it never saw; what the link delivered twice it sent once, or saw twice.
    assert [data for _, data in read_pcap(path)] == [
        *(packet.data for packet in sent if packet.arrived_ns is not None),
        sent[-1].data,
    ]
    large = replace(conversation, lines=conversation.lines * (2 * ladder.MAX_PCAP_BYTES // path.stat().st_size))
    assert ladder.ladder(large, RTT_NS).pcap is None
