"""The HTTP/3 server, asked by aioquic's own client."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest
from aioquic.quic.connection import QuicConnection

from bench import contract
from bench.serverprocess import ServerProcess
from servers.counters import ACCEPTS, REQUESTS
from servers.http3 import Http3Endpoint
from servers.stacks.aioquic_server import AioquicServer
from tests.servers.http3_harness import Oracle, asking, between, serving

BOTH = pytest.mark.parametrize("listener", [Http3Endpoint, AioquicServer])


@BOTH
def test_every_operation(listener: type) -> None:
    async def run() -> None:
        async with serving(listener) as (port, _, worker), asking(port) as client:
            answer = await client.ask("GET", "/health")
            assert (answer.status, answer.body) == (b"200", b"ok")
            assert answer.heads[0][b"content-length"] == b"2"
            assert answer.heads[0][b"content-type"] == b"application/octet-stream"
            assert answer.heads[0][b"date"].endswith(b"GMT")
            assert (await client.ask("POST", "/echo", b"hello")).body == b"hello"
            assert (await client.ask("POST", "/echo", b"x" * 5000)).body == b"x" * 5000
            assert (await client.ask("POST", "/echo", b"")).body == b""
            body = contract.pattern(300_000)
            assert (await client.ask("GET", "/bytes/300000")).body == body
            receipt = contract.upload_receipt(len(body), hashlib.sha256(body).digest())
            assert (await client.ask("PUT", "/upload", body)).body == receipt
            assert (await client.ask("PUT", "/upload", b"abc")).body == contract.upload_receipt(
                3, hashlib.sha256(b"abc").digest()
            )
            assert (await client.ask("GET", "/work?cpu_us=10&wait_ms=20")).body == b"done"
            assert (await client.ask("GET", "/bytes/0")).body == b""
            assert worker.counts[ACCEPTS] == 1
            assert worker.counts[REQUESTS] == 9

    asyncio.run(run())


@BOTH
def test_pieces_are_frames(listener: type) -> None:
    async def run() -> None:
        async with serving(listener) as (port, _, _), asking(port) as client:
            answer = await client.ask("GET", "/bytes/1000?chunk=300")
            assert [len(piece) for piece in answer.pieces] == [300, 300, 300, 100]
            assert b"content-length" not in answer.heads[0]
            assert (await client.ask("GET", "/bytes/200000?chunk=70")).body == contract.pattern(200_000)

    asyncio.run(run())


@BOTH
@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("GET", "/nothing", [], b"404"),
        ("GET", "/bytes/x", [], b"400"),
        ("DELETE", "/echo", [], b"405"),
        ("POST", "/echo", [(b"expect", b"wonders")], b"417"),
        ("CONNECT", "/", [], b"501"),
        ("GET", "/health", [(b"x", b"y" * 33_000)], b"431"),
    ],
)
def test_refusals(listener: type, method: str, path: str, fields: list[tuple[bytes, bytes]], status: bytes) -> None:
    async def run() -> None:
        async with serving(listener) as (port, _, _), asking(port) as client:
            answer = await client.ask(method, path, None, *fields)
            assert answer.status == status
            assert answer.heads[0][b"content-type"] == b"text/plain"
            if status == b"405":
                assert answer.heads[0][b"allow"] == b"POST, PUT"
            assert (await client.ask("GET", "/health")).body == b"ok"

    asyncio.run(run())


def test_an_early_refusal_does_not_wait_for_the_body() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            length = (b"content-length", b"%d" % (contract.MAX_BODY_BYTES + 1))
            stream_id = client.begin(client.head("PUT", "/upload", length), b"begin", end=False)
            sender = client.quic._streams[stream_id].sender
            assert (await client.answer(stream_id)).status == b"413"
            await client.until(lambda: sender._reset_error_code == 0x100)

    asyncio.run(run())


def test_expect_continue() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            headers = client.head("POST", "/echo", (b"expect", b"100-continue"))
            stream_id = client.begin(headers, None, end=False)
            await client.until(lambda: client.answers[stream_id].heads)
            assert client.answers[stream_id].status == b"100"
            client.http.send_data(stream_id, b"now", end_stream=True)
            client.transmit()
            answer = await client.answer(stream_id)
            assert (answer.status, answer.body) == (b"200", b"now")

    asyncio.run(run())


def test_a_body_in_many_pieces_and_trailers() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            stream_id = client.begin(client.head("POST", "/echo"), b"one ", end=False)
            client.http.send_data(stream_id, b"two", end_stream=False)
            client.http.send_headers(stream_id, [(b"checksum", b"7")], end_stream=True)
            client.transmit()
            assert (await client.answer(stream_id)).body == b"one two"

    asyncio.run(run())


def test_more_requests_than_streams_are_allowed_at_once() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            ids = [client.begin(client.head("GET", f"/bytes/{i}")) for i in range(1000)]
            for i, stream_id in enumerate(ids):
                assert len((await client.answer(stream_id)).body) == i

    asyncio.run(run())


def test_what_is_urgent_is_sent_first() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            asked = {
                said: client.begin(client.head("GET", "/bytes/500000", *[(b"priority", said)] * bool(said)))
                for said in (b"u=7", b"", b"u=0")
            }
            await client.answer(asked[b"u=0"])
            assert not client.answers[asked[b""]].done.is_set()
            await client.answer(asked[b""])
            assert not client.answers[asked[b"u=7"]].done.is_set()
            await client.answer(asked[b"u=7"])

    asyncio.run(run())


def test_most_packets_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is taken at all: every release of aioquic can move what it rests on."""
    counts = {"read": 0, "written": 0}
    receive, write = QuicConnection.receive_datagram, QuicConnection._write_application

    def counting_receive(self: QuicConnection, *args: object, **options: object) -> None:
        counts["read"] += not self._is_client
        receive(self, *args, **options)  # type: ignore[arg-type]  # as they came

    def counting_write(self: QuicConnection, *args: object) -> None:
        counts["written"] += not self._is_client
        write(self, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(QuicConnection, "receive_datagram", counting_receive)
    monkeypatch.setattr(QuicConnection, "_write_application", counting_write)

    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            for _ in range(200):
                assert (await client.ask("POST", "/echo", b"hello")).body == b"hello"

    asyncio.run(run())
    assert counts["read"] < 20
    assert counts["written"] < 20


def test_it_also_works_with_releases_that_were_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.wire.quic_writing.VERIFIED", ((0, 1), (0, 2)))
    test_every_operation(Http3Endpoint)
    test_pieces_are_frames(Http3Endpoint)


def test_drain_finishes_what_is_in_flight_and_says_goaway() -> None:
    async def run() -> None:
        async with serving() as (port, server, worker), asking(port) as client:
            await client.ask("GET", "/health")
            stream_id = client.begin(client.head("GET", "/work?wait_ms=100"))
            await client.ask("GET", "/health")  # the first is under way by now
            worker.draining = True
            stopping = asyncio.create_task(server.stop(5.0))
            answer = await client.answer(stream_id)
            assert answer.body == b"done"
            ended = await client.end()
            assert ended.error_code == 0x100
            await stopping
            assert not worker.connections

    asyncio.run(run())


def test_stop_does_not_wait_longer_than_the_grace() -> None:
    async def run() -> None:
        async with serving() as (port, server, worker), asking(port) as client:
            client.begin(client.head("GET", "/work?wait_ms=30000"))
            await client.ask("GET", "/health")
            worker.draining = True
            begin = asyncio.get_running_loop().time()
            await server.stop(0.05)
            assert asyncio.get_running_loop().time() - begin < 2

    asyncio.run(run())


def test_a_reset_request_is_forgotten_and_its_stream_free_again() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), asking(port) as client:
            for _ in range(600):  # more than streams are allowed at once
                stream_id = client.begin(client.head("GET", "/work?wait_ms=1"))
                client.quic.reset_stream(stream_id, 0x10C)
                client.quic.stop_stream(stream_id, 0x10C)
                client.transmit()
                await asyncio.sleep(0)
            assert (await client.ask("GET", "/health")).body == b"ok"

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_losses(seed: int) -> None:
    """Large and small bodies both ways, over a network that loses, repeats and reorders datagrams."""

    async def one(client: Oracle, size: int) -> None:
        body = contract.pattern(size)
        assert (await client.ask("POST", "/echo", body)).body == body

    async def run() -> None:
        async with serving() as (port, _, _), between(port, seed, 0.03) as network, asking(network.port) as client:
            await asyncio.gather(*(one(client, size) for size in (0, 10, 1000, 5000, 40_000) * 4))
            assert network.lost

    asyncio.run(run())


