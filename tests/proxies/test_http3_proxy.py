"""The proxy of layer 7 with HTTP/3 on either side (RFC 9114), against aioquic's own client and server."""

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from bench.serverprocess import ServerProcess
from bench.wire.http3 import ErrorCode, Frame, encode_block, encode_frame
from tests.proxies.conftest import Proxy, read_head
from tests.proxies.conftest import Upstream as TcpUpstream
from tests.proxies.http3_origin import DOWN, UP, Http3Upstreams, Origin, proxying, stall, upstream
from tests.servers.http3_harness import Answer, RawOracle, asking

Serve = Callable[..., ServerProcess]
Start = Callable[..., Proxy]
StartUpstream = Callable[..., TcpUpstream]

BOTH = {**DOWN, **UP}


def echo(origin: Origin, stream_id: int, is_end: bool) -> None:
    if is_end:
        origin.answer(stream_id, bytes(origin.bodies[stream_id]))


def silent(origin: Origin, stream_id: int, is_end: bool) -> None:
    pass


@pytest.mark.parametrize(("protocol", "version"), [("http1", "1.1"), ("http2", "2"), ("http3", "3")])
def test_requests_go_to_upstreams_of_every_version(serve: Serve, protocol: str, version: str) -> None:
    server = serve(protocol, tls="1.3")

    async def run() -> None:
        spec = {**BOTH, "upstream_http": version}
        async with proxying(server.port, **spec) as (port, counts), asking(port) as client:
            answer = await client.ask("GET", "/health", None, (b"te", b"trailers"), (b"cookie", b"a=b"))
            assert (answer.status, answer.body) == (b"200", b"ok")
            assert answer.heads[-1][b"via"] == b"%b wirebench" % version.encode()
            assert (await client.ask("GET", "/nothing")).status == b"404"
            body = os.urandom(200_000)
            assert (await client.ask("POST", "/echo", body)).body == body
            pieces = client.begin(client.head("POST", "/echo"), b"one ", end=False)
            client.http.send_data(pieces, b"two", end_stream=False)
            client.http.send_headers(pieces, [(b"checksum", b"7")], end_stream=True)
            client.transmit()
            assert (await client.answer(pieces)).body == b"one two"
            many = [client.begin(client.head("GET", f"/bytes/{size}")) for size in range(200)]
            assert [len((await client.answer(stream_id)).body) for stream_id in many] == list(range(200))
            assert (counts.upstream_errors, counts.requests) == (0, 204)
            assert version == "1.1" or counts.upstream_connections < 4  # many exchanges share one

    asyncio.run(run())


def test_curl_reaches_an_http3_upstream(start_proxy: Start, serve: Serve, need: Callable[[str], str]) -> None:
    proxy = start_proxy(7, serve("http3", tls="1.3").port, **UP)
    command = [need("curl"), "-sS", "-m", "20", "-i", "-H", "transfer-encoding: chunked", "-d", "hello"]
    done = subprocess.run([*command, f"http://127.0.0.1:{proxy.port}/echo"], capture_output=True, check=True)
    assert b"via: 3 wirebench" in done.stdout
    assert done.stdout.endswith(b"hello")
    head = [need("curl"), "-sS", "-m", "20", "-I", f"http://127.0.0.1:{proxy.port}/bytes/9"]
    assert b"content-length: 9" in subprocess.run(head, capture_output=True, check=True).stdout


def streams_both_ways(size: int) -> None:
    async def run() -> None:
        body = os.urandom(size)
        async with upstream(echo) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            answer = await client.ask("POST", "/", body)
            assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()

    asyncio.run(run())


def test_a_body_streams_both_ways() -> None:
    streams_both_ways(500_000)


@pytest.mark.long
def test_ten_megabytes_stream_both_ways() -> None:
    streams_both_ways(10_000_000)


def test_a_client_that_does_not_take_data_slows_the_upstream_down_and_others_go_on() -> None:
    body = os.urandom(3_000_000)

    def handle(origin: Origin, stream_id: int, is_end: bool) -> None:
        origin.answer(stream_id, body if origin.heads[stream_id][b":path"] == b"/big" else b"ok")

    async def run() -> None:
        async with (
            upstream(handle) as origins,
            proxying(origins.port, **BOTH) as (port, _),
            asking(port, max_stream_data=65_536) as client,
        ):
            go_on = stall(client.quic)
            big = client.begin(client.head("GET", "/big"))
            sent = await settled(lambda: sent_by(origins), lambda: client.ask("GET", "/small"))
            assert 65_536 < sent < 1_000_000
            go_on()
            for _ in range(100):  # asking brings the credit over
                await client.ask("GET", "/small")
                if client.answers[big].done.is_set():
                    break
            assert (await client.answer(big)).body == body

    def sent_by(origins: Http3Upstreams) -> int:
        return max(
            (
                stream.sender.highest_offset
                for origin in origins.connections
                for stream in origin.quic._streams.values()
            ),
            default=0,
        )

    asyncio.run(run())


