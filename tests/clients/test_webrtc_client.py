"""The WebRTC clients against the server of this project, in this process and in one of its own, and against servers
that do all sorts of things to an offer."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiortc import RTCSctpTransport

from bench import contract
from bench.certificates import certificates
from bench.contract import Exchange, Opcode, Security
from bench.errors import ErrorKind, ProtocolError, UnsupportedError
from bench.wire.webrtc_association import Association
from bench.wire.webrtc_signalling import MAX_PAYLOAD_BYTES, decode_description
from clients.webrtc import UnreliableWebrtcClient, WebrtcClient
from servers.webrtc_peer import WebrtcPeer
from tests.servers.execution_helpers import Serve
from tests.servers.webrtc_harness import DEADLINE_S, Server, run, served, until

CLIENTS = (WebrtcClient, UnreliableWebrtcClient)
ECHO = contract.exchange(Opcode.ECHO, 64)


class Link:
    """The engine's side, which only remembers."""

    def __init__(self, client: WebrtcClient) -> None:
        self.client = client
        self.answers: list[Hashable] = []
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self.ends: list[Exception | None] = []

    def answered(self, ids: Sequence[Hashable]) -> None:
        self.answers += ids
        self.failures += self.client.failures
        self.client.failures.clear()

    def lost(self, error: Exception | None) -> None:
        self.ends.append(error)


@contextlib.asynccontextmanager
async def connected(
    server: Any,
    exchange: Exchange = ECHO,
    kind: type[WebrtcClient] = WebrtcClient,
    check_content: bool = True,
    security: Security | None = None,
) -> AsyncIterator[tuple[WebrtcClient, Link]]:
    """A client that is connected; once closed it says so, and only once."""
    client = kind(exchange, f"{server.host}:{server.port}", check_content)
    link = Link(client)
    async with asyncio.timeout(DEADLINE_S):
        await client.connect(server.host, server.port, security, link)
    yield client, link
    client.close()
    client.close()
    await until(lambda: link.ends, "the link hears of the end")
    assert len(link.ends) == 1
    assert client.closing


class TestExchanges:
    """With the server of this project."""

    @pytest.mark.parametrize("kind", CLIENTS)
    @pytest.mark.parametrize(
        "exchange",
        [
            ECHO,
            contract.exchange(Opcode.ECHO),
            contract.exchange(Opcode.BYTES, 10_000),
            contract.exchange(Opcode.UPLOAD, 10_000),
            contract.exchange(Opcode.WORK, a=10, b=1),
            contract.exchange(Opcode.HEALTH),
        ],
        ids=lambda exchange: f"{exchange.opcode.name}-{len(exchange.body)}",
    )
    def test_every_operation(self, exchange: Exchange, kind: type[WebrtcClient]) -> None:
        async def test() -> None:
            async with served() as server, connected(server, exchange, kind) as (client, link):
                assert client.max_in_flight > 100
                asked = [*client.request(1)[0], *client.request(20)[0]]
                await until(lambda: len(link.answers) == 21, "all are answered")
                assert sorted(map(str, link.answers)) == sorted(map(str, asked))
                assert len(set(asked)) == 21
                assert not link.failures

        run(test)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_the_largest_payload(self, host: str) -> None:
        async def test() -> None:
            exchange = contract.exchange(Opcode.ECHO, MAX_PAYLOAD_BYTES)
            async with served(host) as server, connected(server, exchange) as (client, link):
                assert client.max_in_flight == 64
                client.request(8)
                await until(lambda: len(link.answers) == 8, "all are answered")

        run(test)

    @pytest.mark.parametrize("kind", CLIENTS)
    def test_a_larger_payload_is_not_supported(self, kind: type[WebrtcClient]) -> None:
        for opcode in (Opcode.ECHO, Opcode.BYTES):
            with pytest.raises(UnsupportedError, match=r"webrtc carries each request.* at most 262124 bytes; choose"):
                kind(contract.exchange(opcode, MAX_PAYLOAD_BYTES + 1), "", True)

    @pytest.mark.parametrize(("kind", "ordered", "retransmits"), [(CLIENTS[0], True, None), (CLIENTS[1], False, 0)])
    def test_the_channel_is_as_reliable_as_it_says(
        self, kind: type[WebrtcClient], ordered: bool, retransmits: int | None
    ) -> None:
        async def test() -> None:
            async with served() as server, connected(server, kind=kind):
                (peer,) = (found for found in server.worker.connections if isinstance(found, WebrtcPeer))
                (channel,) = peer._peer.sctp._data_channels.values()
                assert (channel.ordered, channel.maxRetransmits) == (ordered, retransmits)

        run(test)

    @pytest.mark.parametrize(
        ("exchange", "check_content", "kinds"),
        [
            (replace(ECHO, answer=b"another"), True, ["content"] * 3),
            (replace(ECHO, answer=b"another"), False, []),
            (replace(contract.exchange(Opcode.WORK), b=1 << 31), True, ["status"] * 3),
            (replace(contract.exchange(Opcode.WORK), b=1 << 31), False, ["status"] * 3),
        ],
    )
    def test_answers_are_checked(self, exchange: Exchange, check_content: bool, kinds: list[ErrorKind]) -> None:
        async def test() -> None:
            async with served() as server, connected(server, exchange, check_content=check_content) as (client, link):
                ids, pieces = client.request(3)
                assert not pieces
                await until(lambda: len(link.answers) + len(link.failures) == 3, "all are over")
                assert link.failures == list(zip(ids, kinds, strict=False))

        run(test)

    def test_a_late_answer_is_ignored(self) -> None:
        async def test() -> None:
            async with served() as server, connected(server, contract.exchange(Opcode.WORK, b=30)) as (client, link):
                late, good = client.request(2)[0]
                assert client.abandon(late)
                await until(lambda: link.answers, "the other is answered")
                await asyncio.sleep(0.02)
                assert link.answers == [good]
                assert not link.failures

        run(test)

    @pytest.mark.parametrize("kind", CLIENTS)
    def test_a_process_over_tls_and_in_the_clear(self, serve: Serve, kind: type[WebrtcClient]) -> None:
        for tls in ("off", "1.2"):
            process = serve("webrtc", tls=tls)
            security = None
            if tls != "off":
                security = Security(tls, str(certificates().authority), process.host, insecure=False)

            async def test(process: Any = process, security: Security | None = security) -> None:
                async with connected(process, kind=kind, security=security) as (client, link):
                    client.request(500)
                    await until(lambda: len(link.answers) == 500, "all are answered")

            run(test)
            process.stop()
            assert process.stderr == ""


