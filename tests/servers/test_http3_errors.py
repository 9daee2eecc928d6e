"""What the HTTP/3 server does with clients that break the rules: the error that the specification names, and others are
served on."""

import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from aioquic.asyncio.client import connect
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import pull_quic_header

from bench.certificates import certificates
from bench.wire.http3 import ErrorCode, Frame, encode_block, encode_frame
from servers.http3 import Http3Endpoint
from tests.servers.http3_harness import Answer, RawOracle, asking, serving

GET = encode_frame(
    Frame.HEADERS,
    encode_block([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/health")]),
)
POST = encode_frame(
    Frame.HEADERS,
    encode_block(
        [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/echo"),
            (b"content-length", b"3"),
        ]
    ),
)
TRAILERS = encode_frame(Frame.HEADERS, encode_block([(b"a", b"b")]))
SETTINGS = b"\x00" + encode_frame(Frame.SETTINGS, b"")


async def still_serving(port: int) -> None:
    async with asking(port) as client:
        assert (await client.ask("GET", "/health")).body == b"ok"


def run(talk: Callable[[RawOracle], None], error_code: int) -> None:
    """The connection ends with that error, and the server goes on."""

    async def main() -> None:
        async with serving() as (port, _, _):
            async with asking(port, RawOracle) as client:
                talk(client)
                client.transmit()
                ended = await client.end()
                assert (ended.error_code, ended.frame_type) == (error_code, None)
            await still_serving(port)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (encode_frame(Frame.HEADERS, b"\x02\x00\x80"), ErrorCode.QPACK_DECOMPRESSION_FAILED),  # a dynamic entry
        (encode_frame(Frame.HEADERS, b"\xff\xff\xff\xff"), ErrorCode.QPACK_DECOMPRESSION_FAILED),
        (encode_frame(Frame.HEADERS, b""), ErrorCode.QPACK_DECOMPRESSION_FAILED),
        (encode_frame(Frame.DATA, b"x"), ErrorCode.FRAME_UNEXPECTED),
        (GET + TRAILERS + TRAILERS, ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(Frame.SETTINGS, b""), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(Frame.GOAWAY, b"\x00"), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(Frame.PUSH_PROMISE, b"\x00"), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(0x2, b""), ErrorCode.FRAME_UNEXPECTED),  # PRIORITY, of HTTP/2
        (GET[:-1], ErrorCode.FRAME_ERROR),
        (GET + b"\x00\x05abc", ErrorCode.FRAME_ERROR),
        (GET + b"\x00", ErrorCode.FRAME_ERROR),
        (b"\x01\x80\x01\x00\x00", ErrorCode.EXCESSIVE_LOAD),
    ],
    ids=repr,
)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_wrong_frames_in_requests(data: bytes, error: ErrorCode, cut: bool) -> None:
    def talk(client: RawOracle) -> None:
        if cut:
            for at in range(len(data)):
                client.quic.send_stream_data(0, data[at : at + 1])
                client.transmit()
            client.quic.send_stream_data(0, b"", end_stream=True)
        else:
            client.quic.send_stream_data(0, data, end_stream=True)

    run(talk, error)


@pytest.mark.parametrize(
    ("streams", "error"),
    [
        ([(2, b"\x00" + encode_frame(Frame.GOAWAY, b"\x00"), False)], ErrorCode.MISSING_SETTINGS),
        ([(2, SETTINGS, False), (6, SETTINGS, False)], ErrorCode.STREAM_CREATION_ERROR),
        ([(2, b"\x01\x00", False)], ErrorCode.STREAM_CREATION_ERROR),  # a client's push
        ([(2, SETTINGS, True)], ErrorCode.CLOSED_CRITICAL_STREAM),
        ([(2, SETTINGS + encode_frame(Frame.SETTINGS, b""), False)], ErrorCode.FRAME_UNEXPECTED),
        ([(2, SETTINGS + encode_frame(Frame.DATA, b""), False)], ErrorCode.FRAME_UNEXPECTED),
        ([(2, SETTINGS + encode_frame(0x6, b""), False)], ErrorCode.FRAME_UNEXPECTED),
        ([(2, SETTINGS + encode_frame(Frame.GOAWAY, b"\x00\x00"), False)], ErrorCode.FRAME_ERROR),
        ([(2, SETTINGS + encode_frame(Frame.CANCEL_PUSH, b"\x00"), False)], ErrorCode.ID_ERROR),
        ([(2, SETTINGS + b"\x0d\x01\x05\x0d\x01\x04", False)], ErrorCode.ID_ERROR),  # MAX_PUSH_ID goes down
        ([(2, b"\x00" + encode_frame(Frame.SETTINGS, b"\x06"), False)], ErrorCode.FRAME_ERROR),
        ([(2, b"\x00" + encode_frame(Frame.SETTINGS, b"\x06\x01\x06\x01"), False)], ErrorCode.SETTINGS_ERROR),
        ([(2, b"\x00" + encode_frame(Frame.SETTINGS, b"\x02\x01"), False)], ErrorCode.SETTINGS_ERROR),
        ([(2, b"\x00\x04\x80\x01\x00\x00", False)], ErrorCode.EXCESSIVE_LOAD),
        ([(2, b"\x02\x3f\xe1\x1f", False)], ErrorCode.QPACK_ENCODER_STREAM_ERROR),  # a table of 4096 bytes
        ([(2, b"\x03\x80", False)], ErrorCode.QPACK_DECODER_STREAM_ERROR),  # an entry that was never sent
    ],
)
def test_wrong_control_streams(streams: list[tuple[int, bytes, bool]], error: ErrorCode) -> None:
    def talk(client: RawOracle) -> None:
        for stream_id, data, is_end in streams:
            client.quic.send_stream_data(stream_id, data, is_end)

    run(talk, error)


