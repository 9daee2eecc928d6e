"""The HTTP/3 clients, against our servers, Hypercorn's, and servers that answer wrongly."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from bench.certificates import certificates, make_certificates
from bench.contract import Exchange, Opcode, Security, exchange, foreign_exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.http3 import OPENING, ErrorCode, Frame, encode_block, encode_frame
from clients.http3 import Http3Client
from clients.http3_caller import Http3Publisher, SseHttp3Subscriber
from clients.stacks.aioquic_client import AioquicClient
from servers.counters import REQUESTS
from servers.http3 import Http3Endpoint
from servers.stacks.aioquic_server import AioquicServer
from tests.servers.http3_harness import DEADLINE_S, between, serving, trusting

BOTH = pytest.mark.parametrize("client_type", [Http3Client, AioquicClient])


class Driver:
    """The engine's side, as far as a test needs it: keeps `in_flight` exchanges under way until `total` are over."""

    def __init__(self, client: Any, total: int, in_flight: int) -> None:
        self.client = client
        self.waiting: set[Hashable] = set()
        self.done: list[Hashable] = []
        self.failed: list[tuple[Hashable, str]] = []
        self.error: Exception | None = None
        self.over = asyncio.Event()
        self.most = 0
        self._left = total
        self._in_flight = in_flight

    def start(self) -> None:
        room = min(self._in_flight, self.client.max_in_flight) - len(self.waiting)
        count = min(room, self._left)
        if count > 0 and not self.client.closing:
            ids, pieces = self.client.request(count)
            assert (len(ids), pieces) == (count, [])
            assert not self.waiting.intersection(ids)
            self.waiting.update(ids)
            self._left -= count
            self.most = max(self.most, len(self.waiting))
        elif not self.waiting:
            self.over.set()

    def answered(self, ids: Sequence[Hashable]) -> None:
        self.waiting.difference_update(ids)
        self.done += ids
        self.failed += self.client.failures
        self.waiting.difference_update(exchange_id for exchange_id, _ in self.client.failures)
        self.client.failures.clear()
        self.start()

    def lost(self, error: Exception | None) -> None:
        assert not self.over.is_set() or self._left or self.waiting
        self.error = error
        self.over.set()

    @property
    def kinds(self) -> list[str]:
        return [kind for _, kind in self.failed]


async def load(
    port: int,
    asked: Exchange,
    total: int = 1,
    in_flight: int = 1,
    client_type: Any = Http3Client,
    security: Security | None = None,
    check_content: bool = True,
) -> Driver:
    """Ask that often, and say how it went."""
    client = client_type(asked, f"localhost:{port}", check_content)
    driver = Driver(client, total, in_flight)
    async with asyncio.timeout(DEADLINE_S):
        await client.connect("127.0.0.1", port, security or trusting(), driver)
        try:
            driver.start()
            await driver.over.wait()
        finally:
            client.close()
    return driver


EXCHANGES = [
    exchange(Opcode.HEALTH),
    exchange(Opcode.ECHO, 10),
    exchange(Opcode.ECHO, 5000),
    exchange(Opcode.BYTES, 64),
    exchange(Opcode.BYTES, 0),
    exchange(Opcode.BYTES, 100_000),
    exchange(Opcode.BYTES, 1000, b=100),
    exchange(Opcode.UPLOAD, 100_000),
    exchange(Opcode.WORK, a=5, b=1),
]


@BOTH
@pytest.mark.parametrize("listener", [Http3Endpoint, AioquicServer])
@pytest.mark.parametrize("asked", EXCHANGES, ids=lambda asked: f"{asked.path}-{len(asked.body)}")
def test_exchanges(client_type: Any, listener: Any, asked: Exchange) -> None:
    async def run() -> None:
        async with serving(listener) as (port, _, _):
            driver = await load(port, asked, 20, 8, client_type)
            assert (len(driver.done), driver.failed, driver.error) == (20, [], None)

    asyncio.run(run())


@pytest.mark.parametrize("in_flight", [1, 100, 1000])
def test_as_many_in_flight_as_the_server_allows(in_flight: int) -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            driver = await load(port, exchange(Opcode.BYTES, 200), 3000, in_flight)
            assert (len(driver.done), driver.failed, driver.error) == (3000, [], None)
            assert driver.most == min(in_flight, 256)

    asyncio.run(run())


