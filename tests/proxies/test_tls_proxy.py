"""The proxy of layer 7 with TLS on either side: it checks the upstream's certificate, and has one of its own."""

import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.certificates import Certificates, certificates, make_certificates
from bench.serverprocess import ServerProcess
from tests.proxies.conftest import TIMEOUT_S, Proxy, read_all

Start = Callable[..., Proxy]
Serve = Callable[..., ServerProcess]


def tls(made: Certificates, **spec: str) -> dict[str, str]:
    return {"tls": "1.3", "certificate": str(made.certificate), "private_key": str(made.private_key), **spec}


@pytest.mark.parametrize(("http", "version"), [("1.1", b"HTTP/1.1 200"), ("2", b"HTTP/2 200")])
def test_curl_checks_the_proxy_and_the_proxy_the_upstream(
    start_proxy: Start, serve: Serve, need: Callable[[str], str], tmp_path: Path, http: str, version: bytes
) -> None:
    made = certificates()
    server = serve("http1", tls="1.2")
    own = make_certificates(tmp_path)
    authority = str(made.authority)
    proxy = start_proxy(7, server.port, **tls(own, http=http, upstream_tls="1.2", authorities=authority))
    command = [need("curl"), "-sS", "-i", "-m", "20", "--http2", "-d", "hello", f"https://127.0.0.1:{proxy.port}/echo"]
    done = subprocess.run([*command, "--cacert", str(own.authority)], capture_output=True, check=True)
    assert done.stdout.startswith(version)
    assert done.stdout.endswith(b"hello")
    refused = subprocess.run([*command, "--cacert", authority], capture_output=True, check=False)
    assert refused.returncode == 60  # its certificate is of another authority


def test_an_upstream_whose_certificate_is_not_trusted_gets_no_request(
    start_proxy: Start, serve: Serve, tmp_path: Path
) -> None:
    server = serve("http1", tls="1.3")
    other = make_certificates(tmp_path)
    proxy = start_proxy(7, server.port, upstream_tls="1.3", authorities=str(other.authority))
    with proxy.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 503 ")
    assert server.stats()[0][0].requests == 0
    assert proxy.count("upstream_errors") == 1


def test_a_client_without_tls_is_let_go(start_proxy: Start, serve: Serve) -> None:
    proxy = start_proxy(7, serve("http1").port, **tls(certificates()))
    with proxy.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"200" not in read_all(client)
    context = ssl.create_default_context(cafile=str(certificates().authority))
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert read_all(client).endswith(b"ok")


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"tls": "1.1"}, "off or 1.2 or 1.3"),
        ({"tls": "1.3", "certificate": "/nowhere", "private_key": "/nowhere"}, "cannot be used"),
        ({"upstream_tls": "1.3", "authorities": "/nowhere"}, "cannot be used"),
        ({"upstream_tls": "1.3", "health_path": "/health"}, "without TLS"),
        ({"http": "4"}, "HTTP 1.1 or 2 or 3"),
        ({"http": "3"}, "TLS 1.3"),
        ({"upstream_http": "3", "upstream_tls": "1.2"}, "TLS 1.3"),
        ({"http": "3", "tls": "1.3", "certificate": "/nowhere", "private_key": "/nowhere"}, "cannot be used"),
        ({"upstream_http": "3", "upstream_tls": "1.3", "authorities": "/nowhere"}, "cannot be used"),
        ({"upstream_http": "3", "upstream_tls": "1.3", "health_interval_s": 1.0}, "leave them out"),
    ],
)
def test_tls_that_cannot_be_had_is_refused(spec: dict[str, str], word: str) -> None:
    from bench.childprocess import ChildProcess

    child = ChildProcess("servers.proxies")
    child.send({"layer": 7, "upstreams": [("127.0.0.1", 1)], **spec})
    event = child.next_event(TIMEOUT_S)
    child.kill()
    assert event is not None
    assert event["event"] == "error"
    assert word in event["message"]