def test_a_critical_stream_that_is_reset() -> None:
    async def main() -> None:
        async with serving() as (port, _, _), asking(port, RawOracle) as client:
            client.quic.send_stream_data(2, SETTINGS)
            client.transmit()
            await client.ping()
            client.quic.reset_stream(2, 0x100)
            client.transmit()
            assert (await client.end()).error_code == ErrorCode.CLOSED_CRITICAL_STREAM

    asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (POST + encode_frame(Frame.DATA, b"four"), ErrorCode.MESSAGE_ERROR),
        (POST + encode_frame(Frame.DATA, b"f") + encode_frame(Frame.DATA, b"o"), ErrorCode.MESSAGE_ERROR),
        (encode_frame(Frame.HEADERS, encode_block([(b":method", b"GET")])), ErrorCode.MESSAGE_ERROR),
        (encode_frame(Frame.HEADERS, encode_block([(b"a", b"trailer")])), ErrorCode.MESSAGE_ERROR),
        (encode_frame(Frame.HEADERS, encode_block([(b"UPPER", b"x")])) + b"\x21\x00", ErrorCode.MESSAGE_ERROR),
        (b"\x21\x03abc", ErrorCode.REQUEST_INCOMPLETE),  # a frame of no known type
        (b"", ErrorCode.REQUEST_INCOMPLETE),
    ],
)
def test_wrong_messages_end_their_stream_only(data: bytes, code: ErrorCode) -> None:
    async def main() -> None:
        async with serving() as (port, _, _), asking(port, RawOracle) as client:
            client.answers[0] = Answer()
            client.quic.send_stream_data(0, data, end_stream=True)
            client.transmit()
            assert (await client.answer(0)).reset_code == code
            await client.ping()
            assert client.ended is None

    asyncio.run(main())


def test_what_is_unknown_is_ignored() -> None:
    async def main() -> None:
        async with serving() as (port, _, _), asking(port, RawOracle) as client:
            client.answers[0] = Answer()
            client.quic.send_stream_data(2, SETTINGS + b"\x21\x05abcde" + encode_frame(Frame.MAX_PUSH_ID, b"\x07"))
            client.quic.send_stream_data(6, b"\x21 whatever", end_stream=True)
            client.quic.send_stream_data(0, b"\x21\x03abc" + GET + b"\x21\x00", end_stream=True)
            client.quic.stop_stream(0, 0x10C)  # an answer to it would be a stream error here: only the request counts
            client.transmit()
            await client.ping()
            await client.ping()
            assert client.ended is None

    asyncio.run(main())


@pytest.mark.parametrize("alpn", [["h2"], ["hq-interop", "http/1.1"]])
def test_no_protocol_in_common(alpn: list[str]) -> None:
    async def refused() -> None:
        settings = QuicConfiguration(is_client=True, alpn_protocols=alpn, server_name="localhost")
        settings.load_verify_locations(cadata=Path(certificates().authority).read_bytes())
        async with serving() as (port, _, _):
            with pytest.raises(ConnectionError):
                async with connect("127.0.0.1", port, configuration=settings, create_protocol=RawOracle):
                    pass
            await still_serving(port)

    asyncio.run(refused())