class TestPackets:
    """What `bench.wire.webrtc_association` makes of aiortc's SCTP."""

    def test_a_turn_of_messages_leaves_in_few_packets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[bytes] = []
        transmit = RTCSctpTransport._send_chunk

        async def count(self: RTCSctpTransport, chunk: Any) -> None:
            sent.append(bytes(chunk))
            await transmit(self, chunk)

        monkeypatch.setattr(RTCSctpTransport, "_send_chunk", count)

        async def test() -> None:
            async with served() as server, connected(server) as (client, link):
                client.request(1)
                await until(lambda: link.answers, "the first is answered")
                sent.clear()
                for number in range(2, 22):
                    client.request(50)
                    await until(lambda: len(link.answers) == 1 + 50 * (number - 1), "all are answered")  # noqa: B023  # waited for here
                # 1,000 messages of 84 bytes there and back, 11 of which fit into a packet.
                assert len(sent) < 2 * 1000 / 11 * 2
                assert max(map(len, sent)) <= 1189 - 12

        run(test)

    @pytest.mark.parametrize("kind", CLIENTS)
    def test_what_is_lost_is_sent_again_if_it_is_to_be(
        self, kind: type[WebrtcClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = 0
        transmit = Association._send_chunks

        async def lossy(self: Association) -> None:
            nonlocal lost
            if self._chunks and enabled and next(numbers) % 10 == 7:
                lost += len(self._chunks)
                self._chunks.clear()
            await transmit(self)

        monkeypatch.setattr(Association, "_send_chunks", lossy)
        enabled = False
        numbers = iter(range(1 << 30))

        async def test() -> None:
            nonlocal enabled
            async with served() as server, connected(server, kind=kind) as (client, link):
                enabled = True
                total = 0
                for _ in range(40):
                    total += len(client.request(5)[0])
                    await asyncio.sleep(0.001)
                enabled = False
                if kind is WebrtcClient:
                    await until(lambda: len(link.answers) == total, "all are answered")
                else:
                    last = client.request(1)[0][0]
                    await until(lambda: last in link.answers, "the last is answered")
                    assert total / 3 < len(link.answers) < total
                assert len(set(link.answers)) == len(link.answers)
                assert not link.failures
                assert lost

        run(test)


@contextlib.asynccontextmanager
async def signalling(reply: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[Server]:
    """A server that answers an offer as it is told, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /webrtc/offer HTTP/1.1\r\nhost: 127.0.0.1:")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        writer.write(await reply(await reader.readexactly(length)))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = Server("127.0.0.1")
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def swap_fingerprints(sdp: str) -> str:
    """The SDP of somebody else's certificate."""
    (name, value), *_ = decode_description(json.dumps({"type": "answer", "sdp": sdp}).encode(), "answer").fingerprints
    assert name == "sha-256"
    return sdp.replace(value, ":".join(reversed(value.split(":"))))


class TestOpening:
    """Connections that cannot be opened."""

    @pytest.mark.parametrize(
        ("reply", "error", "why"),
        [
            (b"", ConnectionResetError, "closed the connection instead of answering"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", ConnectionResetError, "closed the connection"),
            (b"garbage\r\n\r\n", ProtocolError, "malformed answer"),
            (http(404, b"no such operation\n"), ProtocolError, "refused the offer with 404: no such operation"),
            (http(500, b""), ProtocolError, "refused the offer with 500: "),
            (http(200, b"ok"), ProtocolError, "the answer is not JSON"),
            (http(200, b'{"type": "offer", "sdp": ""}'), ProtocolError, 'expected {"type": "answer"'),
            (http(200, b"x" * 70_000), ProtocolError, "more than 65536 bytes"),
        ],
    )
    def test_a_reply_that_is_no_answer(self, reply: bytes, error: type[Exception], why: str) -> None:
        async def answer(_offer: bytes) -> bytes:
            return reply

        async def test() -> None:
            async with signalling(answer) as server:
                client = WebrtcClient(ECHO, f"{server.host}:{server.port}", True)
                link = Link(client)
                with pytest.raises(error) as raised:
                    await client.connect(server.host, server.port, None, link)
                assert why in str(raised.value)
                assert not link.ends

        run(test)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda sdp: sdp.replace("a=candidate:", "a=candidate:x y z "), "malformed candidate"),
            (lambda sdp: sdp.replace("a=candidate:", "a=not:"), "no way to the peer was found"),
            (swap_fingerprints, "the handshake with the peer failed"),
        ],
    )
    def test_an_answer_that_leads_nowhere(self, change: Callable[[str], str], why: str) -> None:
        async def test() -> None:
            async with served() as there:

                async def answer(offer: bytes) -> bytes:
                    status, body = await there.post(offer)
                    found = json.loads(body)
                    return http(status, json.dumps(found | {"sdp": change(found["sdp"])}).encode())

                async with signalling(answer) as server:
                    client = WebrtcClient(ECHO, f"{server.host}:{server.port}", True)
                    with pytest.raises(ProtocolError, match=why):
                        await client.connect(server.host, server.port, None, Link(client))

        run(test)

    def test_nobody_listens(self) -> None:
        async def test() -> None:
            async with signalling(lambda _: asyncio.sleep(0, b"")) as server:
                pass
            client = WebrtcClient(ECHO, "x", True)
            with pytest.raises(ConnectionRefusedError):
                await client.connect(server.host, server.port, None, Link(client))

        run(test)

    def test_a_server_that_does_not_know_the_way(self, serve: Serve) -> None:
        process = serve("http1")

        async def test() -> None:
            client = WebrtcClient(ECHO, "x", True)
            with pytest.raises(ProtocolError, match="refused the offer with 404: no such operation: /webrtc/offer"):
                await client.connect(process.host, process.port, None, Link(client))

        run(test)

    def test_a_certificate_of_another_authority(self, serve: Serve) -> None:
        process = serve("webrtc", tls="1.2")

        async def test() -> None:
            client = WebrtcClient(ECHO, "x", True)
            with pytest.raises(ssl.SSLCertVerificationError):
                await client.connect(process.host, process.port, Security("1.2", "", process.host, False), Link(client))
            insecure = Security("1.2", "", process.host, insecure=True)
            async with connected(process, security=insecure) as (client, link):
                client.request(1)
                await until(lambda: link.answers, "it is answered")

        run(test)

    def test_giving_up_leaves_nothing(self) -> None:
        async def never(_offer: bytes) -> bytes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.Event().wait()
            return b""

        async def test() -> None:
            async with signalling(never) as server:
                client = WebrtcClient(ECHO, f"{server.host}:{server.port}", True)
                link = Link(client)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.connect(server.host, server.port, None, link)
                assert not link.ends

        run(test)


class TestEnds:
    """Connections that the server ends."""

    def test_a_server_that_stops_ends_the_connection(self, serve: Serve) -> None:
        process = serve("webrtc", tls="off")

        async def test() -> None:
            client = WebrtcClient(ECHO, "x", True)
            link = Link(client)
            await client.connect(process.host, process.port, None, link)
            client.request(1)
            await until(lambda: link.answers, "it is answered")
            await asyncio.to_thread(process.stop)
            await until(lambda: link.ends, "the link hears of the end")
            client.request(1)  # goes nowhere, and raises nothing
            client.close()
            assert link.ends == [None]

        run(test)
        assert process.stderr == ""

    def test_a_drained_server_answers_what_was_asked(self) -> None:
        async def test() -> None:
            async with served() as server:
                client = WebrtcClient(contract.exchange(Opcode.WORK, b=100), "x", True)
                link = Link(client)
                await client.connect(server.host, server.port, None, link)
                client.request(10)
                await until(lambda: server.slot.values[3] + server.slot.values[2] > 11, "they are in flight")
                server.worker.drain()
                await until(lambda: link.ends, "the link hears of the end")
                assert len(link.answers) == 10

        run(test)

    @pytest.mark.parametrize("message", ["text", b"garbage", bytes(20)])
    def test_an_answer_that_is_no_frame_ends_the_connection(self, message: bytes | str) -> None:
        async def test() -> None:
            async with served() as server:
                client = WebrtcClient(ECHO, "x", True)
                link = Link(client)
                await client.connect(server.host, server.port, None, link)
                (peer,) = (found for found in server.worker.connections if isinstance(found, WebrtcPeer))
                (channel,) = peer._peer.sctp._data_channels.values()
                channel.send(message)
                await until(lambda: link.ends, "the link hears of the end")
                assert isinstance(link.ends[0], ProtocolError)

        run(test)
