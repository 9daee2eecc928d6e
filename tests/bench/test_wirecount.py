"""Counted bytes: the relay passes everything on and counts what sockets carry, as the kernel does."""

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from bench import wirecount
from bench.errors import ServerFailedError
from bench.protocols import PROTOCOLS
from bench.serverprocess import ServerProcess
from bench.wirecount import Counted, Relay, WireBytes, count, describe

_BYTES_ACKED, _BYTES_RECEIVED = 120, 128
"""Where they are in struct tcp_info of Linux, as 64-bit numbers."""


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(65536)
        assert piece
        data += piece
    return data


def test_the_relay_counts_what_the_kernel_counts(serve: Callable[..., ServerProcess]) -> None:
    server = serve("http1")
    body = b"x" * 100_000
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        Relay(server.host, server.port, is_stream=True) as relay,
        socket.create_connection((relay.host, relay.port), 5) as sock,
    ):
        for _ in range(2):
            sock.sendall(request + body)
            answer = b""
            while body not in answer:
                answer += sock.recv(65536)
        counted = relay.settle()
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    (acked,) = struct.unpack_from("Q", info, _BYTES_ACKED)
    (received,) = struct.unpack_from("Q", info, _BYTES_RECEIVED)
    assert counted.sent_bytes == 2 * (len(request) + len(body))
    assert counted.sent_bytes == acked - 1  # the SYN counts as one
    assert counted.received_bytes == received


def test_datagrams_go_back_to_whom_they_are_for() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (server, one, other):
            sock.settimeout(5)
            sock.bind(("127.0.0.1", 0))
        with Relay("127.0.0.1", server.getsockname()[1], is_stream=False) as relay:
            clients = {}
            for sock, name in ((one, b"one"), (other, b"other")):
                sock.sendto(name, (relay.host, relay.port))
                data, address = server.recvfrom(100)
                clients[data] = address
            assert clients[b"one"] != clients[b"other"]
            server.sendto(b"for other", clients[b"other"])
            server.sendto(b"for one", clients[b"one"])
            assert (one.recv(100), other.recv(100)) == (b"for one", b"for other")
            assert relay.settle() == WireBytes(8, 16)


def test_the_end_of_a_connection_is_passed_on_both_ways() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Relay("127.0.0.1", server.getsockname()[1], is_stream=True) as relay,
        socket.create_connection((relay.host, relay.port), 5) as client,
    ):
        connection, _ = server.accept()
        connection.settimeout(5)
        client.close()
        assert connection.recv(1) == b""
        connection.close()
        with socket.create_connection((relay.host, relay.port), 5) as second:
            server.accept()[0].close()
            assert second.recv(1) == b""


def test_leaving_the_relay_leaves_nothing() -> None:
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with Relay("127.0.0.1", server.getsockname()[1], is_stream=True) as relay:
            client = socket.create_connection((relay.host, relay.port), 5)
            connection, _ = server.accept()  # so the relay has both ends
        with client, connection:
            assert client.recv(1) == b""
            assert connection.recv(1) == b""
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("protocol", "tls", "least"),
    [
        ("udp", "off", 84),  # a header of 20 bytes and the body
        ("websocket", "off", 64 + 2),  # a frame of the server (RFC 6455, section 5.2)
        ("http2", "off", 64 + 9 + 9),  # HEADERS and DATA (RFC 9113, section 4.1)
        ("sse", "off", 64),
        ("http3", "1.3", 64),
    ],
)
def test_a_later_exchange_has_no_handshake(protocol: str, tls: str, least: int) -> None:
    counted = count(protocol, tls)
    assert counted.why_not is None
    assert counted.first is not None
    assert counted.later is not None
    assert counted.exchanges > 0
    assert least <= counted.later.received_bytes <= counted.first.received_bytes
    assert least <= counted.later.sent_bytes <= counted.first.sent_bytes
    if protocol == "udp":
        assert counted.later == WireBytes(84, 84)
    if protocol == "http3":
        # A client's first datagram is at least 1,200 bytes (RFC 9000, section 14.1).
        assert counted.first.sent_bytes >= 1200


def test_what_cannot_be_counted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Counted:
        raise ServerFailedError("no such luck")

    monkeypatch.setattr(wirecount, "_count_exchanges", refuse)
    assert count("tcp", "off") == Counted("off", None, None, 0, "no such luck")
    described = describe([("tcp", "off"), ("udp", "off"), ("tcp", "1.3"), ("tcp", "off")])
    assert list(described) == ["tcp", "udp"]
    assert [each["tls"] for each in described["tcp"]["counted"]] == ["off", "1.3"]
    assert described["udp"]["declared"]["state"] == PROTOCOLS["udp"].properties.state
    assert describe([]) == {}
