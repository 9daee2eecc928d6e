"""The engine over TLS: against servers of ours, and against those that it has to refuse, each for its reason."""

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.certificates import Certificates, certificates, make_certificates
from bench.contract import Opcode, Security
from bench.errors import TargetError
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess

S = 1_000_000_000
DEADLINE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def security(tls: str = "1.3", **changes: Any) -> Security:
    values: dict[str, Any] = {
        "tls": tls,
        "authorities": str(certificates().authority),
        "server_name": "127.0.0.1",
        "insecure": False,
        **changes,
    }
    return Security(**values)


def spec(
    port: int, secured: Security | None, protocol: str = "http1", load: str = "closed:2", **changes: Any
) -> LoadSpec:
    values: dict[str, Any] = {
        "protocol": protocol,
        "client": registry.client(protocol),
        "host": "127.0.0.1",
        "port": port,
        "request": Request(Opcode.HEALTH),
        "load": load,
        "connections": load.partition(":")[2] if load.startswith("closed") else "8",
        "warmup_ns": S // 20,
        "duration_ns": S // 4,
        "timeout_ns": 5 * S,
        "queue_limit": 10_000,
        "intervals": 1,
        "seed": 1,
        "security": secured,
        **changes,
    }
    return LoadSpec(**values)


def run(asked: LoadSpec) -> dict[str, Any]:
    with LoadProcesses(1, lambda progress: None) as load:
        load.connect([asked])
        load.release()
        return merge(load.results())