def test_migration_with_one_worker() -> None:
    async def run() -> None:
        async with serving() as (port, _, _), between(port, 0, 0.0) as network, asking(network.port) as client:
            assert (await client.ask("GET", "/health")).body == b"ok"
            await network.move()
            assert (await client.ask("GET", "/bytes/20000")).body == contract.pattern(20_000)
            assert (await client.ask("GET", "/health")).body == b"ok"

    asyncio.run(run())


def test_keys_and_connection_ids_may_change() -> None:
    async def run() -> None:
        async with serving() as (port, server, _), asking(port) as client:
            for turn in range(12):
                if turn % 3 == 1:
                    client.request_key_update()
                if turn % 3 == 2:
                    client.change_connection_id()
                assert (await client.ask("POST", "/echo", b"still here")).body == b"still here"
            (connection,) = server._connections
            assert len(connection.cids) <= 10

    asyncio.run(run())


def test_events() -> None:
    async def run() -> None:
        async with serving() as (port, _, worker), asking(port) as client:
            assert (await client.ask("POST", "/topics/news", b"early")).body == b"1"
            stream_id = client.begin(client.head("GET", "/topics/news?after=0"))
            answer = client.answers[stream_id]
            await client.until(lambda: b"early" in answer.body)
            assert answer.heads[0][b"content-type"] == b"text/event-stream"
            assert (await client.ask("POST", "/topics/news", b"late")).body == b"2"
            await client.until(lambda: answer.body.endswith(b"id: 1\ndata: early\n\nid: 2\ndata: late\n\n"))
            client.quic.stop_stream(stream_id, 0x10C)
            client.transmit()
            await client.until(answer.done.is_set)
            assert worker.service.topics.topic("news").subscribers == 0

    asyncio.run(run())


@pytest.mark.parametrize("execution", ["single", "reuseport", "reuseport-threads"])
@pytest.mark.parametrize("stack", ["lean", "aioquic"])
def test_execution_models(serve: Callable[..., ServerProcess], execution: str, stack: str) -> None:
    """Each connection's datagrams reach the worker that has it."""
    server = serve("http3", execution, workers=1 if execution == "single" else 3, stack=stack)

    async def one() -> None:
        async with asking(server.port) as client:
            for _ in range(3):
                assert (await client.ask("POST", "/echo", b"x" * 3000)).body == b"x" * 3000

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(12)))

    asyncio.run(run())
    counts, _ = server.stats()
    assert sum(count.accepts for count in counts) == 12
    assert sum(count.requests for count in counts) == 36
    server.stop()
    assert server.stderr == ""