def test_an_upstream_that_does_not_take_data_slows_the_client_down() -> None:
    body = os.urandom(3_000_000)
    undo: list[Callable[[], None]] = []

    def handle(origin: Origin, stream_id: int, is_end: bool) -> None:
        if origin.heads[stream_id][b":path"] == b"/small":
            origin.answer(stream_id, b"ok")
            return
        if not undo:
            undo.append(stall(origin.quic))
        echo(origin, stream_id, is_end)

    async def run() -> None:
        async with upstream(handle) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            big = client.begin(client.head("POST", "/big"), body)
            sender = client.quic._streams[big].sender
            await origins.until(lambda: undo)
            sent = await settled(lambda: sender.highest_offset, lambda: client.ask("GET", "/small"))
            assert sent < 1_800_000  # of which 1 MiB is what aioquic's server gives at first
            undo[0]()
            for _ in range(100):
                await client.ask("GET", "/small")
                if client.answers[big].done.is_set():
                    break
            assert (await client.answer(big)).body == body

    asyncio.run(run())


async def settled(measure: Callable[[], int], exchange: Callable[[], object]) -> int:
    """What a measure comes to that no longer changes while other exchanges go on."""
    found, unchanged = -1, 0
    while unchanged < 30:
        await exchange()  # type: ignore[misc]  # it is awaitable
        now = measure()
        unchanged = unchanged + 1 if now == found else 0
        found = now
    return found


HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/echo")]


MALFORMED: list[tuple[list[tuple[bytes, bytes]], bytes]] = [
    ([*HEAD, (b"content-length", b"3")], b"abcd"),
    ([*HEAD, (b"content-length", b"5")], b"abcd"),
    ([*HEAD, (b"content-length", b"4"), (b"content-length", b"4")], b"abcd"),
    ([*HEAD, (b"transfer-encoding", b"chunked")], b"0\r\n\r\n"),
    ([*HEAD, (b"connection", b"close")], b""),
    ([*HEAD, (b"te", b"gzip")], b""),
    ([*HEAD[:3], (b":path", b"/ HTTP/1.1\r\nx: y")], b""),
    ([*HEAD[:3], (b":path", b"/a b")], b""),
    ([*HEAD[:3], (b":path", b"")], b""),
    ([(b":method", b"GET /x HTTP/1.1\r\nhost: b\r\n\r\nGET"), *HEAD[1:]], b""),
    ([*HEAD[:2], (b":authority", b"a\r\nx: y"), HEAD[3]], b""),
    ([*HEAD[:2], HEAD[3]], b""),
    ([*HEAD, (b"x", b"a\r\ntransfer-encoding: chunked")], b""),
    ([*HEAD, (b"host", b"other")], b""),
    ([*HEAD, HEAD[3]], b""),
    ([*HEAD, (b":status", b"200")], b""),
    ([*HEAD, (b"X-Upper", b"1")], b""),
    ([(b"a", b"b"), *HEAD], b""),
    (HEAD[:3], b""),
    ([(b":method", b"CONNECT"), *HEAD[1:]], b""),
]


