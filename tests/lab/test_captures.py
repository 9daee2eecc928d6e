"""Captures of real programs behind the lab, read here and by tcpdump and tshark, which nobody here wrote."""

import base64
import contextlib
import json
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files as resources
from pathlib import Path

import jsonschema
import pytest

from bench.certificates import certificates
from bench.errors import UnsupportedError
from bench.lab import ladder
from bench.lab.conversations import Conversation, conversations
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.packets import Packet, read_packets
from bench.lab.topology import CLIENT_ADDRESS, SERVER_ADDRESS, two_ends

RTT_NS = 100_000_000
TLS_PORT, HTTP_PORT, QUIC_PORT = 4433, 8000, 4434

QUIC = """
import asyncio, ssl, sys
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

class Server(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._quic.send_stream_data(event.stream_id, b"x" * 3000, True)
            self.transmit()

class Client(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self.done.set_result(None)

async def main():
    if sys.argv[1] == "server":
        known = {}
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["x"])
        configuration.load_cert_chain(*sys.argv[3:])
        await serve("0.0.0.0", int(sys.argv[2]), configuration=configuration, create_protocol=Server,
                    session_ticket_handler=lambda t: known.update({t.ticket: t}), session_ticket_fetcher=known.get)
        print("ready", flush=True)
        await asyncio.sleep(60)
    tickets, given = [], asyncio.Event()

    def keep(ticket):
        tickets.append(ticket)
        given.set()

    for resumed in (False, True):
        configuration = QuicConfiguration(alpn_protocols=["x"], verify_mode=ssl.CERT_NONE, server_name="localhost")
        configuration.session_ticket = tickets[0] if resumed else None
        async with connect(sys.argv[3], int(sys.argv[2]), configuration=configuration, create_protocol=Client,
                           session_ticket_handler=keep, wait_connected=not resumed) as client:
            client.done = asyncio.get_running_loop().create_future()
            client._quic.send_stream_data(client._quic.get_next_available_stream_id(), b"hello", True)
            client.transmit()
            await client.done
            await given.wait()
            given.clear()

asyncio.run(main())
"""


@contextlib.contextmanager
def lab(folder: Path, link: str = "rtt=100ms", **kernel: str) -> Iterator[Lab]:
    """A lab that captures; the test is skipped where this machine can have none."""
    made = Lab(two_ends(parse_link(link, "link")), seed=3, kernel=kernel, capture=folder)
    try:
        made.__enter__()
    except UnsupportedError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as stack:
        stack.push(made)
        yield made
        settle(made)


def settle(made: Lab) -> None:
    """Wait until nothing is under way, and nobody has sent anything for longer than TCP delays acknowledgements."""
    before, still = None, 0
    while still < 3:
        span = made.account()["spans"][0]
        gone = sum(span[way][fate] for way in span for fate in ("delivered", "lost"))
        offered = sum(span[way]["offered"] for way in span)
        still = still + 1 if offered == gone == before else 0
        before = offered
        time.sleep(0.05)


def wait_for(happened: Callable[[], bool]) -> None:
    """Return when it has, and fail after ten seconds."""
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def listens(made: Lab, port: int) -> bool:
    """Whether something listens on a TCP port of the server's node."""
    tables = [*made.within("server"), "cat", "/proc/net/tcp", "/proc/net/tcp6"]
    lines = subprocess.run(tables, capture_output=True, text=True, check=True).stdout.splitlines()
    return any(f":{port:04X} " in line and " 0A " in line for line in lines)  # 0A is the state LISTEN


