"""Frames over WebSocket, asked for by the websockets library."""

import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.contract import pattern
from bench.serverprocess import ServerProcess
from bench.wire.frames import FATAL, HEADER_BYTES, MORE, NO_ID, SUBPROTOCOL, decode_datagram, encode_frame, encode_named
from tests.servers.execution_helpers import DEADLINE_S


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("websocket", "single", 1) as server:
        yield server
        assert server.stderr == ""


def opened(server: ServerProcess, path: str = "/") -> ClientConnection:
    return connect(
        f"ws://{server.address}{path}", subprotocols=[Subprotocol("x"), Subprotocol(SUBPROTOCOL)], proxy=None
    )


def received(client: ClientConnection) -> bytes:
    message = client.recv(DEADLINE_S)
    assert isinstance(message, bytes)
    return message


def answer(client: ClientConnection) -> tuple[bytes, int, bytes]:
    """Id, status and payload of the one frame of the next message."""
    code, _, _, frame_id, payload = decode_datagram(received(client))
    return frame_id, code, payload


def test_frames_are_served_on_any_path(server: ServerProcess) -> None:
    for path in ("/", "/nothing", "/echo"):
        with opened(server, path) as client:
            assert client.subprotocol == SUBPROTOCOL
            client.send(encode_named("POST", "/echo", b"abcd", b"hello"))
            assert answer(client) == (b"abcd", 200, b"hello")
            assert client.ping().wait(DEADLINE_S)
        assert client.close_code == 1000


def test_without_the_subprotocol_the_path_says_what_messages_are(server: ServerProcess) -> None:
    with connect(f"ws://{server.address}/echo", subprotocols=[Subprotocol("x")], proxy=None) as client:
        assert client.subprotocol is None
        client.send(b"hello")
        assert client.recv(DEADLINE_S) == b"hello"
    with pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://{server.address}/", proxy=None)


def test_frames_share_messages_and_messages_share_a_frame(server: ServerProcess) -> None:
    three = [encode_named("POST", "/echo", b"%04d" % n, b"%d" % n) for n in range(3)]
    large = encode_named("POST", "/echo", b"abcd", pattern(300_000))
    with opened(server) as client:
        client.send(b"".join(three))
        whole = b"".join(encode_frame(200, b"%04d" % n, b"%d" % n) for n in range(3))
        got = b""
        while len(got) < len(whole):
            got += received(client)
        assert got == whole
        client.send(large[:7])
        client.send([large[7:100_000], large[100_000:200_000]])
        client.send(large[200_000:])
        assert answer(client) == (b"abcd", 200, pattern(300_000))


def test_answers_come_as_they_are_done(server: ServerProcess) -> None:
    with opened(server) as client:
        client.send(encode_named("GET", "/work?wait_ms=100", b"slow"))
        client.send(encode_named("GET", "/nothing", b"none"))
        client.send(encode_named("DELETE", "/echo", b"nono"))
        assert answer(client)[:2] == (b"none", 404)
        assert answer(client)[:2] == (b"nono", 405)
        assert answer(client) == (b"slow", 200, b"done")


def test_a_job_and_its_steps(server: ServerProcess) -> None:
    with opened(server) as client:
        client.send(encode_named("POST", "/jobs?ms=20&steps=2", b"make"))
        job_id = json.loads(answer(client)[2])["id"]
        client.send(encode_named("GET", f"/topics/job-{job_id}?after=0", b"hear"))
        got = b""
        while len(got) < 3 * HEADER_BYTES or b"done" not in got:
            got += received(client)
        assert got.startswith(encode_frame(200, b"hear", b"", flags=MORE))
        assert [b'"step": %d' % step in got or b'"step":%d' % step in got for step in (1, 2)] == [True, True]


@pytest.mark.parametrize(
    ("bad", "code"), [("a text", 1003), (b"no frame at all, but long enough for a header", 1008)], ids=["text", "bytes"]
)
def test_what_is_no_frame_ends_the_connection(server: ServerProcess, bad: bytes | str, code: int) -> None:
    with opened(server) as client:
        client.send(bad)
        if code == 1008:
            assert received(client).startswith(encode_frame(400, NO_ID, b"", flags=FATAL)[:4])
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


def test_what_was_asked_before_a_close_is_answered_before_it(server: ServerProcess) -> None:
    with opened(server) as client:
        client.send(encode_named("GET", "/work?wait_ms=50", b"slow"))
        client.close()
        assert answer(client) == (b"slow", 200, b"done")
        assert client.close_code == 1000


@pytest.mark.parametrize("execution", ["single", "threads", "thread-per-connection"])
def test_a_server_that_stops_answers_and_goes_away(execution: str) -> None:
    with ServerProcess("websocket", execution, 1) as server:
        with opened(server) as client:
            client.send(encode_named("POST", "/echo", b"abcd", b"x" * 100_000))
            assert answer(client) == (b"abcd", 200, b"x" * 100_000)
            server.stop()
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.stderr == ""
