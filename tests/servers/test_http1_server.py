"""The lean HTTP/1.1 server against RFC 9112, with h11 and curl for readers of what it says."""

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h11
import pytest

from bench.contract import MAX_BODY_BYTES, pattern, upload_receipt
from bench.serverprocess import ServerProcess
from bench.wire.http1 import MAX_HEAD_BYTES, MAX_TARGET_BYTES

Serve = Callable[..., ServerProcess]

DEADLINE_S = 5.0
HOST = b"host: x\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server for all tests of this file: none may disturb the next."""
    with ServerProcess("http1") as server:
        yield server
        assert server.events == []
        server.stop()
        assert server.stderr == ""


@dataclass
class Answer:
    status: int
    fields: dict[bytes, bytes]
    body: bytes
    version: bytes = b"1.1"


class Peer:
    """A client that sends what it is told to, and reads answers with h11."""

    def __init__(self, server: ServerProcess) -> None:
        self.sock = socket.create_connection((server.host, server.port), DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def end(self) -> Self:
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of that method."""
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        if self._left:
            reader.receive_data(self._left)
        answer = Answer(0, {}, b"")
        body = []
        while True:
            match event := reader.next_event():
                case h11.NEED_DATA:
                    reader.receive_data(self.sock.recv(1 << 20))
                case h11.InformationalResponse():
                    return Answer(event.status_code, dict(event.headers), b"")
                case h11.Response():
                    answer = Answer(event.status_code, dict(event.headers), b"", event.http_version)
                case h11.Data():
                    body.append(bytes(event.data))
                case h11.EndOfMessage():
                    self._left = reader.trailing_data[0]
                    answer.body = b"".join(body)
                    return answer
                case _:
                    raise AssertionError(event)

    def interim(self) -> Answer:
        """The next answer, which is an interim one."""
        while b"\r\n\r\n" not in self._left:
            data = self.sock.recv(1 << 20)
            assert data, self._left
            self._left += data
        end = self._left.index(b"\r\n\r\n") + 4
        interim, left = self._left[:end], self._left[end:]
        self._left = interim
        answer = self.answer("POST")
        self._left = left
        return answer

    def closed(self) -> bool:
        """Wait for the server to close. Whether it said nothing more before."""
        return self._left + self.sock.recv(1 << 20) == b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@pytest.fixture
def peer(server: ServerProcess) -> Iterator[Peer]:
    with Peer(server) as peer:
        yield peer


def get(target: str, fields: bytes = b"", method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {target} HTTP/{version}\r\n".encode() + HOST + fields + b"\r\n"


def post(target: str, body: bytes, fields: bytes = b"") -> bytes:
    return get(target, b"content-length: %d\r\n" % len(body) + fields, "POST") + body


def alive(peer: Peer) -> None:
    """The connection still serves."""
    assert peer.send(get("/health")).answer().body == b"ok"


class TestOperations:
    def test_health(self, peer: Peer) -> None:
        answer = peer.send(get("/health")).answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.fields[b"content-length"] == b"2"
        assert answer.fields[b"content-type"] == b"application/octet-stream"
        assert b"GMT" in answer.fields[b"date"]
        assert b"connection" not in answer.fields
        alive(peer)

    @pytest.mark.parametrize("size", [0, 1, 64, 65536, 1_000_000])
    def test_echo(self, peer: Peer, size: int) -> None:
        assert peer.send(post("/echo", pattern(size))).answer().body == pattern(size)
        alive(peer)

    @pytest.mark.parametrize("size", [0, 1, 64, 65536, 3_000_000])
    def test_bytes(self, peer: Peer, size: int) -> None:
        assert peer.send(get(f"/bytes/{size}")).answer().body == pattern(size)
        alive(peer)

    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_upload(self, peer: Peer, size: int) -> None:
        receipt = upload_receipt(size, hashlib.sha256(pattern(size)).digest())
        assert peer.send(post("/upload", pattern(size))).answer().body == receipt
        alive(peer)

    def test_work(self, peer: Peer) -> None:
        assert peer.send(get("/work?cpu_us=100&wait_ms=1")).answer().body == b"done"
        alive(peer)

    @pytest.mark.parametrize("chunk", [1, 7, 1000, 5000])
    def test_answers_in_chunks(self, peer: Peer, chunk: int) -> None:
        answer = peer.send(get(f"/bytes/1000?chunk={chunk}")).answer()
        assert answer.fields[b"transfer-encoding"] == b"chunked"
        assert b"content-length" not in answer.fields
        assert answer.body == pattern(1000)
        alive(peer)

    def test_an_empty_answer_in_chunks(self, peer: Peer) -> None:
        assert peer.send(get("/bytes/0?chunk=5")).answer().body == b""
        alive(peer)


class TestRequests:
    def test_chunked_bodies(self, peer: Peer) -> None:
        fields = b"transfer-encoding: chunked\r\n"
        peer.send(get("/echo", fields, "POST") + b"5\r\nhello\r\n6;extension=1\r\n world\r\n0\r\n\r\n")
        assert peer.answer().body == b"hello world"
        alive(peer)

    def test_trailers_mean_nothing(self, peer: Peer) -> None:
        trailers = b"host: y\r\nexpect: nothing\r\nx: z\r\n"
        fields = b"transfer-encoding: chunked\r\n"
        peer.send(get("/echo", fields, "POST") + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
        assert peer.answer().body == b"hello"
        alive(peer)

    def test_a_trickle_of_bytes(self, peer: Peer) -> None:
        requests = post("/echo", b"abc", b"x-empty:\r\n") + get("/bytes/3?chunk=2") + get("/health")
        for start in range(len(requests)):
            peer.send(requests[start : start + 1])
        assert [peer.answer().body for _ in range(3)] == [b"abc", pattern(3), b"ok"]

    def test_names_and_values_in_any_case(self, peer: Peer) -> None:
        peer.send(b"POST /echo HTTP/1.1\r\nHOST: x\r\nConTent-LENGTH:   3  \r\n\r\nabc")
        assert peer.answer().body == b"abc"

    def test_empty_lines_before_a_request(self, peer: Peer) -> None:
        """RFC 9112, section 2.2."""
        assert peer.send(b"\r\n\r\n" + get("/health")).answer().body == b"ok"

    def test_the_absolute_form(self, peer: Peer) -> None:
        """RFC 9112, section 3.2.2: a server must accept it."""
        assert peer.send(get("http://x:80/bytes/3?chunk=1")).answer().body == pattern(3)

    def test_an_offer_to_upgrade_is_ignored(self, peer: Peer) -> None:
        offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
        peer.send(get("/health", offer) + get("/bytes/5"))
        assert peer.answer().body == b"ok"
        assert peer.answer().body == pattern(5)

    def test_an_offer_to_upgrade_with_a_body(self, peer: Peer) -> None:
        peer.send(post("/echo", b"abc", b"connection: upgrade\r\nupgrade: h2c\r\n") + get("/bytes/5"))
        assert peer.answer().body == b"abc"
        assert peer.answer().body == pattern(5)

    def test_half_close(self, peer: Peer) -> None:
        peer.send(get("/work?wait_ms=20") + get("/bytes/5")).end()
        assert [peer.answer().body for _ in range(2)] == [b"done", pattern(5)]
        assert peer.closed()

    @pytest.mark.parametrize("part", [b"", b"GET /he", get("/health")[:-2], post("/echo", b"abc")[:-1]])
    def test_half_close_in_a_request(self, peer: Peer, part: bytes) -> None:
        assert peer.send(part).end().closed()


class TestPipelining:
    def test_answers_come_in_order(self, peer: Peer) -> None:
        targets = [f"/bytes/{size}" if size % 7 else f"/bytes/{size}?chunk=10" for size in range(200)]
        peer.send(b"".join(get(target) for target in targets))
        assert [peer.answer().body for _ in targets] == [pattern(size) for size in range(200)]

    def test_behind_a_request_that_waits(self, peer: Peer) -> None:
        peer.send(get("/work?wait_ms=30") + get("/nothing") + post("/echo", b"abc") + get("/health"))
        assert [peer.answer().status for _ in range(4)] == [200, 404, 200, 200]

    def test_ten_thousand(self, peer: Peer) -> None:
        sizes = [number % 100 for number in range(10_000)]
        requests = b"".join(get(f"/bytes/{size}") for size in sizes)
        sender = threading.Thread(target=peer.send, args=(requests,))
        sender.start()
        with peer.sock.makefile("rb") as stream:
            for size in sizes:
                head = b"".join(iter(stream.readline, b"\r\n"))
                assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
                assert b"content-length: %d\r\n" % size in head
                assert stream.read(size) == pattern(size)
        sender.join()

    def test_more_than_may_wait(self, peer: Peer) -> None:
        peer.send(get("/work?wait_ms=20") + get("/health") * 500)
        assert [peer.answer().body for _ in range(501)] == [b"done"] + [b"ok"] * 500

    def test_nothing_after_the_last(self, peer: Peer) -> None:
        peer.send(get("/health", b"connection: close\r\n") + get("/bytes/5"))
        assert peer.answer().fields[b"connection"] == b"close"
        assert peer.closed()

    def test_an_error_behind_good_requests(self, peer: Peer) -> None:
        peer.send(get("/work?wait_ms=20") + get("/bytes/5") + b"nonsense\r\n\r\n" + get("/health"))
        assert [peer.answer().status for _ in range(3)] == [200, 200, 501]
        assert peer.closed()

    @pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
    def test_a_client_that_does_not_read_costs_little_memory(self, serve: Serve) -> None:
        server = serve()
        with Peer(server) as peer:
            peer.sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                peer.send(get("/bytes/1000000") * 10_000)
            peer.sock.settimeout(DEADLINE_S)
            for _ in range(20):  # it goes on where it was held up
                assert len(peer.answer().body) == 1_000_000
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert int(status.split("VmHWM:")[1].split()[0]) < 64_000


class TestConnections:
    def test_http_1_0_closes(self, peer: Peer) -> None:
        peer.send(b"GET /bytes/5 HTTP/1.0\r\n\r\n")
        answer = peer.answer()
        assert answer.body == pattern(5)
        assert answer.fields[b"connection"] == b"close"
        assert peer.closed()

    def test_http_1_0_that_asks_to_live(self, peer: Peer) -> None:
        peer.send(b"GET /bytes/5 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        answer = peer.answer()
        assert answer.body == pattern(5)
        assert answer.fields[b"connection"] == b"keep-alive"
        alive(peer)

    def test_http_1_0_knows_no_chunks(self, peer: Peer) -> None:
        answer = peer.send(b"GET /bytes/5000?chunk=10 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").answer()
        assert b"transfer-encoding" not in answer.fields
        assert answer.fields[b"connection"] == b"close"
        assert answer.body == pattern(5000)
        assert peer.closed()

    def test_a_large_last_answer_comes_whole(self, peer: Peer) -> None:
        answer = peer.send(get("/bytes/20000000", b"connection: close\r\n")).answer()
        assert len(answer.body) == 20_000_000
        assert peer.closed()

    @pytest.mark.parametrize("version", ["1.1", "1.0"])
    @pytest.mark.parametrize("target", ["/nothing", "/echo"])
    def test_a_refusal_that_is_the_last_answer_says_so(self, peer: Peer, target: str, version: str) -> None:
        answer = peer.send(get(target, b"connection: close\r\n", version=version)).answer()
        assert answer.status >= 400
        assert answer.fields[b"connection"] == b"close"
        assert peer.closed()


class TestHead:
    @pytest.mark.parametrize("target", ["/bytes/5", "/bytes/5?chunk=2", "/health"])
    def test_what_get_would_say(self, peer: Peer, target: str) -> None:
        would = peer.send(get(target)).answer()
        answer = peer.send(get(target, method="HEAD")).answer("HEAD")
        assert answer.status == 200
        assert answer.body == b""
        assert answer.fields.keys() == would.fields.keys()
        assert answer.fields.get(b"content-length") == would.fields.get(b"content-length")
        alive(peer)

    @pytest.mark.parametrize("target", ["/nothing", "/echo", "/bytes/x"])
    def test_refusals_have_no_body_either(self, peer: Peer, target: str) -> None:
        assert peer.send(get(target, method="HEAD")).answer("HEAD").status in (400, 404, 405)
        alive(peer)


class TestExpect:
    def test_continue(self, peer: Peer) -> None:
        request = post("/echo", b"abc", b"expect: 100-continue\r\n")
        assert peer.send(request[:-3]).interim().status == 100
        assert peer.send(request[-3:]).answer().body == b"abc"
        alive(peer)

    def test_continue_behind_a_request_that_waits(self, peer: Peer) -> None:
        """The interim answer must not overtake the answer before it, and must come."""
        request = post("/echo", b"abc", b"expect: 100-continue\r\n")
        peer.send(get("/work?wait_ms=20") + request[:-3])
        assert peer.answer().body == b"done"
        assert peer.interim().status == 100
        assert peer.send(request[-3:]).answer().body == b"abc"

    @pytest.mark.parametrize(("target", "status"), [("/nothing", 404), ("/health", 405)])
    def test_a_refusal_does_not_wait_for_the_body(self, peer: Peer, target: str, status: int) -> None:
        """RFC 9110, section 10.1.1: an interim or a final answer must come at once."""
        request = post(target, b"abc", b"expect: 100-continue\r\n")
        assert peer.send(request[:-3]).answer().status == status

    def test_too_large_a_body_is_refused_before_it_comes(self, peer: Peer) -> None:
        fields = b"expect: 100-continue\r\ncontent-length: %d\r\n" % (MAX_BODY_BYTES + 1)
        assert peer.send(get("/upload", fields, "PUT")).answer().status == 413
        assert peer.closed()

    def test_http_1_0_expects_nothing(self, peer: Peer) -> None:
        """RFC 9110, section 10.1.1: it must be ignored there."""
        peer.send(b"POST /echo HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc")
        assert peer.answer().status == 200

    def test_another_expectation(self, peer: Peer) -> None:
        assert peer.send(get("/health", b"expect: miracles\r\n")).answer().status == 417


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (get("/nothing"), 404),
            (get("/"), 404),
            (get("/health/more"), 404),
            (get("/bytes"), 400),
            (get("/bytes/x"), 400),
            (get("/bytes/-1"), 400),
            (get(f"/bytes/{MAX_BODY_BYTES + 1}"), 400),
            (get("/bytes/5?chunk=-1"), 400),
            (get("/work?cpu_us=10000001"), 400),
            (get("/work?wait_ms=x"), 400),
            (get("/echo"), 405),
            (post("/nothing", b"abc"), 404),
            (post("/health", b"abc"), 405),
            (get("/health", method="DELETE"), 405),
            (get("/health", method="OPTIONS"), 405),
        ],
    )
    def test_requests_that_are_well_formed_leave_the_connection_alone(
        self, peer: Peer, request_bytes: bytes, status: int
    ) -> None:
        answer = peer.send(request_bytes).answer()
        assert answer.status == status
        assert answer.body.count(b"\n") == 1
        assert (b"allow" in answer.fields) == (status == 405)
        alive(peer)

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET /health HTTP/1.1\r\n\r\n", 400),
            (b"GET /health HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
            (b"FETCH /health HTTP/1.1\r\nhost: x\r\n\r\n", 501),
            (b"get /health HTTP/1.1\r\nhost: x\r\n\r\n", 501),
            (get("/health", version="1.2"), 505),
            (get("/health", version="2.0"), 505),
            (get("/health", version="0.9"), 505),
            (b"GET /health\r\n\r\n", 505),
            (b"GET /hea\x00lth HTTP/1.1\r\nhost: x\r\n\r\n", 400),
            (get("/health", b"x y: z\r\n"), 400),
            (get("/health", b"x : z\r\n"), 400),
            (get("/health", b": z\r\n"), 400),
            (get("/health", b"x: a\x00b\r\n"), 400),
            (get("/health", b"x: a\r\n folded\r\n"), 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ],
    )
    def test_malformed_requests(self, peer: Peer, request_bytes: bytes, status: int) -> None:
        answer = peer.send(request_bytes).answer()
        assert answer.status in ({status, 501} if request_bytes[0] == 0x16 else {status})
        assert answer.fields[b"connection"] == b"close"
        assert peer.closed()

    @pytest.mark.parametrize(
        "fields",
        [
            b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
            b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            b"content-length: 5\r\ncontent-length: 6\r\n",
            b"content-length: 5, 6\r\n",
            b"content-length: +5\r\n",
            b"content-length: 0x5\r\n",
            b"content-length: -5\r\n",
            b"content-length:\r\n",
            b"content-length: 99999999999999999999\r\n",
            b"content-length : 5\r\n",
            b"transfer-encoding : chunked\r\n",
            b"transfer-encoding: chunked, identity\r\n",
            b"transfer-encoding: xchunked\r\n",
            b"transfer-encoding:\x0bchunked\r\n",
            b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        ],
    )
    def test_two_ways_to_read_where_a_request_ends(self, peer: Peer, fields: bytes) -> None:
        """RFC 9112, section 11.2: smuggling. Only one answer may come, and it must be a refusal."""
        peer.send(get("/echo", fields, "POST") + b"0\r\n\r\n" + get("/health"))
        assert peer.answer().status in (400, 413, 501)
        assert peer.closed()

    @pytest.mark.parametrize(
        "body",
        [b"x\r\n", b"-1\r\n", b"5 \r\nhello", b"fffffffffffffffff\r\n", b"5\nhello\r\n", b"2\r\nhello\r\n", b"0x5\r\n"],
    )
    def test_malformed_chunks(self, peer: Peer, body: bytes) -> None:
        peer.send(get("/echo", b"transfer-encoding: chunked\r\n", "POST") + body + get("/health"))
        assert peer.answer().status == 400
        assert peer.closed()

    def test_a_transfer_coding_that_is_not_known(self, peer: Peer) -> None:
        """RFC 9112, section 6.1: what is not understood can't be unpacked."""
        peer.send(get("/echo", b"transfer-encoding: gzip, chunked\r\n", "POST") + b"3\r\nabc\r\n0\r\n\r\n")
        assert peer.answer().status in (400, 501)


class TestLimits:
    @pytest.mark.parametrize("piece_bytes", [1 << 20, 1000])
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (get("/" + "x" * MAX_TARGET_BYTES), 414),
            (get("/" + "x" * 200_000), 414),
            (get("/health", b"x: " + b"y" * 2 * MAX_HEAD_BYTES + b"\r\n"), 431),
            (get("/health", b"x: " + b"y" * 500_000 + b"\r\n"), 431),
            (get("/health", b"x: y\r\n" * (MAX_HEAD_BYTES // 3)), 431),
            (get("/health", b"x: y\r\n" * 100_000), 431),
            (get("/health", b"y" * 100_000 + b": x\r\n"), 431),
            (get("/upload", b"content-length: %d\r\n" % (MAX_BODY_BYTES + 1), "PUT"), 413),
            (get("/upload", b"content-length: %d\r\n" % 10**18, "PUT"), 413),
        ],
    )
    def test_too_large(self, peer: Peer, request_bytes: bytes, status: int, piece_bytes: int) -> None:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for start in range(0, len(request_bytes), piece_bytes):
                peer.send(request_bytes[start : start + piece_bytes])
        assert peer.answer().status == status
        assert peer.closed()

    @pytest.mark.parametrize("piece_bytes", [1 << 20, 1000, 1])
    def test_just_within(self, peer: Peer, piece_bytes: int) -> None:
        request = get("/health?" + "x" * (MAX_TARGET_BYTES - 8), b"x: " + b"y" * (MAX_HEAD_BYTES - 9000) + b"\r\n")
        for start in range(0, len(request), piece_bytes):
            peer.send(request[start : start + piece_bytes])
        assert peer.answer().status == 200
        alive(peer)

    def test_a_chunked_body_without_end(self, peer: Peer) -> None:
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        peer.send(get("/upload", b"transfer-encoding: chunked\r\n", "PUT"))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(65):
                peer.send(chunk)
        assert peer.answer().status == 413

    @pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
    @pytest.mark.parametrize("piece", [b"y" * (1 << 20), b"x: y\r\n" * (1 << 17)])
    def test_trailers_without_end(self, serve: Serve, piece: bytes) -> None:
        server = serve()
        with Peer(server) as peer:
            peer.send(get("/upload", b"transfer-encoding: chunked\r\n", "PUT") + b"0\r\nx: ")
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for _ in range(64):
                    peer.send(piece)
            assert peer.answer().status == 431
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 64_000

    def test_the_largest_bodies(self, server: ServerProcess) -> None:
        body = pattern(MAX_BODY_BYTES)
        with Peer(server) as peer:
            sender = threading.Thread(target=peer.send, args=(post("/echo", body),))
            sender.start()
            answer = peer.answer()
            sender.join()
            assert answer.body == body
            receipt = upload_receipt(len(body), hashlib.sha256(body).digest())
            assert peer.send(post("/upload", body)).answer().body == receipt
            assert peer.send(get(f"/bytes/{len(body)}?chunk=1000000")).answer().body == body

    @pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
    def test_a_large_answer_in_tiny_chunks_costs_little_memory(self, serve: Serve) -> None:
        server = serve(grace_s=0.0)
        with Peer(server) as peer:
            peer.send(get("/bytes/4000000?chunk=1"))
            assert peer.sock.recv(1)
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert int(status.split("VmHWM:")[1].split()[0]) < 64_000


class TestCurl:
    @pytest.fixture
    def curl(self, need: Callable[[str], str], server: ServerProcess) -> Callable[..., bytes]:
        program = need("curl")

        def run(*options: str, stdin: bytes = b"") -> bytes:
            command = [program, "--silent", "--show-error", "--max-time", "10", *options]
            urls = [option.replace("URL", f"http://{server.address}") for option in command]
            return subprocess.run(urls, input=stdin, capture_output=True, check=True).stdout

        return run

    def test_keep_alive(self, curl: Callable[..., bytes]) -> None:
        out = curl("--write-out", "%{json}\n", "URL/bytes/64", "URL/bytes/64", "--output", "/dev/null", "--output", "-")
        assert out.startswith(b"{")
        first, second = out.split(b"\n")[0], out.split(b"\n")[-2]
        assert json.loads(first)["num_connects"] == 1
        assert json.loads(second[second.index(b'{"') :])["num_connects"] == 0

    @pytest.mark.parametrize("fields", ["expect: 100-continue", "expect:"])
    @pytest.mark.parametrize("size", [0, 100, 3_000_000])
    def test_echo(self, curl: Callable[..., bytes], size: int, fields: str) -> None:
        assert curl("--header", fields, "--data-binary", "@-", "URL/echo", stdin=pattern(size)) == pattern(size)

    def test_chunked_upload(self, curl: Callable[..., bytes]) -> None:
        receipt = upload_receipt(300_000, hashlib.sha256(pattern(300_000)).digest())
        assert curl("--upload-file", "-", "URL/upload", stdin=pattern(300_000)) == receipt

    def test_chunked_download(self, curl: Callable[..., bytes]) -> None:
        assert curl("URL/bytes/300000?chunk=999") == pattern(300_000)

    def test_http_1_0(self, curl: Callable[..., bytes]) -> None:
        assert curl("--http1.0", "URL/bytes/300000?chunk=999") == pattern(300_000)

    def test_head(self, curl: Callable[..., bytes]) -> None:
        head = curl("--head", "URL/bytes/5")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 5\r\n" in head

    def test_offer_of_http2(self, curl: Callable[..., bytes]) -> None:
        assert curl("--http2", "URL/bytes/5") == pattern(5)

    @pytest.mark.parametrize("target", ["/nothing", "/bytes/5"])
    def test_a_refused_upload(self, curl: Callable[..., bytes], target: str) -> None:
        status = curl(
            "--upload-file", "-", "--write-out", "%{http_code}", "--output", "/dev/null", f"URL{target}",
            stdin=pattern(3_000_000),
        )  # fmt: skip
        assert status in (b"404", b"405")
