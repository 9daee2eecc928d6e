"""The proxy of layer 7: messages of HTTP/1.1 as an intermediary passes them on (RFC 9110, section 7; RFC 9112)."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.serverprocess import ServerProcess
from tests.proxies.conftest import TIMEOUT_S, Proxy, Upstream, echo, read_all, read_head

Start = Callable[..., Proxy]
StartUpstream = Callable[..., Upstream]
Serve = Callable[..., ServerProcess]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def ask(proxy: Proxy, request: bytes) -> bytes:
    """What one connection answers to that, up to its end."""
    with proxy.connect() as client:
        client.sendall(request)
        return read_all(client)


def get(path: str = "/", fields: str = "", method: str = "GET") -> bytes:
    """A request that is the last one of its connection."""
    return f"{method} {path} HTTP/1.1\r\nhost: example\r\nconnection: close\r\n{fields}\r\n".encode()


def answers(*given: bytes) -> tuple[list[bytes], Callable[[socket.socket], None]]:
    """Heads that came, and a handler that gives these answers, one to each head, and closes then."""
    heads: list[bytes] = []

    def handle(sock: socket.socket) -> None:
        for answer in given:
            head = read_head(sock)
            if not head:
                return
            heads.append(head)
            sock.sendall(answer)

    return heads, handle


def test_fields_of_one_connection_stay_there(start_proxy: Start, start_upstream: StartUpstream) -> None:
    heads, handle = answers(
        b"HTTP/1.1 200 Fine\r\nkeep-alive: timeout=5\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\n"
        b"Via: 1.0 other\r\ncontent-length: 2\r\n\r\nok"
    )
    proxy = start_proxy(7, start_upstream(handle).port)
    answer = ask(
        proxy,
        b"GET /a?b=c HTTP/1.1\r\nHost: example\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Kept: 2\r\n"
        b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\n\r\n",
    )
    assert heads == [b"GET /a?b=c HTTP/1.1\r\nHost: example\r\nX-Kept: 2\r\nvia: 1.1 wirebench\r\n\r\n"]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"X-End: 2",
        b"Via: 1.0 other",
        b"content-length: 2",
        b"via: 1.1 wirebench",
        b"connection: close",
    ]
    assert body == b"ok"


@pytest.mark.parametrize(
    "given",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",  # ended by the connection alone
    ],
    ids=["length", "chunks", "close"],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_bodies_come_whole_however_they_are_framed(
    start_proxy: Start, start_upstream: StartUpstream, given: bytes, version: bytes
) -> None:
    _, handle = answers(given)
    proxy = start_proxy(7, start_upstream(handle).port)
    answer = ask(proxy, b"GET / HTTP/%b\r\nhost: a\r\nconnection: close\r\n\r\n" % version)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        assert version == b"1.1"
        assert body.endswith(b"0\r\n\r\n")
        pieces = body.split(b"\r\n")
        body = b"".join(pieces[1:-2:2])
    assert body == b"hello"


def test_max_forwards_is_counted(start_proxy: Start, start_upstream: StartUpstream) -> None:
    heads, handle = answers(OK)
    proxy = start_proxy(7, start_upstream(handle).port)
    assert ask(proxy, get("*", "max-forwards: 0\r\n", "OPTIONS")).startswith(b"HTTP/1.1 204 ")
    assert ask(proxy, get("/", "max-forwards: 0\r\n", "TRACE")).startswith(b"HTTP/1.1 405 ")
    assert heads == []
    assert ask(proxy, get("*", "max-forwards: 3\r\n", "OPTIONS")).endswith(b"ok")
    assert b"max-forwards: 2\r\n" in heads[0]


def test_connections_with_the_upstream_are_kept(start_proxy: Start, serve: Serve) -> None:
    proxy = start_proxy(7, serve("http1").port)
    for _ in range(5):
        assert ask(proxy, get("/health")).endswith(b"ok")
    counts = proxy.stats()["counts"]
    assert (counts["accepted"], counts["requests"], counts["upstream_connections"]) == (5, 5, 1)


def test_pipelined_requests_are_answered_in_order(start_proxy: Start, serve: Serve) -> None:
    proxy = start_proxy(7, serve("http1").port)
    requests = [f"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n{n:03d}".encode() for n in range(150)]
    answer = ask(proxy, b"".join(requests) + get("/health"))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"%03d" % n for n in range(150)] + [b"ok"]


def test_curl_gets_what_it_asks_for(
    start_proxy: Start, serve: Serve, need: Callable[[str], str], tmp_path: Path
) -> None:
    server, curl = serve("http1"), need("curl")
    proxy = start_proxy(7, server.port, forward=True)
    url, own = f"http://127.0.0.1:{proxy.port}", f"http://127.0.0.1:{server.port}"
    big = tmp_path / "big"
    big.write_bytes(b"0123456789" * 300_000)

    def run(*words: str) -> bytes:
        return subprocess.run([curl, "-sS", "-f", "-m", "20", *words], capture_output=True, check=True).stdout

    assert run("-d", "hello", f"{url}/echo") == b"hello"
    assert run("--data-binary", f"@{big}", f"{url}/echo") == big.read_bytes()  # with Expect: 100-continue
    assert run("-X", "POST", "-H", "transfer-encoding: chunked", "-T", str(big), f"{url}/echo") == big.read_bytes()
    assert run("--http2", "-d", "hello", f"{url}/echo") == b"hello"  # offers Upgrade: h2c, with a body
    assert b"content-length: 2" in run("-I", f"{url}/health")
    assert run("-0", f"{url}/health") == b"ok"
    assert run("-x", url, f"{own}/health") == b"ok"
    assert run("-p", "-x", url, "-d", "hello", f"{own}/echo") == b"hello"  # CONNECT
    assert proxy.count("upstream_errors") == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"CONNECT 192.0.2.1:80 HTTP/1.1\r\nhost: 192.0.2.1:80\r\n\r\n", 403),
        (b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n", 403),
        (b"CONNECT 127.0.0.1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 403),
        (b"GET http://192.0.2.1/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 403),
        (b"GET ftp://127.0.0.1/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400),
    ],
)
def test_a_forward_proxy_goes_nowhere_else(
    start_proxy: Start, start_upstream: StartUpstream, request_: bytes, status: int
) -> None:
    heads, handle = answers(OK)
    proxy = start_proxy(7, start_upstream(handle).port, forward=True)
    with proxy.connect() as client:
        client.sendall(request_)
        assert read_head(client).startswith(b"HTTP/1.1 %d " % status)
    assert heads == []


def test_connect_to_nobody_is_502_and_refused_where_it_is_no_forward_proxy(start_proxy: Start, dead_port: int) -> None:
    request = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: a\r\n\r\n" % dead_port
    for forward, status in ((True, 502), (False, 405)):
        proxy = start_proxy(7, dead_port, forward=forward)
        with proxy.connect() as client:
            client.sendall(request)
            assert read_head(client).startswith(b"HTTP/1.1 %d " % status)


def test_websocket_goes_through(start_proxy: Start, serve: Serve) -> None:
    from websockets.sync.client import connect

    proxy = start_proxy(7, serve("websocket").port)
    with connect(f"ws://127.0.0.1:{proxy.port}/echo") as client:
        for message in (b"one", b"x" * 500_000):
            client.send(message)
            assert client.recv(timeout=TIMEOUT_S) == message


SMUGGLED = {
    "length and coding": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    "coding and length": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "signed length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
    "list of lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc",
    "hidden coding": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded field": b"POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nhost: a\n\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "nominated length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: content-length\r\n\r\nabc",
    "NUL": b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_two_servers_could_read_differently_is_refused(
    start_proxy: Start, start_upstream: StartUpstream, name: str
) -> None:
    heads, handle = answers(OK)
    proxy = start_proxy(7, start_upstream(handle).port)
    answer = ask(proxy, SMUGGLED[name])
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 505 "))
    assert heads == []


@pytest.mark.parametrize(
    "chunk",
    [
        b"0x2\r\nab\r\n",
        b"2 \r\nab\r\n",
        b"2\nab\r\n",
        b"2\r\nabX",
        b"-2\r\n",
        b"fffffffffffffffff\r\n",
        b"2;a\nb\r\nab\r\n",
    ],
)
def test_bad_chunks_never_become_a_whole_request(
    start_proxy: Start, start_upstream: StartUpstream, chunk: bytes
) -> None:
    came = []

    def keep(sock: socket.socket) -> None:
        came.append(read_all(sock))

    upstream = start_upstream(keep)
    proxy = start_proxy(7, upstream.port)
    answer = ask(proxy, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 400 ")
    upstream.close()
    assert not any(request.endswith(b"0\r\n\r\n") for request in came)


def test_a_head_without_end_is_bounded(start_proxy: Start, dead_port: int) -> None:
    proxy = start_proxy(7, dead_port)
    with proxy.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 20_000)
        assert read_head(client).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("PUT", 3), ("POST", 1)])
def test_only_idempotent_requests_are_sent_again(
    start_proxy: Start, start_upstream: StartUpstream, method: str, sent: int
) -> None:
    """Connections that end before an answer: RFC 9110, section 9.2.2."""
    heads, handle = answers(b"")
    proxy = start_proxy(7, start_upstream(handle).port)
    answer = ask(proxy, get(method=method, fields="content-length: 0\r\n"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert len(heads) == sent
    assert proxy.count("retries") == sent - 1


def test_a_request_sent_again_is_whole_and_finds_the_other_upstream(
    start_proxy: Start, start_upstream: StartUpstream
) -> None:
    def answer_body(sock: socket.socket) -> None:
        data = b""
        while not data.endswith(b"hello"):
            data += sock.recv(1000)
        sock.sendall(OK)

    _, breaks = answers(b"")
    proxy = start_proxy(7, start_upstream(breaks).port, start_upstream(answer_body).port)
    assert ask(proxy, get(method="PUT", fields="content-length: 5\r\n") + b"hello").endswith(b"ok")


def test_what_fails_has_a_status_of_its_own(start_proxy: Start, start_upstream: StartUpstream, dead_port: int) -> None:
    _, nonsense = answers(b"SSH-2.0-x\r\n\r\n")

    def silent(sock: socket.socket) -> None:
        read_all(sock)

    for port, status in ((dead_port, 503), (start_upstream(nonsense).port, 502), (start_upstream(silent).port, 504)):
        proxy = start_proxy(7, port, answer_timeout_s=0.3)
        assert ask(proxy, get(method="POST")).startswith(b"HTTP/1.1 %d " % status)
        assert proxy.count("refused") == 1


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
def test_an_answer_that_breaks_off_is_not_taken_for_whole(
    start_proxy: Start, start_upstream: StartUpstream, framing: bytes
) -> None:
    _, handle = answers(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nhello\r\n" % framing)
    proxy = start_proxy(7, start_upstream(handle).port)
    with proxy.connect() as client:
        client.sendall(get())
        assert read_head(client).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_who_reads_slowly_slows_the_upstream_down(start_proxy: Start, start_upstream: StartUpstream) -> None:
    stalled = threading.Event()
    sent = [0]
    size = 60_000_000

    def flood(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent[0] < size:
                sent[0] += sock.send(bytes(1 << 16))
        stalled.set()
        sock.settimeout(TIMEOUT_S)
        while sent[0] < size:
            sent[0] += sock.send(bytes(min(1 << 16, size - sent[0])))

    proxy = start_proxy(7, start_upstream(flood).port)
    with proxy.connect() as client:
        client.sendall(get())
        assert stalled.wait(TIMEOUT_S)
        assert sent[0] < 40_000_000
        assert len(read_all(client)) > size


def test_a_slow_upstream_slows_the_client_down(start_proxy: Start, start_upstream: StartUpstream) -> None:
    go_on = threading.Event()

    def hold(sock: socket.socket) -> None:
        came = sock.recv(1 << 16)
        assert go_on.wait(TIMEOUT_S)
        left = 60_000_000 + came.index(b"\r\n\r\n") + 4 - len(came)
        while left > 0 and (data := sock.recv(1 << 20)):
            left -= len(data)
        sock.sendall(OK)

    proxy = start_proxy(7, start_upstream(hold).port)
    with proxy.connect() as client:
        client.sendall(get(method="POST", fields="content-length: 60000000\r\n"))
        client.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60_000_000:
                sent += client.send(bytes(1 << 16))
        assert sent < 40_000_000
        go_on.set()
        client.settimeout(TIMEOUT_S)
        while sent < 60_000_000:
            sent += client.send(bytes(min(1 << 16, 60_000_000 - sent)))
        assert read_all(client).endswith(b"ok")


def test_answers_are_lost_after_the_server_acted(start_proxy: Start, serve: Serve) -> None:
    server = serve("http1")
    proxy = start_proxy(7, server.port, lose_share=1.0)
    with proxy.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert ask(proxy, get("/health")).endswith(b"ok")  # which does nothing, so that there is nothing to do twice
    assert server.stats()[0][0].requests == 2
    assert proxy.count("lost") == 1
    assert proxy.count("retries") == 0


def test_silent_clients_are_let_go(start_proxy: Start, serve: Serve) -> None:
    proxy = start_proxy(7, serve("http1").port, idle_timeout_s=0.4)
    assert ask(proxy, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").endswith(b"ok")
    assert ask(proxy, b"GET /health HTTP/1.1\r\nhost: ").startswith(b"HTTP/1.1 408 ")
    assert proxy.count("idle_closed") == 2


def test_silent_tunnels_are_closed(start_proxy: Start, start_upstream: StartUpstream) -> None:
    upstream = start_upstream(echo)
    proxy = start_proxy(7, upstream.port, forward=True, idle_timeout_s=0.4)
    with proxy.connect() as client:
        client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: a\r\n\r\nearly" % upstream.port)
        came = read_head(client)
        while not came.endswith(b"early"):
            came += client.recv(100)
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert client.recv(100) == b""
    assert proxy.count("idle_closed") == 1


def test_health_checks_ask_for_a_path(start_proxy: Start, start_upstream: StartUpstream, serve: Serve) -> None:
    _, ill = answers(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
    proxy = start_proxy(7, start_upstream(ill).port, serve("http1").port, health_interval_s=0.02, health_path="/health")
    while [upstream["up"] for upstream in proxy.stats()["upstreams"]] != [False, True]:
        pass
    for _ in range(4):
        assert ask(proxy, get("/health")).endswith(b"ok")


def test_no_descriptor_is_left_behind(start_proxy: Start, start_upstream: StartUpstream) -> None:
    _, breaks = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")
    proxy = start_proxy(7, start_upstream(breaks).port)
    folder = Path(f"/proc/{proxy.pid}/fd")

    def use() -> None:
        for _ in range(20):
            with proxy.connect() as client, contextlib.suppress(ConnectionResetError):
                client.sendall(get())
                read_all(client)
        while sum(upstream["open"] for upstream in proxy.stats()["upstreams"]):
            pass

    use()
    before = len(list(folder.iterdir()))
    use()
    assert abs(len(list(folder.iterdir())) - before) <= 1
