"""Servers over TLS: every execution model, ALPN, names, versions, ends and drains, against clients of others."""

import contextlib
import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable

import pytest
import websockets.sync.client

from bench.certificates import ADDRESSES, NAMES, certificates
from bench.contract import Opcode, exchange
from tests.servers.execution_helpers import COMBINATIONS, DEADLINE_S, Serve, requests_counted, until
from tests.servers.tls_client import SecureTalker, connect, context, get, received, rest

ECHO = exchange(Opcode.ECHO, 64)
BLOCKING = "thread-per-connection"
MODELS = ("single", BLOCKING)
"""One whose connections live on an event loop, and one whose connections block."""


@pytest.mark.parametrize(
    ("protocol", "execution"),
    [
        (protocol, execution)
        for protocol, execution in COMBINATIONS
        if protocol == "http1" or (protocol in ("http2", "tcp") and execution in ("dispatch", BLOCKING))
    ],
)
def test_every_execution_model_serves(serve: Serve, protocol: str, execution: str) -> None:
    server = serve(protocol, execution, workers=2, tls="1.3")
    talkers = [SecureTalker(server, ECHO) for _ in range(3)]
    for talker in talkers:
        talker.exchange(2)
        talker.sock.close()
    workers, deaths = server.stats()
    assert (sum(counts.accepts for counts in workers), sum(counts.requests for counts in workers)) == (3, 6)
    assert deaths == []
    server.stop()
    assert server.stderr == ""


@pytest.mark.parametrize("execution", MODELS)
@pytest.mark.parametrize("protocol", ["http1", "http2", "tcp"])
def test_large_bodies_both_ways(serve: Serve, protocol: str, execution: str) -> None:
    talker = SecureTalker(serve(protocol, execution, tls="1.2"), exchange(Opcode.ECHO, 3 << 20))
    talker.ask(1)
    talker.collect(1)
    talker.sock.close()


def test_websocket_messages_of_another_client(serve: Serve) -> None:
    server = serve("websocket", tls="1.3")
    uri = f"wss://127.0.0.1:{server.port}/echo"
    with websockets.sync.client.connect(uri, ssl=context()) as client:
        client.send("hello")
        assert client.recv(DEADLINE_S) in ("hello", b"hello")


@pytest.mark.parametrize("execution", MODELS)
class TestAlpn:
    @pytest.mark.parametrize(
        ("options", "version"), [(["--http2"], "2"), (["--http1.1"], "1.1"), (["--no-alpn"], "1.1")]
    )
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_http2_and_http1_share_a_port(
        self, serve: Serve, need: Callable[[str], str], execution: str, options: list[str], version: str, tls: str
    ) -> None:
        server = serve("http2", execution, tls=tls)
        authority = ["--cacert", str(certificates().authority)]
        command = [need("curl"), "-sS", *options, *authority, "-d", "body", "-w", "|%{http_version}"]
        done = subprocess.run(
            [*command, f"https://{server.address}/echo"],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert (done.stdout, done.stderr) == (f"body|{version}", "")

    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_the_servers_choice_comes_first(self, serve: Serve, execution: str, tls: str) -> None:
        server = serve("http2", execution, tls=tls)
        with connect(server, context(["nothing", "http/1.1", "h2"])) as sock:
            assert sock.selected_alpn_protocol() == "h2"

    @pytest.mark.parametrize(("protocol", "offered"), [("http1", "h2"), ("http2", "h3"), ("websocket", "h2")])
    def test_no_common_protocol_is_an_alert(self, serve: Serve, execution: str, protocol: str, offered: str) -> None:
        server = serve(protocol, execution, tls="1.3")
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            connect(server, context([offered]))
        with connect(server) as sock:
            get(sock, "/health")
            assert b" 200 " in received(sock, b"ok") or protocol == "websocket"

    def test_tcp_has_no_name(self, serve: Serve, execution: str) -> None:
        with connect(serve("tcp", execution, tls="1.3"), context(["h2"])) as sock:
            assert sock.selected_alpn_protocol() is None


@pytest.mark.parametrize("name", [*NAMES, *ADDRESSES])
def test_the_certificate_is_for_each_name_of_loopback(serve: Serve, name: str) -> None:
    connect(serve(tls="1.3"), name=name).close()


def test_a_name_that_is_not_ours_is_the_clients_to_refuse(serve: Serve) -> None:
    server = serve(tls="1.3")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"example\.org"):
        connect(server, name="example.org")
    careless = context()
    careless.check_hostname = False
    with connect(server, careless, name="example.org") as sock:
        get(sock, "/health")
        received(sock, b"ok")


@pytest.mark.parametrize(("spoken", "other"), [("1.2", "1.3"), ("1.3", "1.2")])
@pytest.mark.parametrize("execution", MODELS)
def test_one_version_is_spoken(serve: Serve, execution: str, spoken: str, other: str) -> None:
    server = serve("http1", execution, tls=spoken)
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        connect(server, context(version=other))
    with connect(server) as sock:
        assert sock.version() == f"TLSv{spoken}"


def test_tls_1_2_takes_no_cipher_that_http2_forbids(serve: Serve) -> None:
    """RFC 9113, section 9.2.2."""
    forbidden = context(version="1.2")
    forbidden.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    server = serve("http2", tls="1.2")
    with pytest.raises(ssl.SSLError, match="handshake failure"):
        connect(server, forbidden)