@BOTH
@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        (foreign_exchange("GET", "/nothing"), ["status"]),
        (foreign_exchange("GET", "/bytes/10", answer=b"something else"), ["content"]),
        (foreign_exchange("GET", "/bytes/10"), ["content"]),
        (foreign_exchange("DELETE", "/health"), ["status"]),
    ],
)
def test_wrong_answers(client_type: Any, asked: Exchange, kinds: list[str]) -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            assert (await load(port, asked, 1, 1, client_type)).kinds == kinds
            unchecked = await load(port, asked, 1, 1, client_type, check_content=False)
            assert unchecked.kinds == [kind for kind in kinds if kind == "status"]

    asyncio.run(run())


def test_head() -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            driver = await load(port, foreign_exchange("HEAD", "/bytes/100"), 3)
            assert (len(driver.done), driver.failed) == (3, [])

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_losses(seed: int) -> None:
    async def run() -> None:
        async with serving() as (port, _, _), between(port, seed, 0.03) as network:
            for asked in (exchange(Opcode.ECHO, 100), exchange(Opcode.ECHO, 20_000)):
                driver = await load(network.port, asked, 200 if len(asked.body) < 1000 else 20, 10)
                assert (driver.failed, driver.error) == ([], None)
            assert network.lost

    asyncio.run(run())


def test_goaway() -> None:
    """A server that drains finishes what it has begun; the client sends nothing more."""

    async def run() -> None:
        async with serving() as (port, server, worker):
            client = Http3Client(exchange(Opcode.WORK, b=50), f"localhost:{port}", True)
            driver = Driver(client, 100, 5)
            await client.connect("127.0.0.1", port, trusting(), driver)
            driver.start()
            async with asyncio.timeout(DEADLINE_S):
                while worker.counts[REQUESTS] < 5:  # all are under way
                    await asyncio.sleep(0.001)
                worker.draining = True
                await server.stop(5.0)
                await driver.over.wait()
            assert client.closing
            assert len(driver.done) == 5
            assert driver.failed == []

    asyncio.run(run())


def test_abandon() -> None:
    """What is given up is told to the server, its late answer is ignored, and its place is free again."""

    async def run() -> None:
        async with serving() as (port, server, _):
            client = Http3Client(exchange(Opcode.WORK, b=10_000), f"localhost:{port}", True)
            driver = Driver(client, 1000, 300)
            await client.connect("127.0.0.1", port, trusting(), driver)
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(3):
                    driver.start()
                    before = set(driver.waiting)
                    assert len(before) == 256
                    for exchange_id in before:
                        assert client.abandon(exchange_id)
                    driver.waiting.clear()
                    while client.max_in_flight < 256:
                        await asyncio.sleep(0.001)
                (connection,) = server._connections
                while connection.quic.has_messages:
                    await asyncio.sleep(0.001)
            client.close()
            assert (driver.done, driver.failed, driver.error) == ([], [], None)

    asyncio.run(run())


# Certificates


@BOTH
@pytest.mark.parametrize(
    ("names", "age_days", "text"),
    [
        (("elsewhere.test",), 0, "localhost"),
        (("localhost",), 40, "not valid|expired"),
    ],
)
def test_certificates_that_are_no_good(
    client_type: Any, names: tuple[str, ...], age_days: int, text: str, tmp_path: Path
) -> None:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age_days, hours=1)
    certs = make_certificates(tmp_path, names, (), begin)

    async def run() -> None:
        async with serving(certs=certs) as (port, _, _):
            with pytest.raises(ssl.SSLCertVerificationError, match=text):
                await load(port, exchange(Opcode.HEALTH), client_type=client_type, security=trusting(certs))
            insecure = Security("1.3", "", "localhost", insecure=True)
            driver = await load(port, exchange(Opcode.HEALTH), client_type=client_type, security=insecure)
            assert len(driver.done) == 1

    asyncio.run(run())