async def exchange_datagrams(port: int, datagrams: list[bytes]) -> list[bytes]:
    """What the server sends back at once; a health check marks the end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        for at, data in enumerate(datagrams):
            sock.send(data)
            if at % 50 == 49:
                await still_serving(port)
        await still_serving(port)
        received = []
        while True:
            try:
                received.append(sock.recv(65_536))
            except BlockingIOError:
                return received


def test_version_negotiation() -> None:
    async def main() -> None:
        async with serving() as (port, _, _):
            cid, other = b"12345678", b"abcdefgh"
            head = b"\xc0" + (0x0A1A2A3A).to_bytes(4, "big") + b"\x08" + cid + b"\x08" + other
            answers = await exchange_datagrams(port, [head + bytes(1200), head + bytes(100)])
            (answer,) = answers  # a short datagram gets none: it would be amplified
            header = pull_quic_header(Buffer(data=answer))
            assert (header.version, header.destination_cid, header.source_cid) == (0, other, cid)
            assert 1 in header.supported_versions
            # Version negotiation is not answered with version negotiation.
            assert await exchange_datagrams(port, [answer + bytes(1200)]) == []

    asyncio.run(main())


def test_a_first_packet_that_cannot_be_decrypted_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with serving() as (port, server, _):
            before = len(server._connections)
            initial = b"\xc3\x00\x00\x00\x01\x0812345678\x08abcdefgh\x00" + (1150 | 0x4000).to_bytes(2, "big")
            assert await exchange_datagrams(port, [initial + bytes(1200)] * 3) == []
            assert sum(not connection.quic.is_closing for connection in server._connections) == before == 0
            assert all(b"12345678" not in connection.cids for connection in server._connections)

    asyncio.run(main())


def test_random_datagrams() -> None:
    """Noise, and noise behind headers that look right; nothing of it is kept."""
    source = random.Random(3)
    datagrams = []
    for number in range(400):
        data = bytearray(source.randbytes(source.choice((1, 5, 20, 30, 100, 1200, 1300))))
        if number % 3 == 0 and len(data) > 25:
            data[:6] = b"\xc0\x00\x00\x00\x01\x08"
        datagrams.append(bytes(data))

    async def main() -> None:
        async with serving() as (port, server, _):
            await exchange_datagrams(port, datagrams)
            await exchange_datagrams(port, [b"\x40"])
            assert all(connection.quic.is_closing for connection in server._connections)

    asyncio.run(main())


def test_mutated_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real datagrams of a client with some of their bytes changed, cut or repeated: before the right ones, so that the
    server must not let itself be confused."""
    source = random.Random(4)
    received = Http3Endpoint._datagram_received

    def confused(self: Http3Endpoint, data: bytes, address: object, now: float) -> None:
        for _ in range(3):
            wrong = bytearray(data)
            match source.randrange(4):
                case 0:
                    wrong[source.randrange(len(wrong))] ^= 1 << source.randrange(8)
                case 1:
                    del wrong[source.randrange(1, len(wrong) + 1) :]
                case 2:
                    at = source.randrange(len(wrong))
                    wrong[at:at] = source.randbytes(4)
                case 3:
                    wrong = bytearray(source.randbytes(len(wrong)))
                    wrong[: min(9, len(data))] = data[:9]
            if wrong:
                received(self, bytes(wrong), address, now)
        received(self, data, address, now)
        received(self, data, address, now)  # and once more

    monkeypatch.setattr(Http3Endpoint, "_datagram_received", confused)

    async def main() -> None:
        async with serving() as (port, _, _):
            for _ in range(5):
                async with asking(port) as client:
                    for size in (0, 10, 3000):
                        assert (await client.ask("POST", "/echo", b"x" * size)).body == b"x" * size

    asyncio.run(main())


def test_mutated_packets_under_the_right_keys() -> None:
    """Frames of QUIC with bytes changed before they are encrypted: the server may close the connection,
    and nothing else happens."""
    source = random.Random(5)

    async def main() -> None:
        async with serving() as (port, _, _):
            for _ in range(25):
                async with asking(port, RawOracle) as client:
                    await client.ping()
                    crypto = client.quic._cryptos[next(e for e in client.quic._cryptos if e.name == "ONE_RTT")]
                    encrypt = crypto.encrypt_packet

                    def mutated(header: bytes, payload: bytes, number: int) -> bytes:
                        wrong = bytearray(payload)
                        for _ in range(source.choice((1, 1, 3))):
                            wrong[source.randrange(min(len(wrong), 60))] = source.randrange(256)
                        return encrypt(header, bytes(wrong), number)  # noqa: B023  the loop's own

                    crypto.encrypt_packet = mutated
                    client.quic.send_stream_data(2, SETTINGS)
                    for stream_id in range(0, 20, 4):
                        client.quic.send_stream_data(stream_id, GET, end_stream=True)
                        client.transmit()
                        await asyncio.sleep(0)
                    crypto.encrypt_packet = encrypt
            await still_serving(port)

    asyncio.run(main())
