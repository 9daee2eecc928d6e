"""The proxy of layer 7 between ends that speak HTTP/2, or the client alone (RFC 9113; section 8.1.1 for what an
intermediary must not pass on)."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import hyperframe.frame as hf
import pytest

from bench.serverprocess import ServerProcess
from tests.proxies.conftest import TIMEOUT_S, Proxy, Upstream, read_head
from tests.proxies.http3_origin import proxying

Start = Callable[..., Proxy]
StartUpstream = Callable[..., Upstream]
Serve = Callable[..., ServerProcess]
Need = Callable[[str], str]

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "example"), (":path", "/health")]
POST = [(":method", "POST"), *GET[1:3], (":path", "/echo")]


class Client:
    """A client that sends what a test says, also what it should not."""

    def __init__(self, proxy: Proxy) -> None:
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        self.h2 = h2.connection.H2Connection(config)
        self.socket = proxy.connect()
        self.h2.initiate_connection()

    def ask(self, fields: list[tuple[str, str]], body: bytes = b"", end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.socket.sendall(self.h2.data_to_send())
        return stream

    def until(self, *kinds: type[h2.events.Event]) -> list[h2.events.Event]:
        """What happens up to the first event of these kinds."""
        seen: list[h2.events.Event] = []
        while not any(isinstance(event, kinds) for event in seen):
            data = self.socket.recv(1 << 16)
            assert data, seen
            seen += self.h2.receive_data(data)
            for event in seen:
                if isinstance(event, h2.events.DataReceived) and event.stream_id in self.h2.streams:
                    with contextlib.suppress(Exception):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.socket.sendall(self.h2.data_to_send())
        return seen


@pytest.fixture
def connect() -> Callable[[Proxy], Client]:
    clients: list[Client] = []

    def make(proxy: Proxy) -> Client:
        clients.append(Client(proxy))
        return clients[-1]

    yield make  # type: ignore[misc]
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("upstream_http", ["2", "1.1"])
def test_curl_and_h2load_get_what_they_ask_for(
    start_proxy: Start, serve: Serve, need: Need, tmp_path: Path, upstream_http: str
) -> None:
    server = serve("http2" if upstream_http == "2" else "http1")
    proxy = start_proxy(7, server.port, http="2", upstream_http=upstream_http)
    url = f"http://127.0.0.1:{proxy.port}"
    big = tmp_path / "big"
    big.write_bytes(b"0123456789" * 300_000)

    def curl(*words: str) -> bytes:
        command = [need("curl"), "-sS", "-m", "20", "--http2-prior-knowledge", *words]
        return subprocess.run(command, capture_output=True, check=True).stdout

    assert curl("-d", "hello", f"{url}/echo") == b"hello"
    assert curl("--data-binary", f"@{big}", f"{url}/echo") == big.read_bytes()
    assert curl("-X", "POST", "-H", "content-length:", "-T", str(big), f"{url}/echo") == big.read_bytes()
    assert b"via: %b wirebench" % upstream_http.encode() in curl("-I", f"{url}/health")
    loaded = subprocess.run(
        [need("h2load"), "-c4", "-m32", "-n2000", f"{url}/health"], capture_output=True, text=True, check=True
    ).stdout
    assert "2000 succeeded, 0 failed, 0 errored" in loaded
    counts = proxy.stats()["counts"]
    assert counts["upstream_errors"] == 0
    assert upstream_http == "1.1" or counts["upstream_connections"] < 5  # many exchanges share one


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([*POST, ("content-length", "3")], b"abcd"),
        ([*POST, ("content-length", "5")], b"abcd"),
        ([*POST, ("transfer-encoding", "chunked")], b"0\r\n\r\n"),
        ([*GET, ("connection", "close")], b""),
        ([*GET[:3], (":path", "/ HTTP/1.1\r\nx: y")], b""),
        ([*GET[:3], (":path", "/a b")], b""),
        ([(":method", "GET /x HTTP/1.1\r\nhost: b\r\n\r\nGET"), *GET[1:]], b""),
        ([*GET[:2], (":authority", "a\r\nx: y"), (":path", "/")], b""),
        ([*GET, ("x", "a\r\ntransfer-encoding: chunked")], b""),
        ([*GET, ("host", "other")], b""),
        ([*GET[:3]], b""),
        ([*GET, ("X-Upper", "1")], b""),
    ],
)
def test_nothing_is_smuggled_into_http1(
    start_proxy: Start,
    start_upstream: StartUpstream,
    connect: Callable[[Proxy], Client],
    fields: list[tuple[str, str]],
    body: bytes,
) -> None:
    whole: list[bytes] = []

    def keep(sock: socket.socket) -> None:
        head = read_head(sock)
        rest = b""
        while data := sock.recv(1000):
            rest += data
        if len(rest) >= 5:
            whole.append(head + rest)

    proxy = start_proxy(7, start_upstream(keep).port, http="2")
    client = connect(proxy)
    stream = client.ask(fields, body)
    seen = client.until(h2.events.StreamReset)
    assert seen[-1].error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
    assert seen[-1].stream_id == stream
    assert whole == []


def test_streams_do_not_wait_for_each_other(
    start_proxy: Start, serve: Serve, connect: Callable[[Proxy], Client]
) -> None:
    client = connect(start_proxy(7, serve("http2").port, http="2", upstream_http="2"))
    slow = client.ask([*GET[:3], (":path", "/work?cpu_us=0&wait_ms=300")])
    quick = client.ask(GET)
    ended = [e.stream_id for e in client.until(h2.events.StreamEnded) if isinstance(e, h2.events.StreamEnded)]
    assert ended == [quick]
    ended = [e.stream_id for e in client.until(h2.events.StreamEnded) if isinstance(e, h2.events.StreamEnded)]
    assert ended == [slow]


def test_trailers_reach_a_grpc_client(start_proxy: Start, serve: Serve) -> None:
    import grpc

    proxy = start_proxy(7, serve("grpc").port, http="2", upstream_http="2")
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        call = channel.unary_unary("/nowhere.Service/Nothing")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("upstream_http", ["2", "1.1"])
def test_what_fails_has_a_status_and_what_broke_off_is_reset(
    start_proxy: Start,
    start_upstream: StartUpstream,
    connect: Callable[[Proxy], Client],
    dead_port: int,
    upstream_http: str,
) -> None:
    def status_of(proxy: Proxy) -> bytes:
        client = connect(proxy)
        client.ask(POST, b"x")
        (answer,) = [e for e in client.until(h2.events.ResponseReceived) if isinstance(e, h2.events.ResponseReceived)]
        return bytes(dict(answer.headers)[b":status"])

    def silent(sock: socket.socket) -> None:
        while sock.recv(1 << 16):
            pass

    both = {"http": "2", "upstream_http": upstream_http, "answer_timeout_s": 0.3}
    assert status_of(start_proxy(7, dead_port, **both)) == b"503"
    assert status_of(start_proxy(7, start_upstream(lambda sock: sock.recv(1)).port, **both)) == b"502"
    assert status_of(start_proxy(7, start_upstream(silent).port, **both)) == b"504"


def test_an_answer_that_breaks_off_resets_its_stream_alone(
    start_proxy: Start, start_upstream: StartUpstream, connect: Callable[[Proxy], Client]
) -> None:
    def breaks(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")

    client = connect(start_proxy(7, start_upstream(breaks).port, http="2"))
    for _ in range(2):  # the connection goes on
        client.ask(GET)
        assert client.until(h2.events.StreamReset)[-1].error_code == h2.errors.ErrorCodes.INTERNAL_ERROR


def test_a_client_that_does_not_take_data_slows_the_upstream_down(
    start_proxy: Start, serve: Serve, start_upstream: StartUpstream
) -> None:
    sent = []

    def flood(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        sock.settimeout(1.0)
        total = 0
        with contextlib.suppress(TimeoutError):
            while total < 100_000_000:
                total += sock.send(bytes(1 << 16))
        sent.append(total)

    proxy = start_proxy(7, start_upstream(flood).port, http="2")
    client = Client(proxy)
    client.ask(GET)
    while not sent:  # its windows are used up, and it opens no others
        with contextlib.suppress(TimeoutError):
            client.socket.settimeout(0.1)
            client.socket.recv(1 << 16)
    client.socket.close()
    assert sent[0] < 40_000_000


@pytest.mark.parametrize(
    ("fields", "body", "method"),
    [
        ([(":status", "200"), ("content-length", "3")], b"abcd", b"GET"),
        ([(":status", "200"), ("content-length", "9")], b"abcd", b"GET"),
        ([(":status", "204")], b"abcd", b"GET"),
        ([(":status", "200"), ("content-length", "4")], b"abcd", b"HEAD"),
    ],
)
def test_an_answer_of_another_length_than_it_says_does_not_pass(
    start_proxy: Start, start_upstream: StartUpstream, fields: list[tuple[str, str]], body: bytes, method: bytes
) -> None:
    def answer(sock: socket.socket) -> None:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        server.initiate_connection()
        sock.sendall(server.data_to_send())
        while data := sock.recv(1 << 16):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    server.send_headers(event.stream_id, fields)
                    server.send_data(event.stream_id, body, end_stream=True)
            sock.sendall(server.data_to_send())

    proxy = start_proxy(7, start_upstream(answer).port, upstream_http="2")
    with proxy.connect() as client:
        client.sendall(b"%b / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % method)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1000):
                found += data
    head, _, rest = found.partition(b"\r\n\r\n")
    assert not rest.startswith(b"abc") or (b"content-length: 9" in head and rest == b"abcd")
    assert proxy.count("upstream_errors") == 1


HEADS_THAT_END_IT = [
    [(b":status", b"103")],
    [(b":status", b"2x0")],
    [(b":status", b"101")],
    [(b":status", b"099")],
    [(b":status", b"200"), (b":path", b"/")],
    [(b"x", b"y")],
]
"""Each with END_STREAM, and none a final answer."""


def test_heads_that_are_no_answer_do_not_pass(start_upstream: StartUpstream) -> None:
    def answer(sock: socket.socket) -> None:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        server.initiate_connection()
        sock.sendall(server.data_to_send())
        while data := sock.recv(1 << 16):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    case = int(dict(event.headers)[b":path"][1:])
                    block = server.encoder.encode(HEADS_THAT_END_IT[case])
                    flags = ["END_HEADERS", "END_STREAM"]
                    sock.sendall(hf.HeadersFrame(event.stream_id, block, flags=flags).serialize())
            sock.sendall(server.data_to_send())

    async def run() -> None:
        async with proxying(start_upstream(answer).port, upstream_http="2") as (port, counts):
            for case in range(len(HEADS_THAT_END_IT)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /%d HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % case)
                async with asyncio.timeout(TIMEOUT_S):
                    assert b" 502 " in await reader.read(), HEADS_THAT_END_IT[case]
                writer.close()
            assert counts.upstream_connections == 1  # the other streams of it are not to blame
            assert counts.upstream_errors == 3 * len(HEADS_THAT_END_IT)  # GET is tried again

    asyncio.run(run())


def test_lost_answers_reset_their_streams(start_proxy: Start, serve: Serve, connect: Callable[[Proxy], Client]) -> None:
    server = serve("http2")
    client = connect(start_proxy(7, server.port, http="2", upstream_http="2", lose_share=1.0))
    client.ask(POST, b"hello")
    client.until(h2.events.StreamReset)
    assert server.stats()[0][0].requests == 1


def test_resets_without_end_are_not_put_up_with(
    start_proxy: Start, serve: Serve, connect: Callable[[Proxy], Client]
) -> None:
    """CVE-2023-44487."""
    client = connect(start_proxy(7, serve("http2").port, http="2", upstream_http="2"))
    with contextlib.suppress(ConnectionError):
        for _ in range(3000):
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, POST)
            client.h2.reset_stream(stream)
            client.socket.sendall(client.h2.data_to_send())
        assert client.until(h2.events.ConnectionTerminated)[-1].error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
