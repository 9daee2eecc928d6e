"""Requests that come with the first flight (0-RTT, RFC 8470), from openssl s_client, recorded bytes and our client."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.certificates import certificates
from bench.contract import pattern
from bench.errors import UnsupportedError
from bench.serverprocess import ServerProcess
from bench.wire.openssl import ClientContext
from bench.wire.tls import TlsEnd
from tests.servers.execution_helpers import DEADLINE_S, Serve, requests_counted
from tests.servers.tls_client import connect, context, get, received

MODELS = ("single", "thread-per-connection")
GET = b"GET /bytes/5 HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Talker:
    """A client on a socket, step by step."""

    def __init__(self, server: ServerProcess, client: ClientContext, ticket: Any) -> None:
        self.made = client.client("127.0.0.1", ticket)
        self.end: TlsEnd = self.made.end()
        self.sock = socket.create_connection((server.host, server.port), DEADLINE_S)
        if not self.made.is_early:
            self._until(self.made.do_handshake)
            self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.end.outgoing.read())

    def say(self, data: bytes) -> None:
        self.made.write(data)
        self.flush()

    def hear(self, end: bytes) -> bytes:
        """What comes, up to that; the handshake is ended on the way."""
        heard = b""
        while not heard.endswith(end):
            more = self._until(lambda: self.made.read(16384))
            assert more, heard
            heard += more
        self.flush()
        return heard

    def ticket(self) -> Any:
        """The ticket for another connection, and the end of this one."""
        while self.made.ticket is None:
            self.receive()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.made.read(16384)
        self.close()
        return self.made.ticket

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self.made.unwrap()
        self.flush()
        self.sock.shutdown(socket.SHUT_WR)
        while self.sock.recv(65536):  # until the server has closed too, so that it has kept the session
            pass
        self.sock.close()

    def receive(self) -> None:
        data = self.sock.recv(65536)
        assert data, "the server closed the connection"
        self.end.incoming.write(data)

    def _until(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()


def client() -> ClientContext:
    return ClientContext(str(certificates().authority), False, ["http/1.1"])


def ticket_of(server: ServerProcess, using: ClientContext) -> Any:
    first = Talker(server, using, None)
    first.say(GET)
    first.hear(b"\r\n\r\n" + pattern(5))
    return first.ticket()


@pytest.mark.parametrize("execution", ["single", "threads", "dispatch", "accept-threads", "thread-per-connection"])
def test_a_safe_request_is_answered_at_once(serve: Serve, execution: str) -> None:
    server, using = serve("http1", execution, workers=2, tls="1.3", early_data=True), client()
    ticket = ticket_of(server, using)
    for _ in range(3):
        talker = Talker(server, using, ticket)
        talker.say(GET)
        assert talker.hear(pattern(5)).startswith(b"HTTP/1.1 200 ")
        assert talker.made.early_data_accepted
        talker.say(POST)  # the handshake is over
        assert talker.hear(b"body").startswith(b"HTTP/1.1 200 ")
        ticket = talker.ticket()
    server.stop()
    assert server.stderr == ""


@pytest.mark.parametrize("execution", MODELS)
def test_an_unsafe_request_is_too_early_and_the_next_is_not(serve: Serve, execution: str) -> None:
    """RFC 8470, section 5.2."""
    server, using = serve("http1", execution, tls="1.3", early_data=True), client()
    talker = Talker(server, using, ticket_of(server, using))
    talker.say(POST + GET)
    heard = talker.hear(pattern(5))
    assert heard.startswith(b"HTTP/1.1 425 Too Early\r\n")
    assert b"HTTP/1.1 200 OK\r\n" in heard
    assert talker.made.early_data_accepted
    talker.say(POST)
    assert talker.hear(b"body").startswith(b"HTTP/1.1 200 ")
    talker.close()


@pytest.mark.parametrize("execution", MODELS)
def test_a_request_that_begins_early_and_ends_late(serve: Serve, execution: str) -> None:
    server, using = serve("http1", execution, tls="1.3", early_data=True), client()
    for request, status in ((GET, b"200"), (POST, b"425")):
        talker = Talker(server, using, ticket_of(server, using))
        talker.say(request[:-6])
        while not talker.made.is_complete:
            with contextlib.suppress(ssl.SSLWantReadError):
                talker.made.read(16384)
            if not talker.made.is_complete:
                talker.receive()
        talker.say(request[-6:] + GET)
        heard = talker.hear(pattern(5))
        assert heard.startswith(b"HTTP/1.1 " + status)
        talker.close()


@pytest.mark.parametrize("execution", MODELS)
def test_the_last_request_may_be_early(serve: Serve, execution: str) -> None:
    server, using = serve("http1", execution, tls="1.3", early_data=True), client()
    talker = Talker(server, using, ticket_of(server, using))
    talker.say(LAST)
    assert talker.hear(b"ok").startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ssl.SSLZeroReturnError):
        talker._until(lambda: talker.made.read(100))
    talker.sock.close()


@pytest.mark.parametrize("execution", MODELS)
def test_a_recorded_first_flight_is_acted_upon_once(serve: Serve, execution: str) -> None:
    server, using = serve("http1", execution, tls="1.3", early_data=True), client()
    made = using.client("127.0.0.1", ticket_of(server, using))
    made.do_handshake()
    made.write(GET)
    flight = made.end().outgoing.read()
    before = requests_counted(server)
    for _ in range(3):
        with socket.create_connection((server.host, server.port), DEADLINE_S) as sock:
            sock.sendall(flight)
            assert sock.recv(65536)  # its own flight: by then the early data was read, or refused
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass
    assert requests_counted(server) == before + 1


@pytest.mark.parametrize("tls", ["off", "1.2", "1.3"])
def test_what_an_intermediary_took_early(serve: Serve, tls: str) -> None:
    """RFC 8470, section 5.1: the field counts for one hop behind what ended TLS, so over any connection."""
    server = serve("http1", tls=tls)
    with socket.create_connection((server.host, server.port), DEADLINE_S) if tls == "off" else connect(server) as sock:
        for head, status in ((GET, b"200"), (POST, b"425"), (GET, b"200")):
            sock.sendall(head.replace(b"host: x", b"Early-Data: 1\r\nhost: x"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 " + status)
        sock.sendall(POST)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


class TestOpensslClient:
    def run(self, need: Callable[[str], str], server: ServerProcess, *options: str, request: bytes = LAST) -> str:
        command = [need("openssl"), "s_client", "-connect", server.address, "-tls1_3", "-ign_eof", *options]
        command += ["-CAfile", str(certificates().authority), "-verify_return_error", "-alpn", "http/1.1"]
        done = subprocess.run(command, input=request, capture_output=True, check=False, timeout=DEADLINE_S)
        return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")

    @pytest.mark.parametrize("execution", MODELS)
    @pytest.mark.parametrize(("request_", "status"), [(LAST, "200 OK"), (POST, "425 Too Early")])
    def test_early_data(
        self,
        serve: Serve,
        need: Callable[[str], str],
        tmp_path: Path,
        execution: str,
        request_: bytes,
        status: str,
    ) -> None:
        server = serve("http1", execution, tls="1.3", early_data=True)
        session, early = tmp_path / "session.pem", tmp_path / "early"
        assert "200 OK" in self.run(need, server, "-sess_out", str(session))
        early.write_bytes(request_)
        said = self.run(need, server, "-sess_in", str(session), "-early_data", str(early))
        assert "Early data was accepted" in said
        assert f"HTTP/1.1 {status}" in said
        said = self.run(need, server, "-sess_in", str(session), "-early_data", str(early))
        assert "Early data was rejected" in said  # the ticket has been used
        server.stop()
        assert server.stderr == ""

    def test_none_is_taken_where_none_was_asked_for(
        self, serve: Serve, need: Callable[[str], str], tmp_path: Path
    ) -> None:
        server = serve("http1", tls="1.3")
        session, early = tmp_path / "session.pem", tmp_path / "early"
        assert "Max Early Data: 0" in self.run(need, server, "-sess_out", str(session))
        early.write_bytes(GET)
        said = self.run(need, server, "-sess_in", str(session), "-early_data", str(early))
        assert "Early data was accepted" not in said


@pytest.mark.parametrize("execution", ["prefork", "reuseport", "process-per-connection"])
def test_processes_take_each_others_tickets(serve: Serve, execution: str) -> None:
    server, using = serve("http1", execution, workers=2, tls="1.3"), context()
    session = None
    for number in range(12):
        with connect(server, using, session=session) as sock:
            assert sock.session_reused is (number > 0)
            get(sock, "/health")
            received(sock, b"ok")
            session = sock.session
    if execution == "reuseport":  # where the kernel spreads them by chance
        assert all(counts.accepts for counts in server.stats()[0])


@pytest.mark.parametrize(
    ("protocol", "execution", "why"),
    [
        ("http1", "prefork", "taken once for each ticket"),
        ("http1", "reuseport", "taken once for each ticket"),
        ("http1", "process-per-connection", "taken once for each ticket"),
        ("http2", "single", "early data is not taken for http2"),
        ("tcp", "single", "early data is not taken for tcp"),
    ],
)
def test_where_it_makes_no_sense(serve: Serve, protocol: str, execution: str, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        serve(protocol, execution, tls="1.3", early_data=True)
