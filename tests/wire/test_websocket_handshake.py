"""The opening handshake, against both sides of the websockets library."""

import base64

import pytest
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from bench.errors import ProtocolError
from bench.wire.websocket_handshake import (
    Opening,
    RefusalError,
    encode_acceptance,
    encode_opening,
    read_acceptance,
    read_opening,
)

NONCE = base64.b64decode(b"dGhlIHNhbXBsZSBub25jZQ==")  # RFC 6455, section 1.3
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

FIELDS = {
    "host": "x",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY.decode(),
}


def head(line: str, fields: dict[str, str], **changes: str | None) -> bytes:
    changed = {**fields, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in changed.items() if value is not None]
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


def asked(line: str = "GET /echo HTTP/1.1", **changes: str | None) -> bytes:
    return head(line, FIELDS, **changes)


# Server


def test_a_client_of_websockets_is_understood() -> None:
    client = ClientProtocol(parse_uri("ws://127.0.0.1:80/echo?x=1"))
    request = client.connect()
    opening = read_opening(request.serialize())
    assert opening == Opening(b"/echo?x=1", request.headers["Sec-WebSocket-Key"].encode(), b"")
    client.send_request(request)
    client.receive_data(encode_acceptance(opening.key))
    assert client.handshake_exc is None
    (response,) = client.events_received()
    assert isinstance(response, Response)
    assert response.status_code == 101


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": "WebSocket"},
        {"upgrade": "h2c, websocket"},
        {"connection": "keep-alive, upgrade"},
        {"sec_websocket_key": f"  {KEY.decode()}\t "},
        {"content_length": "0"},
        {"host": ""},
    ],
)
def test_other_spellings_are_understood(changes: dict[str, str]) -> None:
    assert read_opening(asked(**changes)) == Opening(b"/echo", KEY, b"")


def test_a_target_may_be_absolute_and_extensions_may_be_many_fields() -> None:
    opening = read_opening(
        asked("GET HTTP://x:1/echo?a HTTP/1.1", sec_websocket_extensions="a\r\nsec-webSocket-extensions: b")
    )
    assert opening == Opening(b"/echo?a", KEY, b"a, b")


@pytest.mark.parametrize(
    ("status", "line", "changes"),
    [
        (400, "GET /echo HTTP/1.1", {"connection": None}),
        (400, "GET /echo HTTP/1.1", {"connection": "close"}),
        (400, "GET /echo HTTP/1.1", {"host": None}),
        (400, "GET /echo HTTP/1.1", {"content_length": "1"}),
        (400, "GET /echo HTTP/1.1", {"transfer_encoding": "chunked"}),
        (426, "GET /echo HTTP/1.1", {"sec_websocket_version": None}),
        (426, "GET /echo HTTP/1.1", {"sec_websocket_version": "8"}),
        (426, "GET /echo HTTP/1.1", {"sec_websocket_version": "13, 8"}),
        (400, "GET /echo HTTP/1.1", {"sec_websocket_key": None}),
        (400, "GET /echo HTTP/1.1", {"sec_websocket_key": "short"}),
        (400, "GET /echo HTTP/1.1", {"sec_websocket_key": "!" + KEY.decode()}),
        (400, "GET /echo HTTP/1.1", {"sec_websocket_key": f"{KEY.decode()}, {KEY.decode()}"}),
        (400, "GET /echo HTTP/1.1", {"sec_websocket_key": base64.b64encode(bytes(15)).decode()}),
    ],
)
def test_who_asks_in_the_wrong_way_is_refused(status: int, line: str, changes: dict[str, str | None]) -> None:
    with pytest.raises(RefusalError) as refusal:
        read_opening(asked(line, **changes))
    assert refusal.value.status == status
    client = ClientProtocol(parse_uri("ws://x/echo"))
    client.send_request(client.connect())
    client.receive_data(refusal.value.encode())
    (response,) = client.events_received()
    assert isinstance(response, Response)
    assert response.status_code == status
    assert (response.body or b"").decode() == refusal.value.message + "\n"
    assert response.headers.get("sec-websocket-version") == ("13" if status == 426 else None)