@BOTH
def test_an_authority_that_is_not_trusted(client_type: Any, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)

    async def run() -> None:
        async with serving() as (port, _, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await load(port, exchange(Opcode.HEALTH), client_type=client_type, security=trusting(other))

    asyncio.run(run())


@BOTH
def test_nobody_listens(client_type: Any) -> None:
    async def run() -> None:
        async with serving() as (port, _, _):
            pass
        if client_type is Http3Client:
            with pytest.raises(ConnectionRefusedError):
                await load(port, exchange(Opcode.HEALTH))
        else:  # aioquic's own protocol hears of no error: whoever connects has to stop waiting
            client = client_type(exchange(Opcode.HEALTH), "localhost:1", True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.connect("127.0.0.1", port, trusting(), Driver(client, 1, 1))

    asyncio.run(run())


# Servers that nobody here wrote, or that answer wrongly


@contextlib.asynccontextmanager
async def answering(
    respond: Callable[[QuicConnectionProtocol, int], None], alpn: str = "h3", opening: bytes = OPENING
) -> AsyncIterator[int]:
    """A server on aioquic's own QUIC that answers each request as told; its port."""

    class Wrong(QuicConnectionProtocol):
        def quic_event_received(self, event: QuicEvent) -> None:
            if isinstance(event, StreamDataReceived) and event.end_stream and event.stream_id % 4 == 0:
                if event.stream_id == 0 and opening:
                    self._quic.send_stream_data(3, opening)
                respond(self, event.stream_id)

    certs = certificates()
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn])
    configuration.load_cert_chain(certs.certificate, certs.private_key)
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=Wrong), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        server.close()


def head(*fields: tuple[bytes, bytes]) -> bytes:
    return encode_frame(Frame.HEADERS, encode_block(fields))


OK = head((b":status", b"200"))
BODY = encode_frame(Frame.DATA, b"ok")


def ask_wrong(data: bytes, end: bool = True, opening: bytes = OPENING) -> Driver:
    async def run() -> Driver:
        def respond(protocol: QuicConnectionProtocol, stream_id: int) -> None:
            protocol._quic.send_stream_data(stream_id, data, end_stream=end)

        async with answering(respond, opening=opening) as port:
            return await load(port, exchange(Opcode.HEALTH), 3)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        OK + BODY,
        head((b":status", b"103"), (b"link", b"x")) + OK + BODY,
        OK + encode_frame(Frame.DATA, b"o") + encode_frame(Frame.DATA, b"k"),
        OK + BODY + head((b"checksum", b"1")),
        b"\x21\x01x" + OK + b"\x21\x00" + BODY + b"\x21\x02xx",
        head((b":status", b"200"), (b"content-length", b"2")) + BODY,
    ],
)
def test_right_answers_of_every_form(data: bytes) -> None:
    driver = ask_wrong(data)
    assert (len(driver.done), driver.failed, driver.error) == (3, [], None)


@pytest.mark.parametrize(
    "data",
    [
        head((b":status", b"200"), (b"content-length", b"3")) + BODY,
        head((b"no-status", b"200")) + BODY,
        head((b":status", b"2000")) + BODY,
        head((b":status", b"101")) + BODY,
        head((b":status", b"200"), (b"Upper", b"x")) + BODY,
        head((b":status", b"200"), (b"connection", b"close")) + BODY,
        head((b":status", b"100")),
        OK + BODY + OK,
        b"",
    ],
)
def test_malformed_answers_fail_by_themselves(data: bytes) -> None:
    driver = ask_wrong(data)
    assert (driver.done, driver.kinds, driver.error) == ([], ["protocol"] * 3, None)


@pytest.mark.parametrize(
    ("data", "opening", "code"),
    [
        (BODY, OPENING, ErrorCode.FRAME_UNEXPECTED),
        (OK + BODY[:-1], OPENING, ErrorCode.FRAME_ERROR),
        (encode_frame(Frame.HEADERS, b"\x02\x00\x80"), OPENING, ErrorCode.QPACK_DECOMPRESSION_FAILED),
        (OK + encode_frame(Frame.PUSH_PROMISE, b"\x00") + BODY, OPENING, ErrorCode.ID_ERROR),
        (OK + encode_frame(Frame.SETTINGS, b"") + BODY, OPENING, ErrorCode.FRAME_UNEXPECTED),
        (OK[:3], OPENING[:1] + encode_frame(Frame.GOAWAY, b"\x00"), ErrorCode.MISSING_SETTINGS),
        (OK[:3], OPENING + encode_frame(Frame.GOAWAY, b"\x01"), ErrorCode.ID_ERROR),
        (OK[:3], OPENING + encode_frame(Frame.MAX_PUSH_ID, b"\x01"), ErrorCode.FRAME_UNEXPECTED),
        (OK[:3], b"\x01\x00", ErrorCode.ID_ERROR),
    ],
)
def test_a_server_that_breaks_the_protocol_loses_the_connection(data: bytes, opening: bytes, code: ErrorCode) -> None:
    driver = ask_wrong(data, end=opening == OPENING, opening=opening)
    assert isinstance(driver.error, ProtocolError)
    assert driver.error.code == code
    assert driver.done == []