def refused(asked: LoadSpec) -> str:
    """Why there is no load, in one line."""
    with LoadProcesses(1, lambda progress: None) as load, pytest.raises(TargetError) as raised:
        load.connect([asked])
    assert "\n" not in str(raised.value)
    return str(raised.value)


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server whose every connection is handled by `answer`, one after the other; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                sock.settimeout(DEADLINE_S)
                with sock, contextlib.suppress(OSError):
                    answer(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answering(
    made: Certificates, names: list[str | None] | None = None, alpn: Sequence[str] = (), version: str = ""
) -> Callable[[socket.socket], None]:
    """Answers HTTP/1.1 requests over Python's own ssl, until the client ends; notes the names that clients send."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.private_key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if names is not None:
        context.sni_callback = lambda _sock, name, _context: names.append(name)

    def answer(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secured:
            while secured.recv(65536):
                secured.sendall(OK)

    return answer


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize(("protocol", "load"), [("http1", "closed:4"), ("http2", "closed:2x8"), ("tcp", "closed:2x4")])
def test_closed_loads(serve: Callable[..., ServerProcess], protocol: str, load: str, tls: str) -> None:
    server = serve(protocol, tls=tls)
    result = run(spec(server.port, security(tls), protocol, load, request=Request(Opcode.ECHO, 64)))
    assert result["errors"] == {}
    assert result["completed"] > 50
    assert server.stats()[0][0].requests >= result["completed"]


def test_an_open_load(serve: Callable[..., ServerProcess]) -> None:
    server = serve(tls="1.3")
    result = run(spec(server.port, security(), load="open:400/s"))
    assert (result["completed"], result["errors"], result["dropped"]) == (100, {}, 0)


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_bodies_that_no_socket_takes_at_once(serve: Callable[..., ServerProcess], protocol: str) -> None:
    server = serve(protocol, tls="1.3")
    result = run(spec(server.port, security(), protocol, request=Request(Opcode.ECHO, 5_000_000)))
    assert result["errors"] == {}
    assert result["completed"] > 0


def test_connections_that_end_are_replaced(serve: Callable[..., ServerProcess]) -> None:
    answered = 0

    def answer(sock: socket.socket) -> None:
        nonlocal answered
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates().certificate, certificates().private_key)
        secured = context.wrap_socket(sock, server_side=True)
        for _ in range(3):
            if secured.recv(65536):
                secured.sendall(OK)
                answered += 1
        secured.close()  # without close_notify

    with listening(answer) as port:
        result = run(spec(port, security(), load="closed:1"))
    assert set(result["errors"]) <= {"closed"}
    assert result["completed"] > 3
    assert answered > 3


class TestCertificates:
    def test_for_another_host(self, tmp_path: Path) -> None:
        made = make_certificates(tmp_path, names=("example.org",), addresses=("127.0.0.2",))
        with listening(answering(made)) as port:
            reason = refused(spec(port, security(authorities=str(made.authority))))
            assert "certificate is not good: IP address mismatch" in reason
            assert "--insecure" in reason
            reason = refused(spec(port, security(authorities=str(made.authority), server_name="localhost")))
            assert "certificate is not good: Hostname mismatch" in reason

    @pytest.mark.parametrize(("days", "word"), [(-30, "expired"), (30, "not yet valid")])
    def test_out_of_date(self, tmp_path: Path, days: int, word: str) -> None:
        made = make_certificates(
            tmp_path, not_before=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        )
        with listening(answering(made)) as port:
            assert word in refused(spec(port, security(authorities=str(made.authority))))

    def test_of_an_unknown_authority(self, tmp_path: Path) -> None:
        made = make_certificates(tmp_path)
        with listening(answering(made)) as port:
            for authorities in (str(certificates().authority), ""):
                reason = refused(spec(port, security(authorities=authorities)))
                assert "certificate is not good" in reason
                assert "self-signed" in reason or "unable to get local issuer" in reason

    def test_authorities_that_are_none(self, tmp_path: Path) -> None:
        for name, content in {"empty.pem": "", "key.pem": certificates().private_key.read_text()}.items():
            (tmp_path / name).write_text(content)
        with listening(answering(certificates())) as port:
            for name in ("absent.pem", "empty.pem", "key.pem"):
                reason = refused(spec(port, security(authorities=str(tmp_path / name))))
                assert f"no certificates of authorities in {tmp_path / name}: " in reason

    def test_any_will_do_if_asked_for(self, tmp_path: Path) -> None:
        made = make_certificates(
            tmp_path,
            names=("example.org",),
            not_before=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30),
        )
        with listening(answering(made)) as port:
            result = run(spec(port, security(authorities="", insecure=True), load="closed:1"))
        assert result["errors"] == {}
        assert result["completed"] > 0


@pytest.mark.parametrize(("name", "sent"), [("localhost", "localhost"), ("127.0.0.1", None)])
def test_a_name_is_sent_and_an_address_is_not(name: str, sent: str | None) -> None:
    """RFC 6066, section 3."""
    names: list[str | None] = []
    with listening(answering(certificates(), names)) as port:
        run(spec(port, security(server_name=name), load="closed:1"))
    assert set(names) == {sent}


def test_a_name_that_cannot_be_one() -> None:
    with listening(answering(certificates())) as port:
        assert "'.example' cannot be the name in a certificate" in refused(spec(port, security(server_name=".example")))


class TestOtherServers:
    def test_one_that_does_not_speak_tls(self, serve: Callable[..., ServerProcess]) -> None:
        server = serve(tls="off")
        assert refused(spec(server.port, security())).endswith("it answers with something that is not TLS")

    def test_one_that_closes_at_once(self) -> None:
        with listening(lambda sock: sock.recv(65536)) as port:
            assert "closed the connection during the handshake" in refused(spec(port, security()))

    def test_one_that_resets(self) -> None:
        def reset(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        with listening(reset) as port:
            assert "Connection reset by peer" in refused(spec(port, security()))

    def test_one_that_says_nothing(self) -> None:
        done = threading.Event()
        with listening(lambda _sock: done.wait(DEADLINE_S)) as port:
            assert "no answer within 5 s" in refused(spec(port, security()))
            done.set()

    @pytest.mark.parametrize(("ours", "theirs"), [("1.3", "TLSv1_2"), ("1.2", "TLSv1_3")])
    def test_one_of_another_version(self, ours: str, theirs: str) -> None:
        with listening(answering(certificates(), version=theirs)) as port:
            assert refused(spec(port, security(ours))).endswith("it does not speak this version of TLS")

    def test_one_without_http2(self, serve: Callable[..., ServerProcess]) -> None:
        reason = refused(spec(serve(tls="1.3").port, security(), "http2"))  # which says so by an alert
        assert reason.endswith("it does not speak this protocol (ALPN)")
        for alpn in ((), ("http/1.1",)):  # and these go on
            with listening(answering(certificates(), alpn=alpn)) as port:
                assert "does not speak h2 (ALPN)" in refused(spec(port, security(), "http2"))

    def test_one_that_knows_nothing_of_alpn_speaks_http1(self) -> None:
        with listening(answering(certificates())) as port:
            assert run(spec(port, security(), load="closed:1"))["errors"] == {}

    def test_a_plain_client_at_a_port_of_tls(self, serve: Callable[..., ServerProcess]) -> None:
        assert refused(spec(serve(tls="1.3").port, None))
