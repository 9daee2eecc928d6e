"""The WebSocket client against servers that answer well, badly and in pieces, and against real ones."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from client_driver import drive
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websockets

from bench.contract import MAX_BODY_BYTES, Exchange, exchange
from bench.contract import Opcode as Operation
from bench.errors import ErrorKind, ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.websocket import BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, MessageReader, encode_close, encode_frame
from clients.websocket import CompressedWebsocketClient, WebsocketClient, WebsocketPublisher, WebsocketSubscriber

Serve = Callable[..., ServerProcess]

ECHO = exchange(Operation.ECHO, 64)
GOOD = encode_frame(FIN | BINARY, ECHO.answer)


def acceptance(opening: bytes) -> bytes:
    """What a server of websockets answers."""
    server = ServerProtocol()
    server.receive_data(opening)
    (request,) = server.events_received()
    return server.accept(request).serialize()  # type: ignore[arg-type]


def open_client(client: Any) -> Any:
    client.open()
    (opening,) = client.outgoing
    client.outgoing.clear()
    assert client.max_in_flight == 0
    assert not client.feed(acceptance(opening))
    assert client.max_in_flight > 0
    return client


def opened(wanted: Exchange = ECHO, check_content: bool = True) -> WebsocketClient:
    client: WebsocketClient = open_client(WebsocketClient(wanted, "127.0.0.1:80", check_content))
    return client


class Sent(MessageReader):
    """What a client has sent."""

    peer_masks = True

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, bytes]] = []

    def whole_message(self, opcode: int, payload: bytes) -> None:
        self.found.append((opcode, payload))

    def _take_control(self, opcode: int, payload: bytes) -> None:
        self.found.append((opcode, payload))


def sent(data: list[bytes]) -> list[tuple[int, bytes]]:
    reader = Sent()
    reader.parse(b"".join(data))
    return reader.found


# Opening


def test_the_opening_request_names_path_and_authority_and_a_new_key_each_time() -> None:
    requests = []
    for _ in range(2):
        client = WebsocketClient(exchange(Operation.BYTES, 5), "h:1", True)
        client.open()
        requests += client.outgoing
    assert all(request.startswith(b"GET /bytes/5 HTTP/1.1\r\nhost: h:1\r\n") for request in requests)
    assert requests[0] != requests[1]


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_the_answer_may_come_in_pieces_and_with_the_first_messages(size: int) -> None:
    client = WebsocketSubscriber("t", "h:1", "http")
    client.open()
    data = acceptance(client.outgoing[0]) + encode_frame(FIN | TEXT, b"1") + encode_frame(FIN | TEXT, b"2")
    events = [event for start in range(0, len(data), size) for event in client.feed(data[start : start + size])]
    assert events == [b"1", b"2"]
    assert client.max_in_flight == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"\x82\x05hello\r\n\r\n",
        b"x" * 20_000,
    ],
    ids=["refused", "without a proof", "no HTTP", "without an end"],
)
def test_a_connection_that_is_not_opened_is_an_error(answer: bytes) -> None:
    client = WebsocketClient(ECHO, "h:1", True)
    client.open()
    with pytest.raises(ProtocolError):
        client.feed(answer)
    assert client.max_in_flight == 0


def test_extensions_that_were_not_offered_are_an_error() -> None:
    client = WebsocketClient(ECHO, "h:1", True)
    client.open()
    answer = acceptance(client.outgoing[0]).replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    with pytest.raises(ProtocolError) as error:
        client.feed(answer)
    assert error.value.code == 1010


def test_a_server_that_does_not_compress_is_an_error_if_that_was_wanted() -> None:
    client = CompressedWebsocketClient(ECHO, "h:1", True)
    client.open()
    assert b"\r\nsec-websocket-extensions: permessage-deflate; " in client.outgoing[0]
    with pytest.raises(ProtocolError) as error:
        client.feed(acceptance(client.outgoing[0]))
    assert error.value.code == 1010


# Exchanges


@pytest.mark.parametrize("count", [1, 5, 2000])
@pytest.mark.parametrize("wanted", [ECHO, exchange(Operation.HEALTH), exchange(Operation.ECHO, 100_000)])
def test_requests_are_masked_binary_messages(wanted: Exchange, count: int) -> None:
    client = opened(wanted)
    count = min(count, 3) if len(wanted.body) > 1000 else count
    ids, data = client.request(count)
    assert len(set(ids)) == count
    assert [payload for _, payload in sent_whole(data)] == [wanted.body] * count


def sent_whole(data: list[bytes]) -> list[tuple[int, bytes]]:
    """Messages of any size that a client has sent."""

    class Whole(MessageReader):
        peer_masks = True

        def message_begun(self, opcode: int) -> None:
            found.append((opcode, b""))

        def payload_received(self, data: bytes) -> None:
            found[-1] = (found[-1][0], found[-1][1] + data)

    found: list[tuple[int, bytes]] = []
    Whole().parse(b"".join(data))
    assert {opcode for opcode, _ in found} <= {BINARY}
    return found


def test_connections_have_masking_keys_of_their_own() -> None:
    keys = {opened().request(1)[1][0][2:6] for _ in range(20)}
    assert len(keys) >= 19


answers = st.sampled_from(["good", "good", "good", "pieces", "content", "text", "short", "long", "ping"])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(answers, min_size=1, max_size=12), st.booleans(), st.lists(st.integers(0, 10**5), max_size=12))
def test_answers_in_any_pieces_are_checked(made: list[str], check: bool, cuts: list[int]) -> None:
    client = opened(check_content=check)
    ids: Any = client.request(sum(kind != "ping" for kind in made))[0]
    numbers = iter(ids)
    completed, failures, data, pings = [], [], b"", 0
    for kind in made:
        if kind == "ping":
            data += encode_frame(FIN | PING, b"there?")
            pings += 1
            continue
        number = next(numbers)
        answer = {
            "good": GOOD,
            "pieces": encode_frame(BINARY, ECHO.answer[:5]) + encode_frame(FIN | CONTINUATION, ECHO.answer[5:]),
            "content": encode_frame(FIN | BINARY, ECHO.answer[::-1]),
            "text": encode_frame(FIN | TEXT, b"x" * 64),
            "short": encode_frame(FIN | BINARY, ECHO.answer[:-1]),
            "long": encode_frame(FIN | BINARY, ECHO.answer + b"x"),
        }[kind]
        data += answer
        if kind in ("good", "pieces") or not check:
            completed.append(number)
        else:
            failures.append((number, "content"))
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    found = [id_ for start, end in pairwise(edges) if start < end for id_ in client.feed(data[start:end])]
    assert found == completed
    assert client.failures == failures
    assert [payload for _, payload in sent(client.outgoing)] == [b"there?"] * pings
    assert not client.closing


@pytest.mark.parametrize("count", [1, 2, 7])
def test_expected_answers_are_not_parsed(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened()
    if count > 1:
        client.request(1)
        assert list(client.feed(GOOD)) == [0]
    monkeypatch.setattr(MessageReader, "parse", None)
    ids = client.request(count)[0]
    # The very first one is parsed: until then the client does not know that it is at rest.
    if count == 1:
        monkeypatch.undo()
        assert list(client.feed(GOOD)) == list(ids)
        monkeypatch.setattr(MessageReader, "parse", None)
        ids = client.request(1)[0]
    assert list(client.feed(GOOD * count)) == list(ids)


@pytest.mark.parametrize("check", [True, False])
def test_an_answer_asked_for_again_is_the_one_that_was_checked(check: bool) -> None:
    client = opened(check_content=check)
    client.request(1)
    client.feed(GOOD)
    assert client.again() is None  # nothing is in flight
    (number,), (request,) = client.request(1)
    answer, next_request = client.again() or (b"", bytes)
    assert answer == GOOD
    other = next_request()
    assert other[:2] == request[:2]
    assert other[2:6] != request[2:6]  # a masking key of its own
    assert sent([request]) == sent([other])
    client.feed(GOOD[:10])
    assert client.again() is None
    assert list(client.feed(GOOD[10:])) == [number]
    client.request(2)
    assert client.again() is None


@pytest.mark.parametrize("check", [True, False])
def test_answers_in_equal_pieces_are_counted_once(check: bool) -> None:
    for size in range(1, 3 * len(GOOD)):
        client = opened(check_content=check)
        ids: Any = client.request(200)[0]
        data = GOOD * 200
        found = [id_ for start in range(0, len(data), size) for id_ in client.feed(data[start : start + size])]
        assert found == list(ids)
        assert not client.failures


def test_an_answer_that_is_wrong_is_never_the_one_to_compare_with() -> None:
    wrong = encode_frame(FIN | BINARY, b"wrong")
    client = opened()
    for _ in range(3):
        client.request(1)
        assert not client.feed(wrong)
    assert client.failures == [(number, "content") for number in range(3)]
    again = client.again()
    assert again is None or again[0] == GOOD


@pytest.mark.parametrize(
    ("code", "first"),
    [(1000, "closed"), (1001, "closed"), (None, "closed"), (1002, "status"), (1009, "status"), (1011, "status")],
)
def test_a_server_that_closes_answers_nothing_more(code: int | None, first: ErrorKind) -> None:
    client = opened()
    client.request(3)
    close = encode_close(code, "why") if code else encode_frame(FIN | CLOSE, b"")
    assert list(client.feed(GOOD + close + GOOD)) == [0]
    assert client.failures == [(1, first), (2, "closed")]
    assert client.closing
    assert sent(client.outgoing) == [(CLOSE, code.to_bytes(2) if code else b"")]
    assert client.again() is None


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (encode_frame(FIN | BINARY, b"x", b"mask"), 1002),
        (encode_frame(FIN | TEXT, b"\xff"), 1007),
        (b"\x82\x7f" + (MAX_BODY_BYTES + 1).to_bytes(8), 1009),
        (GOOD * 3, 1008),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 1002),
    ],
    ids=["masked", "no text", "too big", "not asked for", "not a frame"],
)
def test_what_breaks_the_protocol_fails_what_is_due(bad: bytes, code: int) -> None:
    client = opened()
    client.request(3)
    assert list(client.feed(GOOD)) == [0]
    completed = list(client.feed(bad))
    assert client.failures == [(number, "protocol") for number in range(1 + len(completed), 3)]
    assert client.closing
    ((opcode, payload),) = sent(client.outgoing)
    assert (opcode, payload[:2]) == (CLOSE, code.to_bytes(2))


def test_nothing_is_given_up_on_without_the_connection() -> None:
    client = opened()
    client.request(1)
    assert not client.abandon(0)
    assert not client.feed_eof()


# Topics


def test_subscribers_get_events_whole() -> None:
    client = open_client(WebsocketSubscriber("news", "h:1", "http"))
    assert client.feed(encode_frame(FIN | TEXT, b"one") + encode_frame(TEXT, b"tw")) == [b"one"]
    assert client.feed(encode_frame(FIN | PING, b"?") + encode_frame(CONTINUATION, b"")) == []
    assert client.feed(encode_frame(FIN | CONTINUATION, b"o") + encode_frame(FIN | BINARY, b"")) == [b"two", b""]
    assert [payload for _, payload in sent(client.outgoing)] == [b"?"]
    with pytest.raises(ProtocolError):
        client.feed(b"\xff\xff")


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([b"", b"one", b"two" * 50]), max_size=6), st.lists(st.integers(0, 400), max_size=16))
def test_subscribers_of_one_topic_may_have_their_events_in_different_pieces(
    events: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(encode_frame(FIN | TEXT, event) + encode_frame(FIN | PING, b"?") for event in events)
    clients = [open_client(WebsocketSubscriber("news", "h:1", "http")) for _ in range(3)]
    taken: list[list[bytes]] = [[] for _ in clients]
    frames = [encode_frame(FIN | TEXT, event) for event in events]
    for number, pieces in enumerate((frames, frames, [stream[a:b] for a, b in pairwise([0, *sorted(cuts), None])])):
        for piece in pieces:
            taken[number] += clients[number].feed(piece)
    assert taken == [events] * 3


def test_a_publisher_counts_its_own_events_when_they_come_back() -> None:
    client = open_client(WebsocketPublisher("news", "h:1", "http"))
    assert sent(client.publish(b"mine 1") + client.publish(b"mine 2")) == [(TEXT, b"mine 1"), (TEXT, b"mine 2")]
    assert client.feed(encode_frame(FIN | TEXT, b"not mine")) == 0
    assert client.feed(b"".join(encode_frame(FIN | TEXT, event) for event in (b"mine 1", b"no", b"mine 2"))) == 2
    assert client.feed(encode_frame(FIN | TEXT, b"mine 2")) == 0
    assert client.feed_eof() == 0
    with pytest.raises(ProtocolError) as error:
        client.feed(encode_close(1009, "too long"))
    assert error.value.code == 1009


# Servers


@contextlib.contextmanager
def library_server(compression: str | None = None) -> Iterator[tuple[str, int]]:
    """An echo server of websockets."""

    def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    with serve_websockets(echo, "127.0.0.1", 0, compression=compression, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.socket.getsockname()
        try:
            yield host, port
        finally:
            server.shutdown()
            thread.join()


WANTED = [
    exchange(Operation.HEALTH),
    exchange(Operation.ECHO),
    ECHO,
    exchange(Operation.ECHO, 1000),
    exchange(Operation.BYTES, 70_000),
    exchange(Operation.BYTES, 1000, b=7),
    exchange(Operation.UPLOAD, 100_000),
    exchange(Operation.WORK, a=10, b=1),
]


@pytest.mark.parametrize("client", [WebsocketClient, CompressedWebsocketClient])
@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: f"{wanted.path} {len(wanted.body)}")
def test_exchanges_with_the_lean_server(serve: Serve, wanted: Exchange, client: type[WebsocketClient]) -> None:
    server = serve(protocol="websocket")
    with socket.create_connection((server.host, server.port)) as sock:
        outcome = drive(client(wanted, server.address, True), sock, total=100, in_flight=16)
    assert outcome.completed == list(range(100))
    assert not outcome.failures


@pytest.mark.parametrize("client", [WebsocketClient, CompressedWebsocketClient])
@pytest.mark.parametrize("size", [0, 64, 1000, 200_000])
def test_exchanges_with_a_server_of_websockets(client: type[WebsocketClient], size: int) -> None:
    wanted = exchange(Operation.ECHO, size)
    with (
        library_server("deflate" if client.offer else None) as address,
        socket.create_connection(address) as sock,
    ):
        outcome = drive(client(wanted, "x:1", True), sock, total=30, in_flight=4)
    assert outcome.completed == list(range(30))
    assert not outcome.failures


def test_the_largest_messages(serve: Serve) -> None:
    server = serve(protocol="websocket")
    for operation in (Operation.ECHO, Operation.BYTES):
        wanted = exchange(operation, MAX_BODY_BYTES)
        with socket.create_connection((server.host, server.port)) as sock:
            assert len(drive(WebsocketClient(wanted, server.address, True), sock, total=2).completed) == 2


def test_events_of_the_lean_server(serve: Serve) -> None:
    server = serve(protocol="websocket")

    async def exchange_events() -> None:
        subscriber, publisher = (
            made("t", server.address, "http") for made in (WebsocketSubscriber, WebsocketPublisher)
        )
        streams = []
        for client in (subscriber, publisher):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            streams.append((reader, writer))
            client.open()
            writer.writelines(client.outgoing)
            while not client.max_in_flight:
                client.feed(await reader.read(65536))
        events = [b"event %d" % number for number in range(100)]
        for event in events:
            streams[1][1].writelines(publisher.publish(event))
        got: list[bytes] = []
        while len(got) < len(events):
            got += subscriber.feed(await streams[0][0].read(65536))
        acknowledged = 0
        while acknowledged < len(events):
            acknowledged += publisher.feed(await streams[1][0].read(65536))
        assert got == events
        for _, writer in streams:
            writer.close()
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(exchange_events(), 20))


def test_frames_of_websockets_and_ours_are_the_same() -> None:
    assert Frame(Opcode.BINARY, ECHO.answer).serialize(mask=False) == GOOD