@pytest.mark.parametrize(
    "request_head",
    [
        asked("POST /echo HTTP/1.1"),
        asked("GET /echo HTTP/1.0"),
        asked("GET /echo"),
        asked("GET /e cho HTTP/1.1"),
        asked(upgrade=None),
        asked(upgrade="h2c"),
        asked(host="x\r\n folded"),
        asked(host="x\r\nno field"),
        asked(host="x\r\nna me: x"),
        asked(host="x\ny: z"),
        asked(host="x\0"),
        b"\r\n\r\n",
    ],
)
def test_what_does_not_ask_for_websocket_is_left_to_http(request_head: bytes) -> None:
    assert read_opening(request_head) is None


# Client


def test_a_server_of_websockets_is_understood() -> None:
    server = ServerProtocol()
    server.receive_data(encode_opening("/echo?x=1", "127.0.0.1:80", NONCE))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    assert (request.path, request.headers["host"]) == ("/echo?x=1", "127.0.0.1:80")
    response = server.accept(request)
    assert response.status_code == 101
    assert response.headers["Sec-WebSocket-Accept"] == ACCEPT.decode()
    assert read_acceptance(response.serialize(), NONCE) == b""


ACCEPTED = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": ACCEPT.decode()}


def answered(line: str = "HTTP/1.1 101 Switching Protocols", **changes: str | None) -> bytes:
    return head(line, ACCEPTED, **changes)


def test_extensions_that_the_server_agrees_to_are_told() -> None:
    assert read_acceptance(answered(sec_websocket_extensions="x-y; z"), NONCE) == b"x-y; z"
    assert read_acceptance(encode_acceptance(KEY, b"x-y; z"), NONCE) == b"x-y; z"
    assert read_acceptance(answered("HTTP/1.1 101", connection="a, UPGRADE"), NONCE) == b""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answered("HTTP/1.1 404 Not Found"), 404),
        (answered("HTTP/1.1 200 OK"), 200),
        (answered("HTTP/1.0 101 Switching Protocols"), 0),
        (answered("220 mail.example ESMTP"), 0),
        (answered(upgrade=None), 0),
        (answered(upgrade="h2c"), 0),
        (answered(connection=None), 0),
        (answered(sec_websocket_accept=None), 0),
        (answered(sec_websocket_accept=base64.b64encode(bytes(20)).decode()), 0),
        (answered(sec_websocket_protocol="chat"), 0),
        (answered(upgrade="websocket\r\nno field"), 0),
    ],
)
def test_an_answer_that_does_not_accept_is_an_error(answer: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as error:
        read_acceptance(answer, NONCE)
    assert error.value.code == code


def test_headers_of_a_real_answer_are_not_minded() -> None:
    fields = Headers(**ACCEPTED, Date="Mon, 01 Jan 2024 00:00:00 GMT", Server="x")
    assert read_acceptance(Response(101, "Switching Protocols", fields).serialize(), NONCE) == b""


# Subprotocols


def test_a_subprotocol_is_agreed_on_with_websockets() -> None:
    server = ServerProtocol(subprotocols=[Subprotocol("wirebench")])
    server.receive_data(encode_opening("/", "x", NONCE, subprotocol="wirebench"))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    assert read_acceptance(server.accept(request).serialize(), NONCE, "wirebench") == b""
    client = ClientProtocol(parse_uri("ws://x/"), subprotocols=[Subprotocol("other"), Subprotocol("wirebench")])
    request = client.connect()
    opening = read_opening(request.serialize())
    assert opening is not None
    assert opening.subprotocols == [b"other", b"wirebench"]
    client.send_request(request)
    client.receive_data(encode_acceptance(opening.key, subprotocol="wirebench"))
    assert client.subprotocol == "wirebench"


def test_a_server_that_does_not_speak_the_subprotocol_is_an_error() -> None:
    for acceptance in (encode_acceptance(KEY), encode_acceptance(KEY, subprotocol="other")):
        with pytest.raises(ProtocolError, match="does not speak the subprotocol wirebench"):
            read_acceptance(acceptance, NONCE, "wirebench")
    with pytest.raises(ProtocolError, match="none was offered"):
        read_acceptance(encode_acceptance(KEY, subprotocol="other"), NONCE)