@contextlib.contextmanager
def server(made: Lab, command: Sequence[str], port: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A program on the server's node, once it listens."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*made.within("server"), *command], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        if port is None:
            assert process.stdout.readline() == b"ready\n"
        else:
            wait_for(lambda: listens(made, port))
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def client(made: Lab, command: Sequence[str]) -> Iterator[None]:
    """A program on the client's node, which ends with its input."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*made.within("client"), *command], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    try:
        yield
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()


def run(made: Lab, *command: str, answer: bytes = b"") -> bytes:
    """A program on the client's node; its output."""
    done = subprocess.run(
        [*made.within("client"), *command], input=answer, capture_output=True, timeout=30, check=False
    )
    return done.stdout


def tshark(program: str, path: Path, show: str, *fields: str) -> list[list[str]]:
    """The fields of the packets that a display filter shows."""
    decode = ["-d", f"tcp.port=={TLS_PORT},tls", "-o", "tcp.analyze_sequence_numbers:TRUE"]
    asked = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        [program, "-r", str(path), *decode, "-Y", show, "-T", "fields", *asked],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of ping, curl and a QUIC client."""
    for program in ("curl", "ping"):
        if shutil.which(program) is None:
            pytest.skip(
                f"{program} is not installed (Debian package: {'iputils-ping' if program == 'ping' else program})"
            )
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "file").write_bytes(b"x" * 20_000)
    files = certificates()
    http = [sys.executable, "-m", "http.server", str(HTTP_PORT), "-d", str(folder)]
    quic = [sys.executable, "-c", QUIC]
    with (
        lab(folder) as made,
        server(made, http, HTTP_PORT),
        server(made, [*quic, "server", str(QUIC_PORT), str(files.certificate), str(files.private_key)], None),
    ):
        assert len(run(made, "curl", "-s", f"http://{SERVER_ADDRESS}:{HTTP_PORT}/file")) == 20_000
        run(made, "ping", "-c", "2", "-i", "0.2", SERVER_ADDRESS)
        run(made, *quic, "client", str(QUIC_PORT), SERVER_ADDRESS)
    return folder


def found(folder: Path, port: int) -> list[Conversation]:
    return [each for each in conversations(read_packets(folder)) if each.server.port == port]


@pytest.mark.parametrize("node", ["client", "server"])
def test_tcpdump_and_tshark_read_as_many_packets(mixed: Path, node: str, need: Callable[[str], str]) -> None:
    path = mixed / f"{node}.pcap"
    packets = read_packets(mixed)
    dumped = subprocess.run([need("tcpdump"), "-nr", str(path)], capture_output=True, text=True, check=True)
    assert "cut short" not in dumped.stderr
    assert len(dumped.stdout.splitlines()) == len(packets) == len(tshark(need("tshark"), path, "ip", "frame.number"))
    shown = Counter(line[0] for line in tshark(need("tshark"), path, "ip", "ip.proto"))
    ours = Counter({"tcp": "6", "udp": "17", "icmp": "1"}[packet.protocol] for packet in packets)
    assert shown == ours


def test_both_ends_saw_each_packet_half_a_round_trip_apart(mixed: Path) -> None:
    for packet in read_packets(mixed):
        assert packet.arrived_ns is not None
        assert RTT_NS / 2 - 1000 <= packet.arrived_ns - packet.sent_ns < RTT_NS  # files hold about a microsecond


def test_ping_and_plain_http_take_as_many_round_trips_as_they_should(mixed: Path) -> None:
    (ping,) = (each for each in conversations(read_packets(mixed)) if each.protocol == "icmp")
    assert [line.words for line in ping.lines] == ["echo request", "echo reply"] * 2
    (http,) = found(mixed, HTTP_PORT)
    assert [line.words for line in http.lines if line.words != "ACK"][:3] == ["SYN", "SYN/ACK", "GET /file"]
    assert str(http.client).startswith(CLIENT_ADDRESS)
    rtts = http.first_byte_rtts(RTT_NS)
    assert rtts is not None
    assert 2 <= rtts < 2.9  # two, and what the server takes


def test_quic_packets_are_as_tshark_has_them(mixed: Path, need: Callable[[str], str]) -> None:
    first, second = found(mixed, QUIC_PORT)
    assert (first.protocol, second.protocol, first.handshake) == ("quic", "quic", True)
    names = {"0": "Initial", "1": "0-RTT", "2": "Handshake", "3": "Retry"}
    shown = []
    for long, short in tshark(
        need("tshark"), mixed / "client.pcap", f"udp.port=={QUIC_PORT}", "quic.long.packet_type", "quic.header_form"
    ):
        kinds = [names[kind] for kind in long.split(",") if kind]
        shown.append(kinds + ["1-RTT"] * ("0" in short.split(",")))
    # tshark has a client's packets in the order of that end, and so has each list of ours.
    lines = sorted((*first.lines, *second.lines), key=lambda line: _at_client(line.packet))
    ours = [[word.partition(" ×")[0] for word in line.words.split(", ")] for line in lines]
    assert [sorted(set(kinds)) for kinds in ours] == [sorted(set(kinds)) for kinds in shown]
    assert "0-RTT" in second.lines[0].words
    for each, expected in ((first, 2), (second, 1)):
        rtts = each.first_byte_rtts(RTT_NS)
        assert rtts is not None
        assert expected <= rtts < expected + 0.9


def _at_client(packet: Packet) -> int:
    return packet.sent_ns if packet.way == "up" else packet.arrived_ns or 0


RECORDS = {"20": "ChangeCipherSpec", "21": "alert", "22": "handshake", "23": "application data"}
MESSAGES = {
    "1": "ClientHello", "2": "ServerHello", "4": "NewSessionTicket", "11": "Certificate", "12": "ServerKeyExchange",
    "14": "ServerHelloDone", "16": "ClientKeyExchange",
}  # fmt: skip


@pytest.mark.parametrize(("version", "options"), [("1.2", ["-tls1_2"]), ("1.3", ["-tls1_3"])])
def test_tls_is_named_as_tshark_names_it(
    tmp_path: Path, need: Callable[[str], str], version: str, options: list[str]
) -> None:
    openssl, program = need("openssl"), need("tshark")
    files = certificates()
    keys = ["-cert", str(files.certificate), "-key", str(files.private_key)]
    session = str(tmp_path / "session")
    connect = [openssl, "s_client", "-connect", f"{SERVER_ADDRESS}:{TLS_PORT}", "-quiet", *options]
    with (
        lab(tmp_path) as made,
        server(made, [openssl, "s_server", "-accept", str(TLS_PORT), "-www", *keys], TLS_PORT),
    ):
        for kept in (["-sess_out", session], ["-sess_in", session]):
            assert b"200 ok" in run(made, *connect, *kept, answer=b"GET / HTTP/1.0\r\n\r\n")
    full, resumed = found(tmp_path, TLS_PORT)
    words = [[line.words for line in each.lines] for each in (full, resumed)]
    assert any(said.startswith("ClientHello") for said in words[0])
    assert any(
        said.startswith("ClientHello (ticket)" if version == "1.2" else "ClientHello (PSK)") for said in words[1]
    )
    expected = {"1.2": (4, 3), "1.3": (3, 3)}[version]
    for each, rtts in zip((full, resumed), expected, strict=True):
        took = each.first_byte_rtts(RTT_NS)
        assert took is not None
        assert rtts <= took < rtts + 0.9
    # What is in the clear, message by message, and how many records are sealed.
    shown: Counter[str] = Counter()
    for kinds, messages in tshark(
        program,
        tmp_path / "client.pcap",
        "tls",
        "tls.record.content_type",
        "tls.handshake.type",
    ):
        shown.update(RECORDS[kind] for kind in kinds.split(",") if kind in ("20",))
        shown.update(MESSAGES[kind] for kind in messages.split(",") if kind in MESSAGES)
    ours: Counter[str] = Counter()
    for conversation in (full, resumed):
        for line in conversation.lines:
            if line.words.startswith("…"):
                continue
            for word in line.words.split(", "):
                name, _, count = word.partition(" ×")
                ours[name.partition(" (")[0]] += int(count or 1)
    clear = {*MESSAGES.values(), "ChangeCipherSpec"} - ({"NewSessionTicket"} if version == "1.3" else set())
    assert {name: ours[name] for name in clear} == {name: shown[name] for name in clear}


def test_early_data_is_told_from_the_rest(tmp_path: Path, need: Callable[[str], str]) -> None:
    openssl, files = need("openssl"), certificates()
    early = tmp_path / "early"
    early.write_bytes(b"GET / HTTP/1.0\r\n\r\n")
    session = tmp_path / "session"
    accept = [
        openssl,
        "s_server",
        "-accept",
        str(TLS_PORT),
        "-early_data",
        "-no_anti_replay",
        "-naccept",
        "2",
        "-quiet",
    ]
    connect = [openssl, "s_client", "-connect", f"{SERVER_ADDRESS}:{TLS_PORT}", "-tls1_3", "-quiet", "-no_ign_eof"]
    with (
        lab(tmp_path) as made,
        server(made, [*accept, "-cert", str(files.certificate), "-key", str(files.private_key)], TLS_PORT) as process,
    ):
        assert process.stdout is not None
        with client(made, [*connect, "-sess_out", str(session)]):
            wait_for(lambda: session.exists() and session.stat().st_size > 0)
        with client(made, [*connect, "-sess_in", str(session), "-early_data", str(early)]):
            assert process.stdout.readline() == b"GET / HTTP/1.0\r\n"
            settle(made)  # the server has the data before the client has finished
    _, resumed = found(tmp_path, TLS_PORT)
    words = [line.words for line in resumed.lines]
    assert "ClientHello (PSK, early data), ChangeCipherSpec, early data" in words
    assert "ServerHello (PSK), ChangeCipherSpec, encrypted handshake, Finished" in words
    assert "EndOfEarlyData, Finished" in words


def test_fast_open_saves_the_round_trip_of_tcp(tmp_path: Path, need: Callable[[str], str]) -> None:
    curl = [need("curl"), "--tcp-fastopen", "-s", f"http://{SERVER_ADDRESS}:{HTTP_PORT}/"]
    http = [sys.executable, "-m", "http.server", str(HTTP_PORT), "-d", str(tmp_path)]
    accepts = {"net.ipv4.tcp_fastopen": "1027"}  # for clients and for all that listen
    with lab(tmp_path, **accepts) as made, server(made, http, HTTP_PORT):
        for _ in range(2):
            assert b"client.pcap" in run(made, *curl)
    first, second = found(tmp_path, HTTP_PORT)
    assert [line.words for line in first.lines][:2] == ["SYN, asks for a cookie", "SYN/ACK, cookie"]
    assert second.lines[0].words == "SYN, cookie, GET /"
    for each, expected in ((first, 2), (second, 1)):
        rtts = each.first_byte_rtts(RTT_NS)
        assert rtts is not None
        assert expected <= rtts < expected + 0.9


SENT_AGAIN = ("retransmission", "fast_retransmission", "spurious_retransmission", "out_of_order")
"""What tshark calls a segment that was sent before: it takes one that follows soon for one out of order, and at the end
that sends, none can be."""


def test_losses_and_retransmissions_are_as_tshark_counts_them(tmp_path: Path, need: Callable[[str], str]) -> None:
    curl, program = need("curl"), need("tshark")
    (tmp_path / "file").write_bytes(bytes(400_000))
    http = [sys.executable, "-m", "http.server", str(HTTP_PORT), "-d", str(tmp_path)]
    with lab(tmp_path, "rtt=20ms,loss=3%") as made, server(made, http, HTTP_PORT):
        for _ in range(2):
            assert len(run(made, curl, "-s", f"http://{SERVER_ADDRESS}:{HTTP_PORT}/file")) == 400_000
        lost = [made.account()["spans"][0][way]["lost"] for way in ("up", "down")]
    told = ladder.summary(found(tmp_path, HTTP_PORT), RTT_NS)
    assert told["down"]["tcp"]["retransmissions"] > 5
    # A packet that is lost at the very end is left out: nobody saw whether it was still under way.
    for way, counted in zip(("up", "down"), lost, strict=True):
        assert counted - 2 <= told[way]["tcp"]["lost"] <= counted
    # Each end's own packets, in the capture of that end.
    for way, node, address in (("up", "client", CLIENT_ADDRESS), ("down", "server", SERVER_ADDRESS)):
        shown = tshark(
            program,
            tmp_path / f"{node}.pcap",
            f"ip.src=={address} && ({' || '.join(f'tcp.analysis.{kind}' for kind in SENT_AGAIN)})",
            "frame.number",
        )
        assert abs(told[way]["tcp"]["retransmissions"] - len(shown)) <= 2
        every = tshark(program, tmp_path / f"{node}.pcap", f"ip.src=={address} && tcp", "frame.len")
        assert len(every) - 2 <= told[way]["tcp"]["packets"] <= len(every)
        assert 0 <= sum(int(size) for (size,) in every) - told[way]["tcp"]["bytes"] <= 3_000


def test_what_goes_into_a_result_file_keeps_its_schema(mixed: Path) -> None:
    schema = json.loads((resources("bench") / "run.schema.json").read_text())
    wire = ladder.captured(mixed, RTT_NS, HTTP_PORT)
    for name in ("captured", "ladder"):
        part = {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}
        jsonschema.Draft202012Validator(part).validate(wire[name])
    assert wire["captured"]["conversations"] == 1
    assert wire["ladder"]["steps"][0] | {"arrived_ns": 0} == {
        "from": "client",
        "to": "server",
        "sent_ns": 0,
        "arrived_ns": 0,
        "label": "SYN",
        "bytes": 60,
        "retransmission": False,
    }


@pytest.mark.parametrize("port", [HTTP_PORT, QUIC_PORT])
def test_the_pcap_beside_a_ladder_holds_its_packets(
    mixed: Path, tmp_path: Path, port: int, need: Callable[[str], str]
) -> None:
    shown = ladder.captured(mixed, RTT_NS, port)["ladder"]
    path = tmp_path / "conversation.pcap"
    path.write_bytes(zlib.decompress(base64.b64decode(shown["pcap"])))
    seen = tshark(need("tshark"), path, "ip", "ip.src", "ip.len", "frame.time_relative")
    assert shown["left_out"] == 0
    for origin, address in (("client", CLIENT_ADDRESS), ("server", SERVER_ADDRESS)):
        steps = [step for step in shown["steps"] if step["from"] == origin and step["arrived_ns"] is not None]
        assert [int(size) for source, size, _ in seen if source == address] == [step["bytes"] for step in steps]
    # As the client saw it: the first packet when it was sent, the answer when it arrived.
    answered = [float(at) for source, _, at in seen if source == SERVER_ADDRESS]
    assert answered[0] == pytest.approx(
        min(step["arrived_ns"] for step in shown["steps"] if step["from"] == "server") / 1e9, abs=1e-5
    )