@pytest.mark.parametrize("execution", [*MODELS, "process-per-connection"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_sessions_can_be_resumed(serve: Serve, execution: str, tls: str) -> None:
    server, using = serve("http1", execution, tls=tls), context()
    with connect(server, using) as first:
        get(first, "/health")
        received(first, b"ok")  # tickets of TLS 1.3 come before it
        session = first.session
    with connect(server, using, session=session) as second:
        assert second.session_reused
        get(second, "/health")
        received(second, b"ok")


class TestEnds:
    @pytest.mark.parametrize("execution", MODELS)
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_the_last_answer_and_then_close_notify(self, serve: Serve, execution: str, tls: str) -> None:
        with connect(serve("http1", execution, tls=tls)) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert rest(sock).endswith(b"ok")  # and not SSLEOFError

    @pytest.mark.parametrize("execution", MODELS)
    @pytest.mark.parametrize("protocol", ["http1", "http2", "tcp"])
    def test_a_refused_client_that_goes_on_sending_gets_to_know_why(
        self, serve: Serve, execution: str, protocol: str
    ) -> None:
        server = serve(protocol, execution, tls="1.3")
        with connect(server, context(["h2"] if protocol == "http2" else [])) as sock:
            for _ in range(30):
                try:
                    sock.sendall(b"\xff nonsense \r\n\r\n" * 1000)
                except OSError:  # after the server's second of patience, on a slow machine
                    break
            answer = rest(sock)
        sign = {"http1": b"HTTP/1.1 501 ", "http2": b"the client speaks something else", "tcp": b"not a frame"}[
            protocol
        ]
        assert sign in answer

    @pytest.mark.parametrize("execution", MODELS)
    def test_a_client_that_has_ended_gets_its_answer(self, serve: Serve, execution: str) -> None:
        """close_notify ends one direction only (RFC 8446, section 6.1)."""
        server = serve("http1", execution, tls="1.3")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:

            def attempt(step: Callable[[], object]) -> object:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        if outgoing.pending:
                            sock.sendall(outgoing.read())
                        data = sock.recv(65536)
                        if not data:
                            return b""
                        incoming.write(data)

            attempt(client.do_handshake)
            client.write(b"GET /work?wait_ms=50 HTTP/1.1\r\nhost: x\r\n\r\n")
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
            # Anything behind close_notify is to be ignored.
            sock.sendall(outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
            assert b"200 OK" in bytes(attempt(client.read))  # type: ignore[call-overload]  # it is bytes

    @pytest.mark.parametrize("execution", MODELS)
    def test_a_client_that_is_cut_off(self, serve: Serve, execution: str) -> None:
        server = serve("http1", execution, tls="1.3")
        sock = connect(server)
        get(sock, "/work?wait_ms=30")
        socket.socket(fileno=sock.detach()).close()
        with connect(server) as other:
            get(other, "/health")
            received(other, b"ok")


class TestStopping:
    @pytest.mark.parametrize(
        ("protocol", "execution"), [(each, model) for each in ("http1", "tcp") for model in MODELS]
    )
    def test_what_is_in_flight_is_finished(self, serve: Serve, protocol: str, execution: str) -> None:
        server = serve(protocol, execution, tls="1.3")
        talker = SecureTalker(server, exchange(Opcode.WORK, b=300))
        talker.ask(1)
        until(lambda: requests_counted(server) == 1, "the request runs")
        server.stop()
        talker.collect(1)
        assert rest(talker.sock) == b""
        talker.sock.close()
        assert server.stderr == ""

    @pytest.mark.parametrize("execution", [*MODELS, "threads", "process-per-connection"])
    def test_clients_that_say_nothing_are_not_waited_for(self, serve: Serve, execution: str) -> None:
        server = serve("http2", execution, tls="1.3", grace_s=60.0)
        silent = [socket.create_connection((server.host, server.port), DEADLINE_S) for _ in range(3)]
        silent[0].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        with connect(server) as idle:
            get(idle, "/health")
            received(idle, b"ok")  # so the silent ones, which came before, have been accepted
            server.stop()  # which raises after 63 s
            assert rest(idle) == b""
        for sock in silent:
            with sock, contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        assert server.stderr == ""


def test_keys_are_updated_on_request(serve: Serve, need: Callable[[str], str]) -> None:
    """RFC 8446, section 4.6.3."""
    server = serve(tls="1.3")
    with subprocess.Popen(
        [need("openssl"), "s_client", "-connect", server.address, "-msg"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        seen = b""

        def read_until(what: bytes) -> None:
            nonlocal seen
            while what not in seen:
                data = client.stdout.read1(65536)  # type: ignore[union-attr]  # checked above
                assert data, seen
                seen += data

        read_until(b"read R BLOCK")
        client.stdin.write(b"K\n")  # ours, and yours too
        client.stdin.flush()
        read_until(b"KEYUPDATE")
        client.stdin.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        client.stdin.flush()
        read_until(b"200 OK")
        client.stdin.close()
        client.stdout.read()
    assert seen.count(b"KeyUpdate") >= 2


def test_renegotiation_is_refused(serve: Serve, need: Callable[[str], str]) -> None:
    server = serve(tls="1.2")
    with subprocess.Popen(
        [need("openssl"), "s_client", "-connect", server.address, "-tls1_2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"R\n")
        client.stdin.flush()
        assert b"no renegotiation" in client.stdout.read()
    with connect(server) as sock:
        get(sock, "/health")
        received(sock, b"ok")


def test_a_plain_client_of_http_is_not_answered_in_the_clear(serve: Serve) -> None:
    server = serve(tls="1.3")
    plain = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_S)
    with pytest.raises((http.client.BadStatusLine, ConnectionResetError)):  # noqa: PT012  whichever comes to see it
        plain.request("GET", "/health")
        plain.getresponse()
    plain.close()
