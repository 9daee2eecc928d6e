"""The pattern push: every event is accounted for, and its delay counts from when it was due."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve

from bench import registry
from bench.contract import MIN_EVENT_BYTES, Exchange
from bench.conversation import Reply
from bench.errors import TargetError
from bench.load.histogram import summarise
from bench.load.polling import PollingLine
from bench.load.recorder import Recorder
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.plan import single_suite
from bench.protocols import PROTOCOLS
from bench.serverprocess import ServerProcess
from clients.http1 import Http1Caller
from clients.polling import Poller
from tests.load.test_tls_load import security

S, MS = 1_000_000_000, 1_000_000
CARRIERS = [name for name, protocol in PROTOCOLS.items() if "push" in protocol.patterns]


def spec(
    port: int, protocol: str = "websocket", subscribers: int = 10, process: int = 0, processes: int = 1, **changes: Any
) -> LoadSpec:
    values: dict[str, Any] = {
        "protocol": protocol,
        "client": registry.client(protocol, pattern="push"),
        "pattern": "push",
        "topic": "prices",
        "host": "127.0.0.1",
        "port": port,
        "request": Request(opcode=1, payload_bytes=100),
        "load": "open:100/s",
        "connections": str(subscribers),
        "warmup_ns": S // 5,
        "duration_ns": S,
        "timeout_ns": 5 * S,
        "queue_limit": 100,
        "intervals": 10,
        "seed": 1,
        "process": process,
        "processes": processes,
        **changes,
    }
    return LoadSpec(**values)


def run(specs: list[LoadSpec], meanwhile: Callable[[int], None] = lambda measure_ns: None) -> dict[str, Any]:
    with LoadProcesses(len(specs), lambda progress: None) as load:
        load.connect(specs)
        window = load.release()
        meanwhile(window.measure_ns)
        results = load.results()
        load.leave()
    return merge(results)


@pytest.mark.parametrize("protocol", CARRIERS)
def test_every_event_reaches_every_subscriber(serve: Callable[..., ServerProcess], protocol: str) -> None:
    secured = protocol == "sse-http3"
    server = serve(protocol, tls="1.3" if secured else "off")
    result = run([spec(server.port, protocol, security=security() if secured else None)])
    assert result["delivery"] == {"subscribers": 10, "published": 100, "duplicates": 0, "confirm": None}
    assert result["completed"] == 1000
    assert result["errors"] == {}
    assert result["latency"].get_total_count() == 1000


def test_processes_share_the_subscribers_and_one_publishes(serve: Callable[..., ServerProcess]) -> None:
    server = serve("websocket")
    result = run([spec(server.port, subscribers=9, process=number, processes=2) for number in range(2)])
    assert result["delivery"] == {"subscribers": 9, "published": 100, "duplicates": 0, "confirm": None}
    assert result["completed"] == 900


def test_the_delay_counts_from_when_an_event_was_due(serve: Callable[..., ServerProcess]) -> None:
    server = serve("websocket")

    def freeze(measure_ns: int) -> None:
        time.sleep(max(0.0, (measure_ns + 200 * MS - time.monotonic_ns()) / 1e9))
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(server.pid, signal.SIGCONT)

    result = run([spec(server.port, subscribers=3)], freeze)
    latency = summarise(result["latency"])
    assert latency is not None
    assert result["completed"] == 300
    # Of a second's events those of 0.4 s wait for the end of it, the first for all of it.
    assert latency["max"] > 350 * MS
    slow = sum(s.count_added_in_this_iter_step for s in result["latency"].get_recorded_iterator()
               if s.value_iterated_to > 50 * MS)  # fmt: skip
    assert 60 <= slow <= 160


@contextlib.contextmanager
def relay(copies: int) -> Iterator[int]:
    """A WebSocket server that sends each message to everybody, so many times; gives its port."""
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        members: set[ServerConnection] = set()

        async def handle(connection: ServerConnection) -> None:
            members.add(connection)
            async for message in connection:
                for member in members:
                    for _ in range(copies):
                        await member.send(message)

        async with websockets_serve(handle, "127.0.0.1", 0, compression=None) as server:
            found["port"] = server.sockets[0].getsockname()[1]
            found["stop"] = asyncio.Event()
            found["loop"] = asyncio.get_running_loop()
            ready.set()
            await found["stop"].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield found["port"]
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(10)


def test_what_is_delivered_twice_is_counted_and_not_taken_for_more() -> None:
    with relay(copies=2) as port:
        result = run([spec(port, subscribers=2)])
    assert result["completed"] == 200
    assert result["delivery"]["duplicates"] >= 200  # those of the warm-up are there too


def test_events_that_nobody_acknowledges_are_found_before_the_load() -> None:
    with relay(copies=0) as port, pytest.raises(TargetError, match="did not acknowledge"):
        run([spec(port, subscribers=2, timeout_ns=S // 2)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"load": ["closed:8"]}, "a publisher needs a rate"),
        ({"payload": [f"{MIN_EVENT_BYTES - 1}B"]}, "at least 51 bytes"),
        ({"protocol": ["udp"]}, "does not carry the pattern push"),
        ({"client": ["httpx"]}, "has no pattern push"),
    ],
)
def test_what_makes_no_sense_is_unsupported(changes: dict[str, list[str]], reason: str) -> None:
    values = {"protocol": ["websocket"], "pattern": ["push"], "load": ["open:10/s"], **changes}
    ((_, why),) = single_suite(values, "test").unsupported
    assert reason in why


class Asked:
    """A caller that is a session: it is asked, and closed."""

    transport_kind = "session"
    alpn = ()
    max_in_flight = 1
    outgoing: ClassVar[list[bytes]] = []
    closed = False

    async def connect(self, *_: object) -> None:
        pass

    def ask(self, _exchange: Exchange) -> tuple[int, list[bytes]]:
        return 1, []

    def close(self) -> None:
        self.closed = True


def polling(caller: Any) -> tuple[PollingLine, list[str]]:
    """A poller's connection, and the errors that it comes to."""
    errors: list[str] = []
    recorder = Recorder(is_open=True)
    recorder.error = lambda kind, *_: errors.append(kind)  # type: ignore[method-assign]
    engine: Any = SimpleNamespace(recorder=recorder, filling=b"", count=lambda _: None, lost=lambda _: None)
    return PollingLine(engine, Poller(caller, "prices", 0)), errors


def test_an_end_of_the_stream_that_is_no_answer_to_a_poll_is_an_error() -> None:
    async def main() -> list[str]:
        line, errors = polling(Http1Caller("localhost", "http"))
        line.connection_made(asyncio.Transport({}))
        line.data_received(b"HTTP/1.1 200 OK\r\n\r\nneither a length nor a poll")
        assert errors == []
        line.eof_received()
        return errors

    with patch.object(asyncio.Transport, "write"), patch.object(asyncio.Transport, "abort"):
        assert asyncio.run(main()) == ["protocol"]


def test_what_a_session_says_that_is_no_answer_to_a_poll_is_an_error_and_ends_it() -> None:
    async def main() -> list[str]:
        session = Asked()
        line, errors = polling(session)
        await line.connect("localhost", 1, None)
        line.answered([(1, Reply(500, b""))])
        assert session.closed
        return errors.copy()  # that the connection has ended is told later

    assert asyncio.run(main()) == ["protocol"]
