"""The server of HTTP/2 that begins as HTTP/1.1: what asks for the change rightly gets it, all else gets HTTP/1.1."""

import base64
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h2.events
import hyperframe.frame as hf
import pytest
from http2_harness import HELLO, Client, Server, parse, talk

from bench.contract import pattern
from bench.serverprocess import ServerProcess
from bench.wire.http2_frames import HEAD_BYTES, Setting, encode_settings
from servers.counters import ACCEPTS, REQUESTS
from servers.http2_upgrade import Http2UpgradeConnection

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
SETTINGS = b"AAMAAABkAAQAAP__"  # RFC 7540's way to write 100 streams and a window of 65,535 bytes
FIELDS = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: %b\r\n"
ASKING = FIELDS % SETTINGS


def settings_of(**settings: int) -> bytes:
    payload = encode_settings({Setting[name]: value for name, value in settings.items()})[HEAD_BYTES:]
    return base64.urlsafe_b64encode(payload)


def get(fields: bytes = ASKING, target: bytes = b"/bytes/5", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (method, target, fields)


class UpgradeServer(Server):
    """A connection without a socket. What runs requests answers the connection that they came from."""

    def __init__(self, tls: str = "off", draining: bool = False) -> None:
        super().__init__()
        self.connection.connection_lost(None)
        self.pipe.take()
        self.worker.spec = replace(self.worker.spec, tls=tls)
        self.worker.run = self._answer
        self.worker.draining = draining
        self.connection: Any = Http2UpgradeConnection(self.worker)
        self.pipe.connection = self.connection
        self.slot.values[ACCEPTS] = 0
        self.connection.connection_made(self.pipe)

    def _answer(self, connection: Any, token: Any, route: Any, body: bytes) -> None:
        connection.answer(token, route, route.execute(body))

    def say(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.pipe.take()


def switched(said: bytes) -> list[Any]:
    assert said.startswith(SWITCHED)
    return parse(said[len(SWITCHED) :])


def test_the_request_is_stream_1_and_answered_before_the_preface_comes() -> None:
    server = UpgradeServer()
    frames = switched(server.say(get()))
    kinds = [hf.SettingsFrame, hf.WindowUpdateFrame, hf.HeadersFrame, hf.DataFrame]
    assert [type(frame) for frame in frames] == kinds  # and no SETTINGS acknowledged: the 101 does that
    assert [frame.stream_id for frame in frames[2:]] == [1, 1]
    assert frames[3].data == pattern(5)
    assert frames[3].flags == {"END_STREAM"}
    assert [type(frame) for frame in parse(server.say(HELLO))] == [hf.SettingsFrame]
    assert [server.slot.values[what] for what in (ACCEPTS, REQUESTS)] == [1, 1]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_h2_as_a_client(piece_bytes: int) -> None:
    def cut(data: bytes) -> list[bytes]:
        return [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]

    server, client = UpgradeServer(), Client()
    client.h2 = type(client.h2)(client.h2.config)
    asking = FIELDS % client.h2.initiate_upgrade_connection()
    said = server.say(*cut(get(asking, b"/bytes/70000")))
    assert said.startswith(SWITCHED)
    client.receive(said[len(SWITCHED) :])
    talk(client, server, cut)
    later = client.request("POST", "/echo", b"hello")
    talk(client, server, cut)
    assert client.ended == {1, later}
    assert client.bodies == {1: pattern(70_000), later: b"hello"}
    assert not any(isinstance(event, h2.events.ConnectionTerminated) for event in client.events)


def test_the_settings_are_applied_before_the_answer() -> None:
    frames = switched(UpgradeServer().say(get(FIELDS % settings_of(INITIAL_WINDOW_SIZE=3, HEADER_TABLE_SIZE=0))))
    assert [frame.data for frame in frames if isinstance(frame, hf.DataFrame)] == [pattern(5)[:3]]


def test_settings_may_be_none_at_all() -> None:
    assert switched(UpgradeServer().say(get(FIELDS % b"")))


def test_what_follows_the_head_is_http2() -> None:
    frames = switched(UpgradeServer().say(get() + HELLO))
    assert [type(frame) for frame in frames].count(hf.SettingsFrame) == 2


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (get(target=b"/nothing"), b"404"),
        (get(target=b"http://y/bytes/5"), b"200"),
        (get(method=b"HEAD"), b"200"),
        (get(target=b"*", method=b"OPTIONS"), b"404"),
        (get(ASKING + b"keep-alive: 5\r\nte: gzip\r\nx: y\r\n"), b"200"),
        (get(ASKING.replace(b"Upgrade,", b"x-mine, Upgrade,") + b"X-Mine: 1\r\n"), b"200"),
        (get(ASKING + b"content-length: 0\r\n"), b"200"),
    ],
)
def test_other_requests_change_too(head: bytes, status: bytes) -> None:
    client = Client()
    client.h2 = type(client.h2)(client.h2.config)
    client.h2.initiate_upgrade_connection()
    said = UpgradeServer().say(head)
    client.receive(said[len(SWITCHED) :])
    assert said.startswith(SWITCHED)
    assert client.answers[1][b":status"] == status


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n",
        ASKING + b"http2-settings: %b\r\n" % SETTINGS,
        FIELDS % b"AAMAAABkAAQAAP_",
        FIELDS % b"AAMAAABkAAQAAP__AAAA",
        FIELDS % b"AAMAAABkAAQAAP//",
        FIELDS % b"AAMAAABkAAQAAP__=",
        FIELDS % b"\xff\xfe",
        FIELDS % settings_of(ENABLE_PUSH=2),
        FIELDS % settings_of(MAX_FRAME_SIZE=1),
        FIELDS % settings_of(INITIAL_WINDOW_SIZE=2**31),
        ASKING.replace(b", HTTP2-Settings", b""),
        ASKING.replace(b"Upgrade, ", b""),
        ASKING.replace(b"h2c", b"h2"),
        ASKING.replace(b"h2c", b"websocket"),
    ],
)
def test_what_asks_wrongly_is_answered_in_http1(fields: bytes) -> None:
    server = UpgradeServer()
    said = server.say(get(fields))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n" + pattern(5))
    assert server.say(get(b"")).startswith(b"HTTP/1.1 200 OK\r\n")  # and the connection lives on
    assert [server.slot.values[what] for what in (ACCEPTS, REQUESTS)] == [1, 2]


