"""The client of HTTP/2 that begins as HTTP/1.1, against h2 and against our server."""

import socket
from collections.abc import Callable

import h2.config
import h2.connection
import pytest
from client_driver import DEADLINE_S, drive
from h2.settings import SettingCodes
from http2_answering import ECHO, HEALTH, Server, said, talk

from bench.contract import Exchange, Opcode, exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.http1_heads import MAX_HEAD_BYTES, read_head
from bench.wire.http2_frames import pack_id
from clients.http2 import FIRST_IN_FLIGHT
from clients.http2_end import OPENING
from clients.http2_upgrade import Http2UpgradeClient

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"


def new_client(wanted: Exchange = HEALTH) -> Http2UpgradeClient:
    client = Http2UpgradeClient(wanted, "host:80", True)
    client.open()
    return client


def upgraded(head: bytes) -> Server:
    """h2 as the server of a request that asked for the change."""
    _, fields = read_head(head)
    server = Server()
    server.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.h2.initiate_upgrade_connection(fields[b"http2-settings"])
    return server


def test_the_first_exchange_asks_itself() -> None:
    client = new_client()
    assert (client.max_in_flight, said(client)) == (1, b"")
    (first,), pieces = client.request(1)
    head = b"".join(pieces)
    line, fields = read_head(head)
    assert line == b"GET /health HTTP/1.1"
    assert fields == {
        b"host": b"host:80",
        b"connection": b"Upgrade, HTTP2-Settings",
        b"upgrade": b"h2c",
        b"http2-settings": b"AAIAAAAAAAR_____",
    }
    server = upgraded(head)
    assert server.h2.remote_settings[SettingCodes.INITIAL_WINDOW_SIZE] == 2**31 - 1
    server.head(1, content_length="2")
    server.body(1, HEALTH.answer)
    # All at once, as it comes in one round trip.
    assert client.feed(SWITCH + server.send()) == [first] == [pack_id(1)]
    assert client.outgoing[0] == OPENING
    assert client.max_in_flight == 100
    talk(client, server)
    ids, pieces = client.request(2)
    talk(client, server, *pieces)
    assert ids == [pack_id(3), pack_id(5)]
    for stream_id in (3, 5):
        server.head(stream_id)
        server.body(stream_id, HEALTH.answer)
    assert talk(client, server) == ids
    assert not client.failures


def test_a_wrong_answer_on_the_first_stream_counts() -> None:
    client = new_client()
    (first,), pieces = client.request(1)
    server = upgraded(b"".join(pieces))
    server.head(1)
    server.body(1, b"no")
    assert not client.feed(SWITCH + server.send())
    assert client.failures == [(first, "content")]


def test_exchanges_with_a_body_wait_for_the_change() -> None:
    client = new_client(ECHO)
    assert client.max_in_flight == 0
    head = said(client)
    assert head.startswith(b"OPTIONS * HTTP/1.1\r\n")
    server = upgraded(head)
    server.head(1, status=404)
    server.body(1, b"none")
    assert not client.feed(SWITCH + server.send())
    assert client.max_in_flight == 100
    assert not talk(client, server)
    ids, pieces = client.request(1)
    talk(client, server, *pieces)
    assert server.bodies[3] == ECHO.body
    server.head(3)
    server.body(3, ECHO.answer)
    assert talk(client, server) == ids == [pack_id(3)]
    assert not client.failures


def test_the_change_cut_anywhere_and_behind_interim_answers() -> None:
    client = new_client()
    (first,), pieces = client.request(1)
    server = upgraded(b"".join(pieces))
    server.head(1)
    server.body(1, HEALTH.answer)
    done = []
    for byte in b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH + server.send():
        done += client.feed(bytes([byte]))
    assert done == [first]


def test_before_the_settings_of_the_server_it_takes_what_any_server_takes() -> None:
    client = new_client(ECHO)
    client.feed(SWITCH)
    assert client.max_in_flight == FIRST_IN_FLIGHT


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 0),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", 0),
        (b"HTTP/1.1 101\r\nno field\r\n\r\n", 0),
        (b"SSH-2.0-x\r\n\r\n", 0),
        (b"x" * (MAX_HEAD_BYTES + 1), 0),
    ],
)
def test_a_server_that_does_not_change(answer: bytes, code: int) -> None:
    client = new_client()
    client.request(1)
    with pytest.raises(ProtocolError) as error:
        client.feed(answer)
    assert error.value.code == code
    assert not client.outgoing


def test_before_the_change_nothing_can_be_given_up() -> None:
    client = new_client()
    (first,), _ = client.request(1)
    assert not client.abandon(first)
    client.feed(SWITCH)
    said(client)
    assert client.abandon(first)
    assert client.outgoing


@pytest.mark.parametrize(
    ("wanted", "in_flight"), [(HEALTH, 1), (HEALTH, 16), (exchange(Opcode.BYTES, 100_000), 4), (ECHO, 16)]
)
def test_our_server(serve: Callable[..., ServerProcess], wanted: Exchange, in_flight: int) -> None:
    server = serve("http2-upgrade")
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), DEADLINE_S) as sock:
        outcome = drive(Http2UpgradeClient(wanted, server.address, True), sock, 200, in_flight)
    assert len(set(outcome.completed)) == 200, outcome
    assert not outcome.failures