def test_malformed_requests_are_reset_and_go_nowhere(start_upstream: StartUpstream) -> None:
    whole: list[bytes] = []

    def keep(sock: socket.socket) -> None:
        head, rest = read_head(sock), b""
        while data := sock.recv(1000):
            rest += data
        if len(rest) >= 5:
            whole.append(head + rest)

    async def run() -> None:
        async with proxying(start_upstream(keep).port, **DOWN) as (port, _), asking(port, RawOracle) as client:
            for fields, body in MALFORMED:
                stream_id = client.quic.get_next_available_stream_id()
                client.answers[stream_id] = Answer()
                data = encode_frame(Frame.HEADERS, encode_block(fields))
                data += encode_frame(Frame.DATA, body) if body else b""
                client.quic.send_stream_data(stream_id, data, end_stream=True)
                client.transmit()
                assert (await client.answer(stream_id)).reset_code == ErrorCode.MESSAGE_ERROR, (fields, body)

    asyncio.run(run())
    assert whole == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(Frame.DATA, b"a"), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(Frame.HEADERS, encode_block(HEAD)) + b"\x00\x05a", ErrorCode.FRAME_ERROR),
        (encode_frame(Frame.SETTINGS, b""), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(Frame.HEADERS, b"\x02\x00\x80"), ErrorCode.QPACK_DECOMPRESSION_FAILED),
    ],
)
def test_a_client_that_breaks_the_protocol_is_let_go(data: bytes, code: int) -> None:
    async def run() -> None:
        async with upstream(echo) as origins, proxying(origins.port, **BOTH) as (port, _):
            async with asking(port, RawOracle) as client:
                client.quic.send_stream_data(0, data, end_stream=True)
                client.transmit()
                assert (await client.end()).error_code == code
            async with asking(port) as other:
                assert (await other.ask("POST", "/", b"x")).body == b"x"

    asyncio.run(run())


def test_requests_taken_back_without_end_are_not_put_up_with() -> None:
    """CVE-2023-44487."""

    async def run() -> None:
        async with upstream(silent) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            quic, taken_back = client.quic, 0
            with contextlib.suppress(ConnectionError):
                while taken_back < 3000:
                    free = quic._remote_max_streams_bidi - quic._local_next_stream_id_bidi // 4
                    for _ in range(min(free, 50)):
                        quic.stop_stream(client.begin(client.head("POST", "/")), ErrorCode.REQUEST_CANCELLED)
                        taken_back += 1
                    await client.ping()
            assert (await client.end()).error_code == ErrorCode.EXCESSIVE_LOAD

    asyncio.run(run())


def test_what_fails_has_a_status(dead_port: int) -> None:
    def gone(origin: Origin, stream_id: int, is_end: bool) -> None:
        origin.close(error_code=ErrorCode.NO_ERROR)
        origin.transmit()

    async def status(port: int, method: str) -> bytes:
        async with proxying(port, **BOTH, answer_timeout_s=0.3, connect_timeout_s=1) as (own, _), asking(own) as client:
            return bytes((await client.ask(method, "/", b"x")).status)

    async def run() -> None:
        assert await status(dead_port, "GET") == b"503"
        async with upstream(gone) as origins:
            assert await status(origins.port, "POST") == b"502"
        async with upstream(silent) as origins:
            assert await status(origins.port, "POST") == b"504"

    asyncio.run(run())


def test_an_upstream_that_is_gone_in_the_middle_of_an_answer_ends_that_answer_alone() -> None:
    def begin(origin: Origin, stream_id: int, is_end: bool) -> None:
        if is_end:
            origin.answer(stream_id, b"hello", (b"content-length", b"100"), end=False)

    async def run() -> None:
        async with (
            upstream(begin) as killed,
            upstream(echo) as kept,
            proxying(killed.port, kept.port, **BOTH, answer_timeout_s=0.8) as (port, counts),
            asking(port) as client,
        ):
            stream_id = client.begin(client.head("POST", "/"), b"x")
            await client.until(lambda: client.answers[stream_id].body == b"hello")
            killed.kill()
            assert (await client.answer(stream_id)).reset_code == ErrorCode.INTERNAL_ERROR
            assert (await client.ask("POST", "/", b"again")).body == b"again"
            assert counts.upstream_errors >= 1

    asyncio.run(run())


def test_requests_that_may_be_repeated_are() -> None:
    def first_fails(origin: Origin, stream_id: int, is_end: bool) -> None:
        if len(origin._upstream.connections) == 1:
            origin.close(error_code=ErrorCode.INTERNAL_ERROR)
        else:
            echo(origin, stream_id, is_end)

    async def run() -> None:
        async with (
            upstream(first_fails) as origins,
            proxying(origins.port, **BOTH) as (port, counts),
            asking(port) as client,
        ):
            assert (await client.ask("PUT", "/", b"kept")).body == b"kept"
            assert counts.retries == 1

    asyncio.run(run())