def test_goaway_fails_what_is_not_answered() -> None:
    driver = ask_wrong(OK[:3], end=False, opening=OPENING + encode_frame(Frame.GOAWAY, b"\x00"))
    assert driver.kinds == ["closed"]  # of a server that takes nothing at all
    assert driver.client.closing


def test_a_reset_stream() -> None:
    async def run() -> Driver:
        def respond(protocol: QuicConnectionProtocol, stream_id: int) -> None:
            protocol._quic.reset_stream(stream_id, ErrorCode.REQUEST_REJECTED)

        async with answering(respond) as port:
            return await load(port, exchange(Opcode.HEALTH), 3)

    driver = asyncio.run(run())
    assert (driver.done, driver.kinds, driver.error) == ([], ["reset"] * 3, None)


@pytest.mark.parametrize("client_type", [Http3Publisher, SseHttp3Subscriber])
def test_who_publishes_or_subscribes_is_told_of_a_reset_stream(client_type: type[Any]) -> None:
    """As of a lost connection, which another is opened for."""

    async def run() -> Exception | None:
        def respond(protocol: QuicConnectionProtocol, stream_id: int) -> None:
            protocol._quic.reset_stream(stream_id, ErrorCode.EXCESSIVE_LOAD)

        async with answering(respond) as port, asyncio.timeout(DEADLINE_S):
            client = client_type("news", f"localhost:{port}", "https")
            driver = Driver(client, 1, 1)
            await client.connect("127.0.0.1", port, trusting(), driver)
            if client_type is Http3Publisher:
                client.publish(b"event")
            await driver.over.wait()
            client.close()
            return driver.error

    error = asyncio.run(run())
    assert isinstance(error, ProtocolError)
    assert "gave up a stream: reset" in str(error)


@BOTH
def test_a_server_of_another_protocol(client_type: Any) -> None:
    async def run() -> None:
        async with answering(lambda *_: None, alpn="hq-interop") as port:
            with pytest.raises(ProtocolError, match="no_application_protocol") as raised:
                await load(port, exchange(Opcode.HEALTH), client_type=client_type)
            assert raised.value.code == 0x178

    asyncio.run(run())


def test_answers_that_change_while_one_arrives() -> None:
    """An answer whose first piece equals the one learnt, and whose rest comes after another one was learnt."""

    async def run() -> Driver:
        def answer(date: bytes) -> bytes:
            return head((b":status", b"200"), (b"date", date)) + BODY

        old, new = answer(b"x" * 40 + b"1"), answer(b"x" * 40 + b"2")

        def respond(protocol: QuicConnectionProtocol, stream_id: int) -> None:
            send = protocol._quic.send_stream_data
            if stream_id == 0:
                send(0, old, end_stream=True)
            elif stream_id == 4:
                send(4, old[:20])
            elif stream_id == 8:
                send(8, new, end_stream=True)
                asyncio.get_running_loop().call_later(0.02, finish, protocol)

        def finish(protocol: QuicConnectionProtocol) -> None:
            protocol._quic.send_stream_data(4, old[20:], end_stream=True)
            protocol.transmit()

        async with answering(respond) as port:
            client = Http3Client(exchange(Opcode.HEALTH), "localhost", True)
            driver = Driver(client, 1, 1)
            async with asyncio.timeout(DEADLINE_S):
                await client.connect("127.0.0.1", port, trusting(), driver)
                driver.start()
                await driver.over.wait()
                driver.over.clear()
                driver._left = driver._in_flight = 2
                driver.start()
                await driver.over.wait()
            client.close()
            return driver

    driver = asyncio.run(run())
    assert (driver.done, driver.failed, driver.error) == ([0, 8, 4], [], None)


@BOTH
def test_hypercorn(client_type: Any, serve: Callable[..., ServerProcess]) -> None:
    server = serve("http3", stack="hypercorn")
    for asked in (exchange(Opcode.ECHO, 100), exchange(Opcode.ECHO, 30_000), exchange(Opcode.BYTES, 50_000, b=3000)):
        driver = asyncio.run(load(server.port, asked, 30, 5, client_type))
        assert (len(driver.done), driver.failed, driver.error) == (30, [], None)
