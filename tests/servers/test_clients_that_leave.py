"""Clients that leave while an answer is held back: nothing waits for them any longer."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any

import pytest
from h2.connection import H2Connection

from bench.serverprocess import ServerProcess
from bench.wire.frames import HEADER_BYTES, encode_named, frame_ids
from bench.wire.http2_frames import ErrorCode, encode_reset
from bench.wire.websocket import FIN, TEXT, encode_frame
from bench.wire.websocket_handshake import encode_opening
from servers import polls
from servers.counters import Counters
from servers.execution.blocking import BlockingConnection
from servers.http1 import Http1Connection
from servers.http2 import Http2Connection
from servers.jobs import Jobs
from servers.service import Service
from servers.tcp import TcpConnection
from servers.topics import Topic, Topics
from servers.waiting import Alarms
from servers.websocket import WebsocketConnection
from servers.worker import Deferral, Deferrals, run_on_loop
from tests.servers.http3_harness import asking, serving
from tests.servers.make_worker import SPEC, make_worker

POLL = "/topics/news/events?after=0&wait_ms=50000"
HTTP1 = f"GET {POLL} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
DEADLINE_S = 10.0
EMPTY = {"last": 0, "events": []}


def http2_request() -> bytes:
    client = H2Connection()
    client.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", POLL)]
    client.send_headers(1, fields, end_stream=True)
    return client.data_to_send()


REQUESTS: dict[str, tuple[Any, bytes]] = {
    "http1": (Http1Connection, HTTP1),
    "http2": (Http2Connection, http2_request()),
    "tcp": (TcpConnection, encode_named("GET", POLL, next(frame_ids()))),
    "websocket": (
        WebsocketConnection,
        encode_opening(POLL, "a", bytes(16)) + encode_frame(FIN | TEXT, b"", b"mask"),
    ),
}


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test()

    asyncio.run(bounded())


def cancel(sock: socket.socket) -> None:
    """Give up the stream, and keep the connection (RFC 9113, section 6.4)."""
    sock.sendall(encode_reset(1, ErrorCode.CANCEL))


@pytest.mark.parametrize(
    ("protocol", "leave"),
    [*((protocol, leave) for protocol in REQUESTS for leave in (reset, socket.socket.close)), ("http2", cancel)],
)
def test_a_poll_of_a_client_that_leaves(protocol: str, leave: Callable[[socket.socket], None]) -> None:
    connection, request = REQUESTS[protocol]

    async def test() -> None:
        loop, deferrals = asyncio.get_running_loop(), Deferrals()
        worker = make_worker(run_on_loop(loop, deferrals), loop.call_later, Counters(1)[0], deferrals)
        topic = worker.service.topics.topic("news")
        server = await loop.create_server(lambda: connection(worker), "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.sendall(request)
        await until(lambda: topic.subscribers == 1)
        assert len(worker.service._holds) == 1
        leave(client)
        await until(lambda: not topic.subscribers and (not worker.connections or leave is cancel))
        assert len(worker.service._holds) == 0
        await until(lambda: not deferrals._by_connection)
        client.close()
        await until(lambda: not worker.connections)
        server.close()

    run(test)


def test_a_poll_over_http3_that_is_given_up() -> None:
    async def test() -> None:
        async with serving() as (port, _, worker):
            topic = worker.service.topics.topic("news")
            async with asking(port) as client:
                stream_id = client.begin(client.head("GET", POLL))
                client.begin(client.head("GET", POLL))
                await until(lambda: topic.subscribers == 2)
                client.quic.stop_stream(stream_id, 0x10C)
                client.transmit()
                await until(lambda: topic.subscribers == 1)
            await until(lambda: topic.subscribers == 0)
            assert len(worker.service._holds) == 0

    run(test)


def test_a_poll_on_a_thread_of_its_own() -> None:
    ours, theirs = socket.socketpair()
    service = Service()
    blocking = BlockingConnection(Http1Connection, service, Counters(1)[0], SPEC, ours)
    thread = threading.Thread(target=blocking.run)
    thread.start()
    theirs.sendall(HTTP1)
    topic = service.topics.topic("news")
    until_s = time.monotonic() + DEADLINE_S
    while not topic.subscribers:
        assert time.monotonic() < until_s
        time.sleep(0.001)
    theirs.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert (topic.subscribers, len(service._holds)) == (0, 0)


@pytest.mark.parametrize("execution", ["threads", "dispatch", "thread-per-connection"])
@pytest.mark.parametrize("protocol", ["http1", "tcp"])
def test_who_has_sent_all_is_answered_at_once(
    serve: Callable[..., ServerProcess], protocol: str, execution: str
) -> None:
    """It may have left: that looks no different."""
    server = serve(protocol, execution)
    with socket.create_connection((server.host, server.port), DEADLINE_S) as client:
        client.sendall(REQUESTS[protocol][1])
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            text = answer.read()
        body = text[HEADER_BYTES:] if protocol == "tcp" else text.partition(b"\r\n\r\n")[2]
        assert json.loads(body) == EMPTY


def test_a_job_that_nobody_waits_for() -> None:
    holds, answers = Alarms(), SimpleQueue[bytes]()
    jobs = Jobs(Topics(), Alarms(), holds)
    jobs.submit(60, 1)
    hasten = jobs.await_end(1, 50, answers.put)
    assert hasten is not None
    assert len(holds) == 1
    hasten()
    hasten()
    assert json.loads(answers.get_nowait())["id"] == 1
    assert answers.empty()
    assert (len(holds), jobs._jobs[1].waiting) == (0, [])


def test_a_poll_that_is_answered_leaves_no_alarm() -> None:
    topic, holds, answers = Topic(), Alarms(), SimpleQueue[bytes]()
    for _ in range(100):
        assert polls.defer(topic, topic.last_id, 50.0, holds, b"", answers.put) is not None
        topic.publish(b"x")
    assert (answers.qsize(), len(holds), topic.subscribers) == (100, 0, 0)
    assert len(holds._heap) <= 1


def test_alarms_that_are_cancelled() -> None:
    alarms, called = Alarms(), SimpleQueue[int]()
    later = time.monotonic() + 60
    kept = [alarms.at(later, lambda number=number: called.put(number)) for number in range(10)]
    for alarm in kept[:7]:
        alarm.cancel()
        alarm.cancel()
    assert len(alarms) == 3
    alarms.at(0.0, lambda: called.put(-1))
    assert called.get(timeout=DEADLINE_S) == -1
    alarms.hasten()
    kept[9].cancel()
    assert [called.get_nowait() for _ in range(3)] == [7, 8, 9]
    assert len(alarms) == 0


def test_who_leaves_before_the_answer_is_held_back() -> None:
    deferral, calls = Deferral(0), []
    deferral.hasten()
    deferral.hold(lambda: calls.append("hastened"))
    assert calls == ["hastened"]
    deferral = Deferral(0)
    deferral.hold(None)
    deferral.hasten()