def test_a_stream_that_the_upstream_rejects_is_tried_again_and_one_in_the_middle_breaks() -> None:
    seen: list[int] = []

    def reject(origin: Origin, stream_id: int, is_end: bool) -> None:
        seen.append(stream_id)
        if len(seen) == 1:
            origin.quic.reset_stream(stream_id, ErrorCode.REQUEST_REJECTED)
        else:
            echo(origin, stream_id, is_end)

    async def run() -> None:
        async with (
            upstream(reject) as origins,
            proxying(origins.port, **BOTH) as (port, counts),
            asking(port) as client,
        ):
            assert (await client.ask("GET", "/")).status == b"200"
            assert (counts.retries, counts.upstream_connections) == (1, 1)

    asyncio.run(run())


MALFORMED_ANSWERS: list[tuple[list[tuple[bytes, bytes]], bytes]] = [
    ([(b":status", b"200"), (b"content-length", b"3")], b"abcd"),
    ([(b":status", b"200"), (b"content-length", b"5")], b"abcd"),
    ([(b":status", b"204")], b"abcd"),
    ([(b":status", b"101")], b""),
    ([(b":status", b"2x0")], b""),
    ([(b"x", b"y")], b""),
    ([(b":status", b"200"), (b"X", b"y")], b""),
    ([(b":status", b"200"), (b"connection", b"close")], b""),
    ([(b":status", b"200"), (b"x", b"a\r\nb: c")], b""),
    ([(b":status", b"200"), (b":path", b"/")], b""),
]


def test_malformed_answers_do_not_pass() -> None:
    def answer(origin: Origin, stream_id: int, is_end: bool) -> None:
        if is_end:
            fields, body = MALFORMED_ANSWERS[int(origin.heads[stream_id][b":path"][1:])]
            origin.quic.send_stream_data(stream_id, encode_frame(Frame.HEADERS, encode_block(fields)))
            origin.quic.send_stream_data(stream_id, encode_frame(Frame.DATA, body) if body else b"", end_stream=True)
            origin.transmit()

    async def run() -> None:
        async with (
            upstream(answer) as origins,
            proxying(origins.port, **BOTH) as (port, counts),
            asking(port) as client,
        ):
            for case in range(len(MALFORMED_ANSWERS)):
                got = await client.ask("POST", f"/{case}", b"x")
                assert got.reset_code == ErrorCode.INTERNAL_ERROR or got.status == b"502", MALFORMED_ANSWERS[case]
            assert counts.upstream_errors == len(MALFORMED_ANSWERS)

    asyncio.run(run())


@pytest.mark.parametrize("by_reset", [True, False])
def test_an_answer_that_a_client_gives_up_is_given_up_upstream(by_reset: bool) -> None:
    def begin(origin: Origin, stream_id: int, is_end: bool) -> None:
        if stream_id == 0:
            if not origin.bodies[stream_id]:
                origin.answer(stream_id, b"hello", end=False)
        else:
            echo(origin, stream_id, is_end)

    async def run() -> None:
        async with upstream(begin) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            stream_id = client.begin(client.head("POST", "/"), end=not by_reset)
            if by_reset:
                client.quic.send_stream_data(stream_id, encode_frame(Frame.DATA, b"part"))
                client.transmit()
            await client.until(lambda: client.answers[stream_id].body == b"hello")
            if by_reset:
                client.quic.reset_stream(stream_id, ErrorCode.REQUEST_CANCELLED)
            else:
                client.quic.stop_stream(stream_id, ErrorCode.REQUEST_CANCELLED)
            client.transmit()
            (origin,) = origins.connections
            await origins.until(lambda: origin.given_up)
            assert origin.given_up == {0: ErrorCode.REQUEST_CANCELLED}
            assert (await client.ask("POST", "/", b"next")).body == b"next"

    asyncio.run(run())


def test_a_client_that_is_gone_gives_up_its_requests() -> None:
    async def run() -> None:
        async with upstream(silent) as origins, proxying(origins.port, **BOTH) as (port, _):
            async with asking(port) as client:
                client.begin(client.head("GET", "/"))
                await origins.until(lambda: origins.connections and origins.connections[0].heads)
            await origins.until(lambda: origins.connections[0].given_up)

    asyncio.run(run())


def test_an_upstream_that_goes_away_ends_what_it_has_and_gets_no_more() -> None:
    def say_goaway(origin: Origin, stream_id: int, is_end: bool) -> None:
        if origin is origin._upstream.connections[0] and stream_id == 0:
            control = origin.http._local_control_stream_id
            assert control is not None
            origin.quic.send_stream_data(control, encode_frame(Frame.GOAWAY, b"\x04"))
            origin.transmit()
        else:
            echo(origin, stream_id, is_end)

    async def run() -> None:
        async with (
            upstream(say_goaway) as origins,
            proxying(origins.port, **BOTH) as (port, counts),
            asking(port) as client,
        ):
            first = client.begin(client.head("GET", "/"))
            await origins.until(lambda: origins.connections and origins.connections[0].heads)
            while counts.upstream_connections < 2:
                assert (await client.ask("PUT", "/", b"other")).body == b"other"
            origins.connections[0].answer(first, b"late")
            assert (await client.answer(first)).body == b"late"

    asyncio.run(run())