@pytest.mark.parametrize(
    "message", [b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
def test_a_body_holds_to_http1(message: bytes) -> None:
    said = UpgradeServer().say(b"POST /echo HTTP/1.1\r\nhost: x\r\n" + ASKING + message)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"abc")


@pytest.mark.parametrize("head", [get().replace(b"HTTP/1.1", b"HTTP/1.0"), get(target=b"x:443", method=b"CONNECT")])
def test_what_http2_has_no_place_for_stays_http1(head: bytes) -> None:
    assert UpgradeServer().say(head).startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))


def test_a_second_host_is_refused() -> None:
    assert UpgradeServer().say(get(ASKING + b"host: y\r\n")).startswith(b"HTTP/1.1 400 ")


def test_over_tls_nobody_changes() -> None:
    assert UpgradeServer(tls="1.3").say(get()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_knows_beforehand() -> None:
    server, client = UpgradeServer(), Client()
    stream = client.request("GET", "/bytes/5")
    talk(client, server)
    assert client.bodies == {stream: pattern(5)}


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"nonsense", b"\r\n\r\n\0", b"GET /" + b"x" * 40_000])
def test_no_head_is_waited_for_in_what_is_none(data: bytes) -> None:
    assert UpgradeServer().say(data).startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))


def test_draining() -> None:
    quiet = UpgradeServer()
    quiet.connection.drain()
    assert quiet.pipe.closed
    begun = UpgradeServer()
    begun.say(get()[:20])
    begun.connection.drain()
    assert not begun.pipe.closed
    assert b"\r\nconnection: close\r\n" in begun.say(get()[20:])
    late = UpgradeServer(draining=True)
    assert late.say(get()).startswith(b"HTTP/1.1 200 ")
    for server in (quiet, begun, late):
        server.connection.connection_lost(None)
        assert not server.worker.connections


def test_a_connection_ends_in_what_it_became() -> None:
    server = UpgradeServer()
    server.say(get())
    (became,) = server.worker.connections
    server.worker.drain()
    assert server.pipe.closed
    server.connection.connection_lost(None)
    assert became not in server.worker.connections
    gone = UpgradeServer()
    assert not gone.connection.eof_received()
    assert gone.pipe.closed


@pytest.mark.parametrize("execution", ["single", "threads", "dispatch", "thread-per-connection", "prefork"])
def test_curl_changes_to_http2(serve: Callable[..., ServerProcess], need: Callable[[str], str], execution: str) -> None:
    server = serve("http2-upgrade", execution)
    url = f"http://{server.address}"
    command = [need("curl"), "--silent", "--http2", "--write-out", " %{http_version} %{http_code}"]
    out = subprocess.check_output([*command, f"{url}/health", f"{url}/nothing"], text=True, timeout=20)
    assert out == "ok 2 200no such operation: /nothing\n 2 404"
    # A body holds curl to HTTP/1.1 where the server does not change, and it goes on without complaint.
    assert subprocess.check_output([*command, "-d", "hello", f"{url}/echo"], text=True, timeout=20) == "hello 1.1 200"


def test_nghttp_changes_to_http2(serve: Callable[..., ServerProcess], need: Callable[[str], str]) -> None:
    address = serve("http2-upgrade").address
    out = subprocess.check_output(
        [need("nghttp"), "-u", "-v", f"http://{address}/bytes/5"], text=True, timeout=20, errors="replace"
    )
    assert "HTTP Upgrade success" in out
    assert "recv (stream_id=1) :status: 200" in out
