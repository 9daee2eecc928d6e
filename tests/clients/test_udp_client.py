"""The client of raw UDP: datagrams that are lost, late, doubled, reordered and wrong."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from client_driver import drive

from bench.contract import Exchange, Opcode, exchange
from bench.errors import ProtocolError, UnsupportedError
from bench.serverprocess import ServerProcess
from bench.wire.frames import MAX_DATAGRAM_PAYLOAD_BYTES, MORE, encode_frame
from clients.udp import UdpClient

ECHO = exchange(Opcode.ECHO, 64)


def new_client(wanted: Exchange = ECHO, check_content: bool = True) -> UdpClient:
    return UdpClient(wanted, "127.0.0.1:80", check_content)


def ask(client: UdpClient, count: int) -> list[bytes]:
    ids: Any = client.request(count)[0]
    return list(ids)


def good(frame_id: bytes) -> bytes:
    return encode_frame(200, frame_id, ECHO.answer)


def test_each_request_is_a_datagram() -> None:
    client = new_client()
    ids = ask(client, 1) + ask(client, 3)
    assert len(set(ids)) == 4
    wanted = exchange(Opcode.BYTES, 9, b=2)
    frame_ids: Any
    frame_ids, pieces = new_client(wanted).request(3)
    assert pieces == [encode_frame(Opcode.BYTES, frame_id, b"", 9, 2) for frame_id in frame_ids]


def test_answers_come_in_any_order() -> None:
    client = new_client()
    first, second, third = ask(client, 3)
    assert [list(client.feed(good(frame_id))) for frame_id in (third, first, second)] == [[third], [first], [second]]


def test_late_doubled_and_unknown_answers_are_ignored() -> None:
    client = new_client()
    lost, doubled = ask(client, 2)
    assert client.abandon(lost)
    assert not client.feed(good(lost))
    assert list(client.feed(good(doubled))) == [doubled]
    assert not client.feed(good(doubled))
    assert not client.feed(good(b"none"))
    assert not client.feed(encode_frame(404, b"none", b""))
    assert not client.failures


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, ECHO.answer, "status"),
        (413, b"why", "status"),
        (200, b"", "content"),
        (200, ECHO.answer[::-1], "content"),
        (200, ECHO.answer + b"x", "content"),
    ],
)
def test_a_bad_answer_has_failed(status: int, body: bytes, kind: str) -> None:
    client = new_client()
    (frame_id,) = ask(client, 1)
    assert not client.feed(encode_frame(status, frame_id, body))
    assert client.failures == [(frame_id, kind)]
    assert not client.feed(good(frame_id))  # the exchange is over


@pytest.mark.parametrize(
    "make",
    [
        lambda frame_id: b"",
        lambda frame_id: b"garbage",
        lambda frame_id: good(frame_id)[:-1],
        lambda frame_id: good(frame_id) + b"x",
        lambda frame_id: good(frame_id) * 2,
        lambda frame_id: encode_frame(200, frame_id, ECHO.answer, flags=MORE),
        lambda frame_id: encode_frame(Opcode.ECHO, frame_id, ECHO.body),
    ],
    ids=["empty", "garbage", "cut off", "too long", "two in one", "more", "a request"],
)
def test_what_is_no_answer_is_an_error_of_the_protocol(make: Callable[[bytes], bytes]) -> None:
    client = new_client()
    (frame_id,) = ask(client, 1)
    with pytest.raises(ProtocolError):
        client.feed(make(frame_id))


def test_no_answer_with_a_flipped_byte_counts_unless_it_says_the_same() -> None:
    for at in range(len(good(b"abcd"))):
        for bit in (0x01, 0x10, 0x80):
            client = new_client()
            (frame_id,) = ask(client, 1)
            flipped = bytearray(good(frame_id))
            flipped[at] ^= bit
            try:
                completed = client.feed(bytes(flipped))
            except ProtocolError:
                completed = []
            assert (frame_id in completed) == (8 <= at < 16), (at, bit)  # the arguments mean nothing in an answer


def test_without_content_check_any_body_with_a_good_status_counts() -> None:
    client = new_client(check_content=False)
    first, second = ask(client, 2)
    assert list(client.feed(encode_frame(200, first, b"something else"))) == [first]
    assert not client.feed(encode_frame(500, second, ECHO.answer))
    assert client.failures == [(second, "status")]


@pytest.mark.parametrize("opcode", [Opcode.ECHO, Opcode.BYTES])
def test_what_does_not_fit_into_a_datagram_is_unsupported(opcode: Opcode) -> None:
    new_client(exchange(opcode, MAX_DATAGRAM_PAYLOAD_BYTES))
    with pytest.raises(UnsupportedError, match="65487"):
        new_client(exchange(opcode, MAX_DATAGRAM_PAYLOAD_BYTES + 1))


# Servers

Serve = Callable[..., ServerProcess]


@pytest.mark.parametrize(
    "wanted",
    [
        exchange(Opcode.HEALTH),
        exchange(Opcode.ECHO),
        ECHO,
        exchange(Opcode.ECHO, MAX_DATAGRAM_PAYLOAD_BYTES),
        exchange(Opcode.BYTES, 1000, b=7),
        exchange(Opcode.UPLOAD, 1000),
        exchange(Opcode.WORK, a=10, b=1),
    ],
    ids=lambda wanted: f"{wanted.path} {len(wanted.body)}",
)
def test_exchanges_with_the_lean_server(serve: Serve, wanted: Exchange) -> None:
    server = serve(protocol="udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server.host, server.port))
        # Over loopback, datagrams are lost only where a buffer is full: so few never fill one.
        outcome = drive(UdpClient(wanted, server.address, True), sock, total=100, in_flight=2)
    assert len(set(outcome.completed)) == 100
    assert not outcome.failures


def test_a_server_that_refuses_gives_failures(serve: Serve) -> None:
    server = serve(protocol="udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server.host, server.port))
        wanted = Exchange("GET", "", Opcode.BYTES, MAX_DATAGRAM_PAYLOAD_BYTES + 1, 0, b"", b"")
        outcome = drive(UdpClient(wanted, server.address, True), sock, total=3)
    assert [kind for _, kind in outcome.failures] == ["status"] * 3