def test_trailers_and_interim_answers_pass() -> None:
    def answer(origin: Origin, stream_id: int, is_end: bool) -> None:
        origin.http.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</a>")])
        origin.http.send_headers(stream_id, [(b":status", b"200")])
        origin.http.send_data(stream_id, b"body", end_stream=False)
        origin.http.send_headers(stream_id, [(b"checksum", b"7")], end_stream=True)
        origin.transmit()

    async def run() -> None:
        async with upstream(answer) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            got = await client.ask("GET", "/")
            assert [head.get(b":status") for head in got.heads] == [b"103", b"200", None]
            assert (got.heads[0][b"link"], got.heads[2], got.body) == (b"</a>", {b"checksum": b"7"}, b"body")

    asyncio.run(run())


def test_an_early_answer_ends_the_request() -> None:
    def refuse(origin: Origin, stream_id: int, is_end: bool) -> None:
        if stream_id not in answered:
            answered.add(stream_id)
            origin.answer(stream_id, b"no")

    answered: set[int] = set()

    async def run() -> None:
        async with upstream(refuse) as origins, proxying(origins.port, **BOTH) as (port, _), asking(port) as client:
            stream_id = client.begin(client.head("POST", "/"), b"begin", end=False)
            sender = client.quic._streams[stream_id].sender
            assert (await client.answer(stream_id)).body == b"no"
            await client.until(lambda: sender._reset_error_code == ErrorCode.NO_ERROR)
            assert (await client.ask("GET", "/")).body == b"no"

    asyncio.run(run())


@pytest.mark.parametrize(("forward", "status"), [(False, b"405"), (True, b"501")])
def test_tunnels_are_refused(forward: bool, status: bytes) -> None:
    async def run() -> None:
        async with proxying(1, **DOWN, forward=forward) as (port, _), asking(port) as client:
            stream_id = client.begin([(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:1")])
            assert (await client.answer(stream_id)).status == status

    asyncio.run(run())


def test_lost_answers_reset_their_streams() -> None:
    async def run() -> None:
        async with (
            upstream(echo) as origins,
            proxying(origins.port, **BOTH, lose_share=1.0) as (port, counts),
            asking(port) as client,
        ):
            assert (await client.ask("POST", "/", b"x")).reset_code == ErrorCode.INTERNAL_ERROR
            assert (await client.ask("GET", "/")).status == b"200"
            assert counts.lost == 1

    asyncio.run(run())


def test_silent_connections_are_closed_on_both_sides() -> None:
    async def run() -> None:
        async with upstream(echo) as origins:
            spec = {**BOTH, "idle_timeout_s": 0.2, "answer_timeout_s": 0.2}
            async with proxying(origins.port, **spec) as (port, counts), asking(port) as client:
                assert (await client.ask("GET", "/")).status == b"200"
                assert (await client.end()).error_code == ErrorCode.NO_ERROR
                assert counts.idle_closed == 1
                (origin,) = origins.connections
                await origins.until(lambda: origin.quic._close_event)

    asyncio.run(run())


def test_a_client_is_told_that_the_proxy_ends() -> None:
    async def run() -> None:
        async with upstream(echo) as origins, contextlib.AsyncExitStack() as clients:
            async with proxying(origins.port, **BOTH) as (port, _):
                client = await clients.enter_async_context(asking(port))
                assert (await client.ask("GET", "/")).status == b"200"
            assert (await client.end()).error_code == ErrorCode.NO_ERROR

    asyncio.run(run())


def test_an_upstream_whose_certificate_is_not_trusted_gets_no_request() -> None:
    async def run() -> None:
        async with upstream(echo) as origins:
            spec = {**BOTH, "authorities": ""}
            async with proxying(origins.port, **spec) as (port, counts), asking(port) as client:
                assert (await client.ask("GET", "/")).status == b"503"
                assert counts.upstream_errors == 1
            assert all(not origin.heads for origin in origins.connections)

    asyncio.run(run())
